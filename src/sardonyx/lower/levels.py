"""Which segment a value can be computed in: those that need a size that data decide come after the segment that computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sardonyx.base.symbolic import Symbol, ground, symbols, value
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.tensor import Tensor
from sardonyx.lower.values import Value, reads_of


def mark_levels(values: Mapping[Tensor, Value], probes: Sequence[DataSymbol]) -> None:
    """Sets each value's `level`: that of what it is made of, and one more than that of what decides its sizes."""
    moving = bool(probes)
    while moving:  # more than once only for the state of loops
        moving = False
        for v in sorted(values.values(), key=lambda v: v.id):
            level = min(level_of(v, values), len(probes))
            moving |= level > v.level
            v.level = level
            if v.into is not None:
                whole = values[v.into[0]]
                moving |= level > whole.level
                whole.level = max(level, whole.level)


def level_of(v: Value, values: Mapping[Tensor, Value]) -> int:
    made_of = [r.tensor for r in reads_of(v)] + list(v.tensor.call.inputs if v.tensor.call else ())
    if v.tensor.region is not None:
        made_of += [c.state for c in v.tensor.region.carried]
    level = max((values[t].level for t in made_of if t in values), default=0)
    for s in sizes_of(v):
        if isinstance(s, DataSymbol) and s.tensor in values:
            level = max(level, values[s.tensor].level + 1)
    return max(level, v.level)


def sizes_of(v: Value) -> frozenset[Symbol]:
    """The sizes that v's shape and body name, and those of the loops it stands in."""
    found = frozenset().union(*map(symbols, v.shape), *map(symbols, v.into[1] if v.into else ()))
    found |= v.body.symbols if v.body is not None else frozenset()
    found |= frozenset().union(*map(symbols, v.tensor.call.sizes)) if v.tensor.call else frozenset()
    found |= frozenset().union(*(symbols(s.extent) for s in (*found, *v.loops) if s.extent is not None))
    regions = (*v.region, *((v.tensor.region,) if v.tensor.region is not None else ()))
    return frozenset().union(*(ground(value(s)) for s in found), *(ground(r.trip) for r in regions))
