"""Casts from and to narrow types in integer operations, for targets without instructions for them.

    narrow -> f32      shift exponent and mantissa into place, multiply by 2^(127 - bias): exact, subnormals included
    f32 -> narrow      round to nearest, ties to even, by an addition below the last bit kept; subnormals by adding the float whose last
                       bit is the smallest subnormal
    f64 -> narrow      by way of an f32 rounded to odd, so that nothing is rounded twice
    integers, bool     by way of f32 (floats) or i32 (4- and 2-bit integers)

Layouts and limits: the ONNX Cast operator; OCP 8-bit floating point and microscaling formats; IEEE 754.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from sardonyx.base import dtypes
from sardonyx.base.dtypes import DType, f8e8m0, f32, f64, i32, u4, u8, u16, u32
from sardonyx.loop.nodes import Expr
from sardonyx.loop.values import Value, constant, op, where

Native: TypeAlias = Callable[[DType, DType], bool]  # True if the target can cast from the first to the second
RoundMode: TypeAlias = Literal["up", "down", "nearest"]

F32_FRACTION, F32_BIAS = 23, 127
F32_INFINITY, F32_NAN = 0x7F800000, 0x7FC00000


class Narrow(Struct, frozen=True):
    """The format of a float of 16 bits or fewer.

    storage        the unsigned integer of its width
    fraction, bias  bits of its mantissa, bias of its exponent
    greatest       code of the largest finite magnitude
    overflow, nan  codes for overflow without saturation, and for NaN
    saturates      True if Cast saturates by default
    unsigned_zero  True if there is no -0, and that code is the NaN (the fnuz types)
    """

    storage: DType
    fraction: int
    bias: int
    greatest: int
    overflow: int
    nan: int
    saturates: bool = True
    unsigned_zero: bool = False

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.storage.bits - 1)


NARROW = {
    dtypes.f16: Narrow(u16, 10, 15, 0x7BFF, 0x7C00, 0x7E00, saturates=False),
    dtypes.bf16: Narrow(u16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0, saturates=False),
    dtypes.f8e4m3fn: Narrow(u8, 3, 7, 0x7E, 0x7F, 0x7F),
    dtypes.f8e4m3fnuz: Narrow(u8, 3, 8, 0x7F, 0x80, 0x80, unsigned_zero=True),
    dtypes.f8e5m2: Narrow(u8, 2, 15, 0x7B, 0x7C, 0x7E),
    dtypes.f8e5m2fnuz: Narrow(u8, 2, 16, 0x7F, 0x80, 0x80, unsigned_zero=True),
    dtypes.f4e2m1: Narrow(u4, 1, 1, 0x7, 0x7, 0x0),
}


def convert(x: Expr, dtype: DType, native: Native) -> Expr:
    """Build Cast(x, dtype) from native casts, to f32 or between numbers of 8 bits or more, and integer operations."""
    v = Value(x)
    if v.dtype is dtype or not (is_narrow(v.dtype) or is_narrow(dtype)):
        return v.cast(dtype).expr
    if native(v.dtype, dtype) and not (dtype.bits < 8 and v.dtype.is_float):
        return v.cast(dtype).expr
    if is_narrow_float(v.dtype):
        return convert(widen(v, native).expr, dtype, native)
    if is_narrow_float(dtype):
        return narrow(v, dtype).expr
    return v.cast(i32).cast(dtype).expr


def is_narrow(dtype: DType) -> bool:
    """Tell whether the dtype is a narrow float or has fewer than 8 bits."""
    return is_narrow_float(dtype) or dtype.bits < 8


def is_narrow_float(dtype: DType) -> bool:
    """Tell whether the dtype is a float of 16 bits or fewer."""
    return dtype in NARROW or dtype is f8e8m0


def widen(x: Value, native: Native) -> Value:
    """Convert a narrow float to f32, exactly."""
    if native(x.dtype, f32):
        return x.cast(f32)
    if x.dtype is f8e8m0:
        return widen_e8m0(x.bits(u8).cast(u32))
    k = NARROW[x.dtype]
    code = x.bits(k.storage).cast(u32)
    if k.bias == F32_BIAS:
        return (code << (32 - k.storage.bits)).bits(f32)
    magnitude = code & (k.sign - 1)
    bits = ((magnitude << (F32_FRACTION - k.fraction)).bits(f32) * 2.0 ** (F32_BIAS - k.bias)).bits(u32)
    if k.unsigned_zero:
        special = where(code == k.nan, constant(F32_NAN, u32), bits)
    elif k.greatest == k.overflow:
        special = bits
    elif k.overflow == k.nan:
        special = where(magnitude > k.greatest, constant(F32_NAN, u32), bits)
    else:
        special = where(magnitude > k.greatest, bits | F32_INFINITY, bits)
    return (special | ((code & k.sign) << (32 - k.storage.bits))).bits(f32)


def narrow(x: Value, dtype: DType, saturate: bool = True, round_mode: RoundMode = "up") -> Value:
    """Build ONNX's Cast of a number to a float of 16 bits or fewer, with its attributes (round_mode: f8e8m0 only)."""
    x = to_odd(x) if x.dtype is f64 else x.cast(f32)
    bits = x.bits(u32)
    magnitude = bits & 0x7FFFFFFF
    if dtype is f8e8m0:
        return narrow_e8m0(magnitude, saturate, round_mode)
    k = NARROW[dtype]
    beyond = k.greatest if saturate and k.saturates else k.overflow
    code = rounded(magnitude, k)
    code = where(code > k.greatest, constant(beyond, u32), code)
    code = where(magnitude > F32_INFINITY, constant(k.nan, u32), code)
    sign = (bits >> 31) << (k.storage.bits - 1)
    if k.unsigned_zero:
        code = where(code == 0, code, code | sign)
    elif k.nan == 0:  # the type has no NaN: NaN becomes -0
        code = code | where(magnitude > F32_INFINITY, constant(k.sign, u32), sign)
    else:
        code = code | sign
    return code.cast(k.storage).bits(dtype)


def rounded(magnitude: Value, k: Narrow) -> Value:
    """Return the code of |x| from the bits of |x|, without a limit on the exponent."""
    drop = F32_FRACTION - k.fraction
    last = (magnitude >> drop) & 1
    normal = (magnitude + last + ((1 << (drop - 1)) - 1)) >> drop
    if k.bias == F32_BIAS:
        return normal
    normal = normal - ((F32_BIAS - k.bias) << k.fraction)
    least = constant(2.0 ** (1 - k.bias + drop), f32)
    subnormal = (magnitude.bits(f32) + least).bits(u32) - least.bits(u32)
    return where(magnitude < (F32_BIAS + 1 - k.bias) << F32_FRACTION, subnormal, normal)


def to_odd(x: Value) -> Value:
    """Convert f64 to f32 towards zero, with the last bit set if anything was lost: rounding the result equals rounding once."""
    near = x.cast(f32)
    back, exact = abs(near.cast(f64)), abs(x)
    cut = near.bits(u32) - (back > exact).cast(u32)
    return (cut | (back != exact).cast(u32)).bits(f32)


def widen_e8m0(code: Value) -> Value:
    """Compute 2^(code - 127); code 0xFF is NaN."""
    power = where(code == 0, constant(1 << (F32_FRACTION - 1), u32), code << F32_FRACTION)
    return where(code == 0xFF, constant(F32_NAN, u32), power).bits(f32)


def narrow_e8m0(magnitude: Value, saturate: bool, mode: RoundMode) -> Value:
    """Return the power of two for the bits of |x|; `nearest` rounds ties up. Outside [2^-127, 2^127], the limit if
    `saturate`, else NaN."""
    half = 1 << (F32_FRACTION - 1)  # the bits of 2^-127
    add, least = {"up": ((1 << F32_FRACTION) - 1, half + 1), "down": (0, 0), "nearest": (half, half + half // 2)}[mode]
    code = (magnitude + add) >> F32_FRACTION
    if least:
        code = where(magnitude < least, constant(0, u32), code)
    if saturate:
        code = op("min", code, 0xFE)
        invalid = magnitude > F32_INFINITY
    else:
        code = op("min", code, 0xFF)
        invalid = (magnitude < half) | (magnitude >= F32_INFINITY)
    return where(invalid, constant(0xFF, u32), code).cast(u8).bits(f8e8m0)
