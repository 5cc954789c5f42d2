"""Conversion between element types: Cast, CastLike, BitCast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.base.dtypes import BY_CODE, DType, f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f8e8m0, f32, f64, u8, u64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr import scalar
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Bitcast, Const, Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import pointwise
from sardonyx.ops.record import Case, Op, Rule

OVERFLOW: Mapping[DType, tuple[float, bool, int]] = {
    f8e4m3fn: (464.0, False, 0x7F),
    f8e4m3fnuz: (248.0, True, 0x80),
    f8e5m2: (61440.0, True, 0x7C),
    f8e5m2fnuz: (61440.0, True, 0x80),
}
"""How casts to 8-bit floats without saturation treat numbers that are out of range, as ONNX's Cast demands.

dtype: (limit, whether the limit itself is out of range, bits of the result for larger magnitudes: NaN or infinity). The limit lies
half a step above the largest number; a number at the limit is rounded to even.
"""
E8M0_LEAST, E8M0_MOST, E8M0_NAN = 2.0**-127, 2.0**127, 0xFF
F64_MANTISSA = 52


def element_type(code: int) -> DType:
    """Return the dtype that has this code in ONNX's TensorProto. Raises Unsupported for dtypes that compiled code can't hold."""
    dtype = BY_CODE.get(code)
    if dtype is None or not dtype.is_number:
        raise Unsupported(f"elements of type {dtype.onnx_name if dtype else code}")
    return dtype


def cast(x: Tensor, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Compute Cast. x: S[*d] -> T[*d], where `to` is ONNX's code of T.

    Floats become integers by truncation. Numbers out of range become the nearest number of T, integers wrap around; with saturate=0
    8-bit floats get NaN or infinity. round_mode (up, down, nearest) applies to float8e8m0 only, whose numbers are powers of two.
    """
    return converted(x, element_type(to), saturate, round_mode)


def cast_like(x: Tensor, target: Tensor, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Compute CastLike: cast x to the dtype of target. x: S[*d], target: T[*any] -> T[*d]"""
    return converted(x, target.dtype, saturate, round_mode)


def converted(x: Tensor, dtype: DType, saturate: int, round_mode: str) -> Tensor:
    """Convert x to the dtype, see `cast`. Raises Unsupported if either dtype is not numeric."""
    if not x.dtype.is_number or not dtype.is_number:
        raise Unsupported(f"a cast from {x.dtype} to {dtype}")
    if dtype is f8e8m0 and x.dtype is not dtype:
        return pointwise(lambda e: power_of_two(e, bool(saturate), round_mode), x, dtype=dtype)
    if dtype in OVERFLOW and x.dtype is not dtype and not saturate:
        return pointwise(lambda e: unsaturated(e, dtype), x, dtype=dtype)
    y = pointwise(lambda e: scalar.cast(e, dtype), x, dtype=dtype)
    y.rounded = dtype is not x.dtype
    return y


def code(number: int, dtype: DType) -> Expr:
    """Return the 8-bit float that has these bits."""
    return Bitcast(Const(number, u8), dtype)


def unsaturated(x: Expr, dtype: DType) -> Expr:
    """Cast x to an 8-bit float, with NaN or infinity for numbers out of range."""
    limit, at_limit, overflow = OVERFLOW[dtype]
    wide = x if x.dtype is f64 else scalar.cast(x, f32)
    outside = scalar.apply("ge" if at_limit else "gt", scalar.apply("abs", wide), limit)
    signed = overflow < 0x80
    beyond = code(overflow, dtype)
    if signed:
        beyond = scalar.select(scalar.apply("lt", wide, 0), code(overflow | 0x80, dtype), beyond)
    return scalar.select(outside, beyond, scalar.cast(x, dtype))


def power_of_two(x: Expr, saturate: bool, round_mode: str) -> Expr:
    """Cast x to float8e8m0, whose numbers are the powers of two from 2^-127 to 2^127.

    The loop IR's cast rounds up. The modes "down" and "nearest" therefore clear the mantissa first, "nearest" after adding half a
    step. Without saturation, numbers out of range become NaN.
    """
    if round_mode not in ("up", "down", "nearest"):
        raise Fail(f"round_mode must be up, down or nearest, not {round_mode}")
    wide = scalar.cast(x, f64)
    if round_mode != "up":
        bits: Expr = Bitcast(wide, u64)
        if round_mode == "nearest":
            bits = scalar.add(bits, 1 << (F64_MANTISSA - 1))
        cleared = scalar.apply("shl", scalar.apply("shr", bits, F64_MANTISSA), F64_MANTISSA)
        wide = scalar.select(scalar.is_nan(wide), wide, Bitcast(cleared, f64))
    out = scalar.cast(wide, f8e8m0)
    if saturate:
        return out
    outside = scalar.apply("or", scalar.apply("gt", wide, E8M0_MOST), scalar.apply("lt", wide, E8M0_LEAST))
    return scalar.select(outside, code(E8M0_NAN, f8e8m0), out)


def bit_cast(x: Tensor, to: int) -> Tensor:
    """Compute BitCast: reinterpret the bits of x. x: S[*d] -> T[*d]. Raises Fail if S and T differ in width."""
    dtype = element_type(to)
    if x.dtype.bits != dtype.bits:
        raise Fail(f"BitCast of {x.dtype} to {dtype}, which differ in width")
    return pointwise(lambda e: Bitcast(e, dtype), x, dtype=dtype)


# ---- records ------------------------------------------------------------------------------------------------------------

NARROW = ("int4", "uint4", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn", "bfloat16")
NUMBERS = np.array([0, -0.0, 0.4, -0.6, 1, 1.5, 2.5, -3, 5, 448, 464, 470, 1e5, -1e5, np.inf, -np.inf, np.nan], np.float32)
POWERS = np.array([0.3, 1, 1.4, 1.5, 1.6, 2, 3, 100, 1e-3], np.float32)
CODES = {d.onnx_name: d.code for d in BY_CODE.values()}


FOUR_BITS = {ml_dtypes.int4, ml_dtypes.uint4}  # numpy has no conversion between these two


def conversions() -> list[Case]:
    """Make cases of Cast: small numbers between all pairs of types, special values from f32, and integers out of range."""
    plain: list[Any] = [np.float32, np.float64, np.float16, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.bool_]
    plain += [getattr(ml_dtypes, name) for name in NARROW]
    small = np.array([0, 1, 2, 3, 1, 0], np.float32).reshape(2, 3)
    between = [Case((small.astype(a),), {"to": number_of(b)}) for a in plain for b in plain if a is not b and {a, b} != FOUR_BITS]
    special = [Case((NUMBERS,), {"to": CODES[t]}) for t in ("double", "float16", "bfloat16", "bool")]
    wrapped = [Case((integers(9, lo=-300, hi=300),), {"to": CODES[t]}) for t in ("int8", "uint8", "int4", "float")]
    return between + special + wrapped


def number_of(numpy_type: Any) -> int:
    return next(d.code for d in BY_CODE.values() if d.numpy_name == np.dtype(numpy_type).name)


FLOAT8 = [Case((NUMBERS,), {"to": d.code, "saturate": s}) for d in OVERFLOW for s in (0, 1)]
E8M0 = [Case((POWERS,), {"to": f8e8m0.code, "round_mode": m}) for m in ("up", "down", "nearest")]
LIKE = tuple(Case((reals(2, 3), integers(1, dtype=t))) for t in (np.int32, np.float16))
SAME_WIDTH = (Case((reals(2, 3),), {"to": CODES["int32"]}), Case((integers(3, dtype=np.int8),), {"to": CODES["uint8"]}))

OPS = (
    Op("Cast", since=6, lower=cast, cases=(*conversions(), *FLOAT8, *E8M0)),
    Op("CastLike", since=15, lower=cast_like, cases=LIKE),
    Op("BitCast", since=26, lower=bit_cast, cases=SAME_WIDTH, gradient=Rule.NONE),
)
