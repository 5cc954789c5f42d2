"""What lowering asks of the target: numbers, never its name."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.base.cache_line import LINE
from sardonyx.base.dtypes import DType, bf16, f16, f32, f64
from sardonyx.base.symbolic import Dim, Int, evaluate, primitive

SYMBOLIC_ROWS = 8
"""Rows of a tile where only the run knows how many rows there are."""


@dataclass(frozen=True, slots=True)
class Machine:
    """lanes: f32 in a vector. shapes: (vectors per row, most rows) of a contraction tile, the preferred one first. l2: bytes of a
    core's L2 cache. way: bytes of one way of its L1 cache: lines of memory that lie a multiple of this apart compete for the `ways` lines
    of one set. typical, small: what a size that is not known is guessed to be. recompute_budget: operations worth doing twice to save memory.
    chunk: elements of a long vector loop that one thread takes at a time. fma: is a multiply-add one operation?
    winograd: may convolutions take fewer products? flops, bandwidth: of one core, for estimates: f32 operations and bytes from beyond its
    caches in a second; what counts is their ratio. converted: the floats of 16 bits or fewer
    that a tile converts as it reads them; products of others read wider copies.
    """

    lanes: int = 16
    shapes: tuple[tuple[int, int], ...] = ((3, 8), (2, 14), (4, 6), (1, 14))
    l2: int = 2 << 20
    way: int = 4096
    ways: int = 12
    typical: int = 256
    small: int = 32
    recompute_budget: int = 2
    chunk: int = 2048
    fma: bool = True
    winograd: bool = False
    flops: float = 150e9
    bandwidth: float = 12e9
    converted: frozenset[DType] = frozenset((f16, bf16))

    def feeds(self, dtype: DType) -> bool:
        """Can a tile read operands of this dtype?"""
        return dtype in (f32, f64) or dtype in self.converted

    def guess(self, e: Dim | None, size: int = 0) -> int:
        """e with unknown sizes at this value, their typical one if it is 0; 0 for None."""
        return 0 if e is None else evaluate(e, lambda s: size or self.typical)

    def spaced(self, n: Dim, dtype: DType) -> Dim:
        """The elements from one row of n to the next, so that a tile's rows don't share a set of the first cache."""
        clash = isinstance(n, int) and n > 0 and n * dtype.itemsize % (self.way // 4) == 0
        return n + LINE // dtype.itemsize if clash else n

    @property
    def rows_in_set(self) -> int:
        """Rows of A that a tile may read where all of them compete for one set of L1: the other third is left to B."""
        return max(2 * self.ways // 3, 1)

    def lanes_of(self, dtype: DType) -> int:
        return self.lanes * 32 // max(dtype.bits, 32)

    def vectors(self, columns: Dim, dtype: DType = f32) -> int:
        """Vectors per panel for a contraction of so many columns: the first shape that leaves no vector idle."""
        if not isinstance(columns, int):
            return self.shapes[0][0]
        needed = -(-columns // self.lanes_of(dtype))
        widths = [v for v, _ in self.shapes if needed % v == 0 and (v > 1 or needed == 1)]
        if widths:
            return widths[0]
        return needed if needed <= max(v for v, _ in self.shapes) else self.shapes[0][0]

    def tallest(self, vectors: int) -> int:
        """The most rows of a tile of so many vectors."""
        return dict(self.shapes).get(vectors, 4)

    def heights(self, rows: Dim, vectors: int, group: int = 1, clash: bool = False) -> int:
        """The tallest tile to use for so many rows, each of them `group` rows of the tile: as few and as equal tiles as the registers
        allow. clash: the rows of A compete for one set of L1."""
        most = max((min(self.tallest(vectors), self.rows_in_set) if clash else self.tallest(vectors)) // group, 1)
        if isinstance(rows, Int):
            whole = next(h for h in range(most, 0, -1) if primitive(rows)[0] % h == 0)  # no remainder, whatever the sizes
            return whole if whole >= min(most, SYMBOLIC_ROWS) else min(most, SYMBOLIC_ROWS)
        return -(-rows // -(-rows // most)) if rows else 1
