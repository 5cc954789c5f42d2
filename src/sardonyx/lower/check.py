"""Check the values, nests and calls between the stages of lowering, so that a fault is reported here with the node's name,
and does not show as wrong numbers later.

    check_values    before values are placed: every tensor that is read exists, and every loop is bound
    check_nests     after: each statement, and each tensor that it reads, is stored, and in the same repeated body or one around it;
                    every loop is bound
    check_calls     each kernel gets all its buffers, in their dtypes, and all its sizes

lower.verify checks the order of the program and which sizes are known when.

A loop is *bound* if it is one of the value's own, one of its nest's band, or the counter of a repeated body around it.
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
"""Places of values that statements can read. Values without a body come from outside and need no place."""


def fault(stage: str, t: Tensor, reason: str) -> LoweringError:
    """Return the error for a fault in tensor t after this stage."""
    return LoweringError(f"{t.origin or t.name}: after {stage}: {reason}")


# ---- values -------------------------------------------------------------------------------------------------------------


def check_values(values: Values, stage: str) -> None:
    """Raise LoweringError for a value that reads a missing tensor or has an unbound loop. Values that nobody reads are never
    placed: they may have unbound loops."""
    read: dict[Tensor, None] = {}
    for t, v in values.items():
        for r in reads_of(v):
            if r.tensor not in values:
                raise fault(stage, t, f"reads {r.tensor}, which does not exist")
            read[r.tensor] = None
    ends = iterations_done(values)
    for t in read:
        v = values[t]
        if v.body is not None and v.place not in ("VIEW", "INLINE") and (loose := unbound(v, counters(v.region) | ends)):
            raise fault(stage, t, f"no loop binds {loose}")


def iterations_done(values: Values) -> frozenset[Symbol]:
    """Collect the symbols for the numbers of iterations that repeated bodies have run, which later values may name."""
    regions = {r for t in values if t.region is not None for r in t.region.both}
    return frozenset(r.done for r in regions if r.done is not None)


def counters(regions: Iterable[Region]) -> frozenset[Symbol]:
    """Collect the iteration counters of these regions."""
    return frozenset(r.step for r in regions)


def unbound(v: Value, bound: frozenset[Symbol]) -> Symbol | None:
    """Return a loop in v's body, guard, or place in another tensor that is neither v's own nor in `bound`; None if there is
    none."""
    assert v.body is not None
    used = v.body.symbols
    if v.guard is not None:
        used |= v.guard.symbols
    if v.into is not None:
        used = used.union(*map(symbols, v.into[1]))
    return min((s for s in used.difference(bound, v.loops, *map(symbols, v.axes)) if s.extent is not None), default=None)


# ---- nests --------------------------------------------------------------------------------------------------------------


def check_nests(nests: Sequence[Nest], values: Values) -> None:
    """Raise LoweringError for a statement or read that is not stored, lies in another repeated body, or has an unbound loop."""
    ends, stage = iterations_done(values), "values were placed"
    for nest in nests:
        statements = [nest.root, *nest.members]
        bound = ends.union(nest.band, counters(nest.root.region))
        for v in [*statements, *(v.tile for v in statements if v.tile is not None)]:
            if v.place not in IN_MEMORY:
                raise fault(stage, v.tensor, f"a statement is placed {v.place}")
            if v.region != nest.root.region:
                raise fault(stage, v.tensor, f"is in the nest of {nest.root}, but in another repeated body")
            if loose := unbound(v, bound):
                raise fault(stage, v.tensor, f"no loop binds {loose}")
            for r in reads_of(v):
                source = values.get(r.tensor)
                if source is None or (source.place not in IN_MEMORY and source.body is not None):
                    where = "does not exist" if source is None else f"is placed {source.place}"
                    raise fault(stage, v.tensor, f"reads {r.tensor}, which {where}")
                if source.region and source.region != v.region[: len(source.region)]:
                    raise fault(stage, v.tensor, f"reads {r.tensor} from outside of the body in which it is computed")


# ---- calls --------------------------------------------------------------------------------------------------------------


def check_calls(calls: Iterable[Call]) -> None:
    """Raise LoweringError for a call whose arguments or sizes do not match its kernel's parameters."""
    stage = "kernels were built"
    for call in calls:
        first, kernel = min(call.writes, key=lambda t: t.id), call.kernel
        if len(call.arguments) != len(kernel.buffers) or len(call.sizes) != len(kernel.sizes):
            raise fault(stage, first, f"{kernel.name} takes {len(kernel.buffers)} buffers and {len(kernel.sizes)} sizes")
        for t, buffer in zip(call.arguments, kernel.buffers, strict=True):
            if t.dtype is not buffer.dtype:
                raise fault(stage, first, f"{t} is passed for the {buffer.dtype} buffer {buffer.name}")
