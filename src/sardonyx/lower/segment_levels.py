"""Assign each value to the first segment in which it can be computed: after the segment that computes its data-dependent
sizes.

A repeated body runs in one segment. All values in it wait for everything that any of them needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sardonyx.expr.known import DataSymbol
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.lower.values import Value, depends_on, reads_of


def mark_levels(values: Mapping[Tensor, Value], readbacks: Sequence[DataSymbol]) -> None:
    """Set the `level` of each value: at least those of its operands, and one more than those of the tensors that decide its
    sizes."""
    bodies: dict[Region, int] = {}
    moving = bool(readbacks)
    while moving:  # a second pass is needed only for repeated bodies
        moving = False
        for v in sorted(values.values(), key=lambda v: v.id):
            level = min(max(level_of(v, values), *(bodies.get(r, 0) for r in v.region), 0), len(readbacks))
            moving |= level > v.level
            v.level = level
            for r in v.region:
                moving |= level > bodies.get(r, 0)
                bodies[r] = max(level, bodies.get(r, 0))
            if v.into is not None:
                whole = values[v.into[0]]
                moving |= level > whole.level
                whole.level = max(level, whole.level)


def level_of(v: Value, values: Mapping[Tensor, Value]) -> int:
    """Return v's level, from the present levels of the values that it depends on."""
    made_of = [r.tensor for r in reads_of(v)] + list(v.tensor.call.inputs if v.tensor.call else ())
    made_of += [r.flag for r in v.region if r.flag is not None]
    level = max((values[t].level for t in made_of if t in values), default=0)
    for s in depends_on(v):
        if isinstance(s, DataSymbol) and s.tensor in values:
            level = max(level, values[s.tensor].level + 1)
    return max(level, v.level)
