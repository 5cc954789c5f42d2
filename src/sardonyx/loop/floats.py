"""Building blocks of the functions: the layouts of f32 and f64, powers of two from bits, sums and products with their
rounding errors."""

from __future__ import annotations

from msgspec import Struct

from sardonyx.base.dtypes import DType, f32, f64, i32, i64
from sardonyx.loop.values import Operand, Value, fma

INFINITY = float("inf")
NAN = float("nan")


class Format(Struct, frozen=True):
    """A binary float: `fraction` stored bits of mantissa, exponent field `bias` for 1.0; `integer` is the integer type of its
    width."""

    dtype: DType
    integer: DType
    fraction: int
    bias: int

    @property
    def rounder(self) -> float:
        """The number for which x + rounder has the nearest integer to x in its low bits, for |x| < 2^(fraction - 1)."""
        return 1.5 * 2.0**self.fraction

    @property
    def smallest(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {f32: Format(f32, i32, 23, 127), f64: Format(f64, i64, 52, 1023)}


def format_of(x: Value) -> Format:
    """Return the format of x."""
    return FORMATS[x.dtype]


def power_of_two(field: Value, dtype: DType) -> Value:
    """Return 2^(e - bias) for an integer whose low bits are e, 0 < e < 2 bias.

    Higher bits are shifted out, provided that the bit next to the exponent's is 0.
    """
    return (field << FORMATS[dtype].fraction).bits(dtype)


def two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """Return a + b rounded, and the rounding error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def ordered_sum(a: Operand, b: Value) -> tuple[Value, Value]:
    """Return a + b rounded, and the rounding error, for |a| >= |b| or a = 0."""
    total = b + a
    return total, b - (total - a)


def two_product(a: Value, b: Value) -> tuple[Value, Value]:
    """Return a * b rounded, and the rounding error."""
    product = a * b
    return product, fma(a, b, -product)
