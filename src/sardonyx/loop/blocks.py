"""Long sums in blocks: the error of a sum grows with the number of terms that are added up one after the other.

    for k < n: total += x[k]                                     error up to n roundings
    for each block: for k in the block: part += x[k]             error up to BLOCK + n / BLOCK roundings
                    total += part

Blocks follow from the extents of the loops alone, so that the bits are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sardonyx.base.symbolic import Dim

BLOCK = 256
"""Terms that are added up one after the other, at most. Sums of more blocks than that grow again, at a 256th of the rate."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The loop at `depth` runs in blocks of `iterations`, each with all iterations of the loops inside. even: are all blocks whole?"""

    depth: int
    iterations: int
    even: bool


def find_blocks(extents: Sequence[Dim | None], most: int, multiple: int = 1) -> Blocks | None:
    """Blocks of at most `most` iterations of all loops (extents: outermost first), as equal as can be; None where one block is all.

    An extent that is not a number (None, a formula) may be of any size. multiple: of the innermost loop's iterations that a block has,
    if that one is divided, rounded up.
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
