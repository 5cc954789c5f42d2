"""Scalar arithmetic for tensor bodies: loop IR operations with ONNX's dtype rules. Arguments are `Expr`s of one dtype or
Python numbers.

f16, bf16 and narrower floats are computed in f32, 2- and 4-bit integers in i32; each result is rounded back.
"""

from __future__ import annotations

from typing import TypeAlias

from sardonyx.base.dtypes import DType, f32, f64, i32
from sardonyx.base.symbolic import Dim
from sardonyx.loop.nodes import COMPARISONS, OPS, Cast, Const, Expr, Index, Op, Select

Scalar: TypeAlias = Expr | float | int | bool


def literal(x: Scalar, dtype: DType) -> Expr:
    """Return x as an expression of this dtype."""
    if isinstance(x, Expr):
        return x
    accumulator = wide(dtype)
    return Const(x, dtype) if accumulator is dtype else Cast(Const(x, accumulator), dtype)


def wide(dtype: DType) -> DType:
    """Return the dtype in which arithmetic on `dtype` is computed."""
    if dtype.is_float and dtype not in (f32, f64):
        return f32
    if dtype.is_integer and dtype.bits < 8:
        return i32
    return dtype


def apply(fn: str, *args: Scalar) -> Expr:
    """Apply fn of loop.nodes.OPS to arguments of one dtype, which Python numbers adopt; the result is rounded to that dtype."""
    dtype = next((a.dtype for a in args if isinstance(a, Expr)), None)
    if dtype is None or fn not in OPS:
        raise TypeError(f"{fn} of {args}")
    accumulator = wide(dtype)
    result = Op(fn, *(cast(literal(a, dtype), accumulator) for a in args))
    return result if fn in COMPARISONS else cast(result, dtype)


def cast(x: Expr, dtype: DType) -> Expr:
    """Convert x to `dtype` by ONNX's Cast. Widening followed by narrowing back is dropped."""
    if x.dtype is dtype:
        return x
    if isinstance(x, Cast) and x.args[0].dtype is dtype and x.dtype is wide(dtype):
        return x.args[0]
    return Cast(x, dtype)


def select(condition: Expr, then: Scalar, otherwise: Scalar) -> Expr:
    """Build condition ? then : otherwise; a Python number adopts the other side's dtype."""
    dtype = next(a.dtype for a in (then, otherwise) if isinstance(a, Expr))
    return Select(condition, literal(then, dtype), literal(otherwise, dtype))


def index(dim: Dim) -> Expr:
    """Return an integer expression as an i64 value."""
    return Index(dim)


def add(x: Scalar, y: Scalar) -> Expr:
    return apply("add", x, y)


def sub(x: Scalar, y: Scalar) -> Expr:
    return apply("sub", x, y)


def mul(x: Scalar, y: Scalar) -> Expr:
    return apply("mul", x, y)


def div(x: Scalar, y: Scalar) -> Expr:
    return apply("div", x, y)


def maximum(x: Scalar, y: Scalar) -> Expr:
    return apply("max", x, y)


def minimum(x: Scalar, y: Scalar) -> Expr:
    return apply("min", x, y)


def logical_and(x: Scalar, y: Scalar) -> Expr:
    return apply("and", x, y)


def negate(x: Scalar) -> Expr:
    return apply("neg", x)


def is_nan(x: Expr) -> Expr:
    return apply("ne", x, x)
