"""What a tensor depends on, in one place for all who ask: which sizes and which iterations of repeated bodies its definition names.

A definition names a symbol in the shape, in the expression, in the extent of a loop that is reduced over, in the sizes of a
hand-written kernel, in the place it takes in a whole, and in the number of iterations of the body whose result it is. It depends on what
it names, on what the extents of that name, and on what defined sizes stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sardonyx.base.symbolic import Defined, Dim, Symbol, symbols
from sardonyx.expr.tensor import KernelCall, Tensor
from sardonyx.loop.nodes import Expr, dim_elements, walk

Into = tuple[Tensor, tuple[Dim, ...]]


def depends_on(t: Tensor) -> frozenset[Symbol]:
    """Sizes, counters of iterations and loop variables, its own too."""
    found = named(t.shape, t.body, t.loops, t.into, t.call)
    if t.region is not None:
        found = found.union(*(symbols(r.trip) for r in t.region.both))
    return closure(found)


def named(
    shape: Sequence[Dim], body: Expr | None, loops: Sequence[Symbol], into: Into | None, call: KernelCall | None
) -> frozenset[Symbol]:
    """The symbols that a definition names."""
    found = frozenset(loops).union(*map(symbols, shape))
    if body is not None:
        found |= body.symbols
    if into is not None:
        found = found.union(*map(symbols, into[1]))
    if call is not None:
        found = found.union(*map(symbols, call.sizes))
    return found


def closure(found: Iterable[Symbol]) -> frozenset[Symbol]:
    """The symbols with all that their extents and definitions name; defined sizes are replaced by what they stand for."""
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
    """May computing it end the run with an error? Then it is not computed before a body that may not run at all."""
    if t.call is not None:
        return bool(t.call.checks)
    return t.body is not None and any(dim_elements(d) for n in walk(t.body) for d in n.dims)
