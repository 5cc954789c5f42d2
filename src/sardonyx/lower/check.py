"""Lowering looks at its own products between stages: what is wrong fails here, by name, and not as wrong numbers or deep inside code.

    check_values    before values are placed: what each one reads is there, and its loops are bound
    check_nests     after: each statement and what it reads has a place that holds it, in a body around it or the same; its loops are bound
                    by itself or the band
    check_calls     each kernel is given all of its buffers, of its dtypes, and all of its sizes

What comes after, the program's order and what is known when, is checked in verify.

A loop is *bound* where it is one of a value's own, one of its nest's band, or the counter of a repeated body that it stands in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from sardonyx.base.symbolic import Symbol, symbols
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.lower.place import Nest
from sardonyx.lower.schedule import Call
from sardonyx.lower.values import Value, reads_of
from sardonyx.lower.verify import LoweringError

Values: TypeAlias = Mapping[Tensor, Value]
IN_MEMORY = frozenset({"ROOT", "ROW", "TILE", "WHOLE"})
"""Places of values that statements read; those without a place come from outside."""


def fault(stage: str, t: Tensor, reason: str) -> LoweringError:
    return LoweringError(f"{t.origin or t.name}: after {stage}: {reason}")


# ---- values -------------------------------------------------------------------------------------------------------------


def check_values(values: Values, stage: str) -> None:
    """Raises LoweringError. Values that nobody reads may stand anywhere: they are never placed."""
    read: dict[Tensor, None] = {}
    for t, v in values.items():
        for r in reads_of(v):
            if r.tensor not in values:
                raise fault(stage, t, f"reads {r.tensor}, which is not there")
            read[r.tensor] = None
    ends = iterations_done(values)
    for t in read:
        v = values[t]
        if v.body is not None and v.place not in ("VIEW", "INLINE") and (loose := unbound(v, counters(v.region) | ends)):
            raise fault(stage, t, f"nothing binds the loop {loose}")


def iterations_done(values: Values) -> frozenset[Symbol]:
    """The numbers of turns that repeated bodies have taken when they end, which later values read."""
    regions = {r for t in values if t.region is not None for r in t.region.both}
    return frozenset(r.done for r in regions if r.done is not None)


def counters(regions: Iterable[Region]) -> frozenset[Symbol]:
    return frozenset(r.step for r in regions)


def unbound(v: Value, bound: frozenset[Symbol]) -> Symbol | None:
    """A loop that v's body, guard, or place in a whole moves with, and that is not bound."""
    assert v.body is not None
    used = v.body.symbols
    if v.guard is not None:
        used |= v.guard.symbols
    if v.into is not None:
        used = used.union(*map(symbols, v.into[1]))
    return min((s for s in used.difference(bound, v.loops, *map(symbols, v.axes)) if s.extent is not None), default=None)


# ---- nests --------------------------------------------------------------------------------------------------------------


def check_nests(nests: Sequence[Nest], values: Values) -> None:
    """Raises LoweringError."""
    ends, stage = iterations_done(values), "values were placed"
    for nest in nests:
        statements = [nest.root, *nest.members]
        bound = ends.union(nest.band, counters(nest.root.region))
        for v in [*statements, *(v.tile for v in statements if v.tile is not None)]:
            if v.place not in IN_MEMORY:
                raise fault(stage, v.tensor, f"a statement is placed {v.place}")
            if v.region != nest.root.region:
                raise fault(stage, v.tensor, f"stands in the nest of {nest.root}, but in another repeated body")
            if loose := unbound(v, bound):
                raise fault(stage, v.tensor, f"nothing binds the loop {loose}")
            for r in reads_of(v):
                source = values.get(r.tensor)
                if source is None or (source.place not in IN_MEMORY and source.body is not None):
                    where = "is not there" if source is None else f"is placed {source.place}"
                    raise fault(stage, v.tensor, f"reads {r.tensor}, which {where}")
                if source.region and source.region != v.region[: len(source.region)]:
                    raise fault(stage, v.tensor, f"reads {r.tensor} from outside of the body in which it is computed")


# ---- calls --------------------------------------------------------------------------------------------------------------


def check_calls(calls: Iterable[Call]) -> None:
    """Raises LoweringError for a kernel that is not given what it takes."""
    stage = "kernels were built"
    for call in calls:
        first, kernel = min(call.writes, key=lambda t: t.id), call.kernel
        if len(call.arguments) != len(kernel.buffers) or len(call.sizes) != len(kernel.sizes):
            raise fault(stage, first, f"{kernel.name} takes {len(kernel.buffers)} buffers and {len(kernel.sizes)} sizes")
        for t, buffer in zip(call.arguments, kernel.buffers, strict=True):
            if t.dtype is not buffer.dtype:
                raise fault(stage, first, f"{t} stands for {buffer.dtype} {buffer.name}")
