"""Build sums of floats in blocks (see loop.blocks): the bounds of the loops, and Reduce expressions over blocks.

Reduce(k < n, x[k])
-> Reduce(block < ceil(n / size), Reduce(k < min(size, n - block * size), x[block * size + k]))
"""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.base.symbolic import Dim, Symbol, ceil_divide, minimum, value
from sardonyx.loop.blocks import Blocks, find_blocks
from sardonyx.loop.nodes import Expr, Kind, Reduce, replace
from sardonyx.lower.values import extent

UNROLLED = 4
"""Vectors that code generation adds up in separate accumulators."""


def adds_floats(fn: str | None, x: Expr) -> bool:
    """Tell whether fn is a sum of floats, so that rounding errors accumulate."""
    return fn == "add" and x.dtype.is_float


def bounds(s: Symbol, blocks: Blocks) -> tuple[Dim, Dim, tuple[Symbol, Dim, Dim]]:
    """Return (the start of a block of loop s, its end, (the loop over blocks, its lower bound, its upper bound))."""
    n = extent(s)
    block = Symbol(f"{s.name}.block", ceil_divide(n, blocks.iterations))
    lo = value(block) * blocks.iterations
    return lo, lo + blocks.iterations if blocks.even else minimum(lo + blocks.iterations, n), (block, 0, extent(block))


def reduce_in_blocks(fn: str, loops: Sequence[tuple[Symbol, Kind]], x: Expr, most: int, multiple: int = 1) -> Expr:
    """Reduce x over the loops, outermost first. A sum of floats becomes a Reduce over blocks of at most `most` terms, each a
    Reduce itself."""
    blocks = find_blocks([extent(s) for s, _ in loops], most, multiple) if adds_floats(fn, x) else None
    if blocks is None:
        return Reduce(fn, tuple(loops), x)
    s, kind = loops[blocks.depth]
    lo, hi, (block, _, _) = bounds(s, blocks)
    inside = Symbol(f"{s.name}.inside", hi - lo)
    part = Reduce(fn, ((inside, kind), *loops[blocks.depth + 1 :]), replace(x, {s: lo + value(inside)}))
    return Reduce(fn, (*loops[: blocks.depth], (block, "serial")), part)
