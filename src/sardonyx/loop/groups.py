"""Groups of neighbours along k that one instruction multiplies pair by pair and adds up: the elements of narrow tiles."""

from __future__ import annotations

from msgspec import Struct

from sardonyx.base.dtypes import DType, i8, i16, u8


class Group(Struct, frozen=True):
    """`count` elements of dtype a times as many of dtype b, summed exactly in i32."""

    a: DType
    b: DType
    count: int

    def holds(self, a: DType, b: DType) -> bool:
        """Tell whether operands of dtypes a and b convert to the group's dtypes without loss."""
        return fits(a, self.a) and fits(b, self.b)


QUADS = Group(u8, i8, 4)
"""VNNI's vpdpbusd."""
PAIRS = Group(i16, i16, 2)
"""pmaddwd, which SSE2 has already. Products of bytes are exact in it."""


def fits(source: DType, target: DType) -> bool:
    """Tell whether an integer dtype can represent all numbers of another one."""
    signed = target.kind == "int"
    if source.kind == target.kind:
        return source.bits <= target.bits
    return signed and source.bits < target.bits
