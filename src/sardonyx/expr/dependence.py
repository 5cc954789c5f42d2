"""Collect what a tensor depends on: the sizes, and the iteration counters of repeated bodies, that its definition names.

A definition names the symbols in its shape, its expression, the extents of its reduction's loops, the sizes of its
hand-written kernel, its position in the tensor that it is a part of, and the trip count of the body whose result it is. A
tensor depends on what its definition names, on what the extents of those symbols name, and on what defined sizes stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sardonyx.base.symbolic import Defined, Dim, Symbol, symbols
from sardonyx.expr.tensor import KernelCall, Tensor
from sardonyx.loop.nodes import Expr, dim_elements, walk

Into = tuple[Tensor, tuple[Dim, ...]]


def depends_on(t: Tensor) -> frozenset[Symbol]:
    """Collect the sizes, iteration counters and loop variables that t depends on, t's own loop variables included."""
    found = named(t.shape, t.body, t.loops, t.into, t.call)
    if t.region is not None:
        found = found.union(*(symbols(r.trip) for r in t.region.both))
    return closure(found)


def named(
    shape: Sequence[Dim], body: Expr | None, loops: Sequence[Symbol], into: Into | None, call: KernelCall | None
) -> frozenset[Symbol]:
    """Collect the symbols that a definition names."""
    found = frozenset(loops).union(*map(symbols, shape))
    if body is not None:
        found |= body.symbols
    if into is not None:
        found = found.union(*map(symbols, into[1]))
    if call is not None:
        found = found.union(*map(symbols, call.sizes))
    return found


def closure(found: Iterable[Symbol]) -> frozenset[Symbol]:
    """Add everything that the symbols' extents and definitions name; defined sizes are replaced by the sizes that they stand
    for."""
    out: set[Symbol] = set()
    seen: set[Symbol] = set()
    waiting = list(found)
    while waiting:
        s = waiting.pop()
        if s in seen:
            continue
        seen.add(s)
        if isinstance(s, Defined):
            waiting += s.definition.symbols
            continue
        out.add(s)
        if s.extent is not None:
            waiting += symbols(s.extent)
    return frozenset(out)


def can_fail(t: Tensor) -> bool:
    """Tell whether computing t may end the run with an error. If so, t may not be moved out of a body that possibly never
    runs."""
    if t.call is not None:
        return bool(t.call.checks)
    return t.body is not None and any(dim_elements(d) for n in walk(t.body) for d in n.dims)
