"""Words that the functions share: the layout of f32 and f64, powers of two made of bits, sums and products in two parts."""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.base.dtypes import DType, f32, f64, i32, i64
from sardonyx.loop.values import Operand, Value, fma

INFINITY = float("inf")
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Format:
    """A binary float: `fraction` bits of mantissa are stored; 1.0 has the exponent field `bias`; `integer` is as wide."""

    dtype: DType
    integer: DType
    fraction: int
    bias: int

    @property
    def rounder(self) -> float:
        """x + rounder has the nearest integer to x in its low bits, for |x| < 2^(fraction - 1)."""
        return 1.5 * 2.0**self.fraction

    @property
    def smallest(self) -> float:
        """The least normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {f32: Format(f32, i32, 23, 127), f64: Format(f64, i64, 52, 1023)}


def format_of(x: Value) -> Format:
    return FORMATS[x.dtype]


def power_of_two(field: Value, dtype: DType) -> Value:
    """2^(e - bias) from an integer whose low bits are e, for 0 < e < 2 bias; the bits above those of an exponent fall away if the bit
    next to them is 0."""
    return (field << FORMATS[dtype].fraction).bits(dtype)


def two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b rounded, and what rounding lost."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def ordered_sum(a: Operand, b: Value) -> tuple[Value, Value]:
    """As `two_sum`, for |a| >= |b| or a = 0."""
    total = b + a
    return total, b - (total - a)


def two_product(a: Value, b: Value) -> tuple[Value, Value]:
    """a * b rounded, and what rounding lost."""
    product = a * b
    return product, fma(a, b, -product)
