"""The numbers that lowering needs to know about the target. Lowering never asks for the target's name."""

from __future__ import annotations

from msgspec import Struct

from sardonyx.base.cache_line import LINE
from sardonyx.base.dtypes import DType, bf16, f16, f32, f64
from sardonyx.base.symbolic import Dim, Int, evaluate, primitive
from sardonyx.loop.groups import Group

SYMBOLIC_ROWS = 8
"""Rows of a tile where the number of rows is known only at run time."""


class Machine(Struct, frozen=True):
    """The target as numbers.

    lanes             f32 elements in a vector
    shapes            shapes of contraction tiles, (vectors per row, most rows), the preferred one first
    l2                bytes of a core's L2 cache
    way, ways         bytes of one way of its L1 cache, and the number of ways: addresses that differ by a multiple of `way` share a
                      set, which holds `ways` lines
    typical, small    guesses for sizes that are known only at run time
    recompute_budget  operations worth doing twice to save memory traffic
    chunk             elements of a long vector loop that one thread takes at a time
    fma               True if a multiply-add is one instruction
    winograd          True if convolutions may use Winograd's algorithm
    integer_sums      True if sums of products of dequantised numbers may be computed in integers
    flops, bandwidth  of one core: f32 operations, and bytes from beyond its caches, per second; only their ratio matters
    converted         narrow floats that a tile widens as it reads them; contractions of others read widened copies
    groups            neighbours along k that a tile of integers multiplies in one instruction, the preferred ones first
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
    integer_sums: bool = True
    flops: float = 150e9
    bandwidth: float = 12e9
    converted: frozenset[DType] = frozenset((f16, bf16))
    groups: tuple[Group, ...] = ()

    def feeds(self, dtype: DType) -> bool:
        """Tell whether a tile can read operands of this dtype."""
        return dtype in (f32, f64) or dtype in self.converted

    def group(self, a: DType, b: DType) -> Group | None:
        """Return the group in which a tile multiplies integers of these dtypes; None if they make no tile."""
        return next((g for g in self.groups if g.holds(a, b)), None)

    def guess(self, e: Dim | None, size: int = 0) -> int:
        """Evaluate e with `size` for each unknown size, or their typical value if size is 0. Returns 0 for None."""
        return 0 if e is None else evaluate(e, lambda s: size or self.typical)

    def spaced(self, n: Dim, dtype: DType) -> Dim:
        """Return the distance between rows of n elements: n, or n plus one cache line if a tile's rows would otherwise share
        a set of L1."""
        clash = isinstance(n, int) and n > 0 and n * dtype.itemsize % (self.way // 4) == 0
        return n + LINE // dtype.itemsize if clash else n

    @property
    def rows_in_set(self) -> int:
        """The number of rows of A that a tile may read where all of them map to one set of L1: two thirds of the ways; B
        needs the rest."""
        return max(2 * self.ways // 3, 1)

    def lanes_of(self, dtype: DType) -> int:
        """Return the elements of this dtype in a vector; types narrower than 32 bits are widened."""
        return self.lanes * 32 // max(dtype.bits, 32)

    def vectors(self, columns: Dim, dtype: DType = f32) -> int:
        """Return the width of a panel in vectors, for a contraction with this number of columns.

        The first shape of tile is taken that leaves no vector of the last panel idle.
        """
        if not isinstance(columns, int):
            return self.shapes[0][0]
        needed = -(-columns // self.lanes_of(dtype))
        widths = [v for v, _ in self.shapes if needed % v == 0 and (v > 1 or needed == 1)]
        if widths:
            return widths[0]
        return needed if needed <= max(v for v, _ in self.shapes) else self.shapes[0][0]

    def tallest(self, vectors: int) -> int:
        """Return the most rows that a tile of this width in vectors may have."""
        return dict(self.shapes).get(vectors, 4)

    def heights(self, rows: Dim, vectors: int, group: int = 1, clash: bool = False) -> int:
        """Return the height of the tallest tile to use. It divides the rows into few tiles of nearly equal height.

        group: the rows of the tile that each of the rows takes.
        clash: the rows of A share a set of L1, which limits the height.
        """
        most = max((min(self.tallest(vectors), self.rows_in_set) if clash else self.tallest(vectors)) // group, 1)
        if isinstance(rows, Int):
            whole = next(h for h in range(most, 0, -1) if primitive(rows)[0] % h == 0)  # divides the rows for all sizes
            return whole if whole >= min(most, SYMBOLIC_ROWS) else min(most, SYMBOLIC_ROWS)
        return -(-rows // -(-rows // most)) if rows else 1
