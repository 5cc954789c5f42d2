"""What lowering asks of the target: numbers, never its name."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.base.symbolic import Dim, evaluate


@dataclass(frozen=True, slots=True)
class Machine:
    """lanes: f32 in a vector. registers: vector registers. l2: bytes of a core's L2 cache.

    typical: what a size that is not known is guessed to be. spare: operations worth doing twice to save memory.
    """

    lanes: int = 16
    registers: int = 32
    l2: int = 2 << 20
    typical: int = 256
    spare: int = 2
    chunk: int = 2048

    def guess(self, e: Dim) -> int:
        """e with unknown sizes at their typical value."""
        return evaluate(e, lambda s: self.typical)

    def vectors(self, columns: Dim) -> int:
        """Vectors per panel for a contraction of so many columns."""
        if not isinstance(columns, int):
            return 2
        needed = -(-columns // self.lanes)
        for vectors in (3, 2, 4) if needed > 4 else (needed,):
            if needed % vectors == 0:
                return vectors
        return 3

    def most_rows(self, vectors: int) -> int:
        """The tallest tile of so many vectors: rows x vectors + vectors + 1 registers, at most."""
        return max(1, (self.registers - 1 - vectors) // vectors)

    def heights(self, rows: Dim, vectors: int) -> int:
        """The tallest tile to use for so many rows: as few and as equal tiles as the registers allow."""
        most = min(self.most_rows(vectors), 14)
        if not isinstance(rows, int):
            return min(most, 8)
        if rows == 0:
            return 1
        return -(-rows // -(-rows // most))
