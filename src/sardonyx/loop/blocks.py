"""Long sums in blocks, because the rounding error of a sum grows with the number of terms that are added one after the other.

    for k < n: total += x[k]                                     error up to n roundings
    for each block: for k in the block: part += x[k]             error up to BLOCK + n / BLOCK roundings
                    total += part

Blocks depend on the extents of the loops alone, so that the bits are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sardonyx.base.symbolic import Dim

BLOCK = 256
"""Terms of a block, at most. With more than BLOCK blocks the error grows further, but 256 times more slowly than without
blocks."""


class Blocks(Struct, frozen=True):
    """A partition of nested loops into blocks: `iterations` of the loop at `depth`, each with all iterations of the loops
    inside it.

    even: True if all blocks have equally many iterations.
    """

    depth: int
    iterations: int
    even: bool


def find_blocks(extents: Sequence[Dim | None], most: int, multiple: int = 1) -> Blocks | None:
    """Choose blocks of nearly equal size, of at most `most` iterations of all loops together. None if one block suffices.

    extents: outermost first; one that is None or a formula may have any value. multiple: if the innermost loop is divided,
    its blocks are rounded up to a multiple of so many iterations.
    """
    depth, inside = len(extents) - 1, 1
    while depth > 0 and isinstance(n := extents[depth], int) and n * inside <= most:
        depth, inside = depth - 1, n * inside
    if depth < 0:
        return None
    iterations, n = max(most // max(inside, 1), 1), extents[depth]
    if depth == 0 and isinstance(n, int) and n <= iterations:
        return None
    if isinstance(n, int) and n > 0:
        iterations = -(-n // -(-n // iterations))
    if depth == len(extents) - 1:
        iterations += -iterations % multiple
    return Blocks(depth, iterations, isinstance(n, int) and n % iterations == 0)
