"""Define the operations of the loop IR as numpy functions on arrays; a single value is an array of shape ()."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from sardonyx.base.dtypes import DType, boolean, f4e2m1, f8e8m0, f16, i32
from sardonyx.loop.nodes import Bitcast, Const, Expr, Index, Load, Op, Reduce, Select

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def apply(fn: str, *args: Array) -> Array:
    """Apply an operation of `nodes.OPS` to arrays of one dtype. Functions (exp, ...) are defined by their expansion and not
    included."""
    with np.errstate(all="ignore"):
        return np.asarray(FN[fn](*args))


def select(condition: Array, then: Array, otherwise: Array) -> Array:
    return np.where(condition, then, otherwise)


def bitcast(x: Array, dtype: DType) -> Array:
    """Reinterpret bits. Types narrower than a byte use the low bits of a byte."""
    return np.ascontiguousarray(x).view(dtype.numpy).reshape(x.shape)


def neutral(fn: str, dtype: DType) -> Array:
    """Return the e with fn(e, x) = x."""
    if fn in ("min", "max"):
        lowest = fn == "max"
        if dtype.is_float:
            return np.array(-np.inf if lowest else np.inf, dtype.numpy)
        if dtype is boolean:
            return np.array(not lowest)
        info = np.iinfo(dtype.numpy)
        return np.array(info.min if lowest else info.max, dtype.numpy)
    if fn == "and":
        return np.array(True) if dtype is boolean else apply("not", np.zeros((), dtype.numpy))
    return np.array(1 if fn == "mul" else 0, dtype.numpy)


Leaf: TypeAlias = Callable[[Expr], Array]


def evaluate(expr: Expr, leaf: Leaf, memo: dict[Expr, Array] | None = None) -> Array:
    """Evaluate expr; `leaf` gives the values of Index, Load and Reduce nodes. Functions are evaluated by their expansion."""
    memo = {} if memo is None else memo
    if expr not in memo:
        memo[expr] = evaluate_node(expr, leaf, memo)
    return memo[expr]


def evaluate_node(expr: Expr, leaf: Leaf, memo: dict[Expr, Array]) -> Array:
    """Evaluate one node from its arguments."""
    if isinstance(expr, Const):
        return np.array(expr.value, expr.dtype.numpy)
    if isinstance(expr, Index | Load | Reduce):
        return leaf(expr)
    args = [evaluate(a, leaf, memo) for a in expr.args]
    if isinstance(expr, Op):
        return apply(expr.fn, *args)
    if isinstance(expr, Select):
        return select(*args)
    if isinstance(expr, Bitcast):
        return bitcast(args[0], expr.dtype)
    return cast(args[0], expr.args[0].dtype, expr.dtype)


# ---- casts --------------------------------------------------------------------------------------------------------------


def cast(x: Array, source: DType, to: DType) -> Array:
    """Compute ONNX's Cast with saturate=1 and round_mode=up.

    Float to integer: truncated and saturated (4- and 2-bit integers keep the low bits of an i32), NaN becomes 0. To float:
    rounded once to nearest, ties to even; but integers become floats narrower than f32 by way of f32. f4e2m1 saturates, and
    NaN becomes -0.
    """
    if source is to:
        return x
    with np.errstate(all="ignore"):
        if to is boolean:
            return np.asarray(x != 0)
        if source.is_float and source.bits < 32:
            x = x.astype(np.float32)
        if source.is_integer and source.bits < 8:
            x = x.astype(np.int32)
        if to.is_integer:
            return float_to_integer(x, to) if source.is_float else x.astype(to.numpy)
        if to.bits == 32 or to.bits == 64:
            return x.astype(to.numpy)
        return float_to_narrow(x if source.is_float else x.astype(np.float32), to)


def float_to_integer(x: Array, to: DType) -> Array:
    """Truncate and saturate; NaN becomes 0."""
    if to.bits < 8:
        return float_to_integer(x, i32).astype(to.numpy)
    info = np.iinfo(to.numpy)
    top = 2.0 ** (to.bits - (to.kind == "int"))
    inside = (x < top) & ((x > -1) if to.kind == "uint" else (x >= -top))
    whole = np.where(inside, np.trunc(x), 0).astype(to.numpy)
    limit = np.where(x > 0, to.numpy.type(info.max), to.numpy.type(info.min))
    return np.where(inside | np.isnan(x), whole, limit)


def float_to_narrow(x: Array, to: DType) -> Array:
    """Round f32 or f64 to a float of 16 bits or fewer."""
    if to is f8e8m0:
        return to_e8m0(x)
    if to is not f16 and x.dtype == np.float64:
        x = round_to_odd(x)
    if to is f4e2m1:
        x = np.where(np.isnan(x), x.dtype.type(-0.0), x)
    if to.bits == 8:
        limit = float(ml_dtypes.finfo(to.numpy).max)  # type: ignore[no-untyped-call]
        x = np.clip(x, -limit, limit)
    return x.astype(to.numpy)


def round_to_odd(x: Array) -> Array:
    """Round f64 to an f32 that rounds to narrower floats as x itself would."""
    near = x.astype(np.float32)
    error = x - near
    even = near.view(np.int32) & 1 == 0
    step = np.nextafter(near, np.where(error > 0, np.float32(np.inf), np.float32(-np.inf)))
    return np.asarray(np.where(np.isfinite(x) & (error != 0) & even, step, near))


def to_e8m0(x: Array) -> Array:
    """Return the least power of two that is at least |x|, in [2^-127, 2^127]."""
    mantissa, exponent = np.frexp(np.abs(x.astype(np.float64)))
    code = np.clip(np.where(x == 0, 0, exponent + 126 + (mantissa > 0.5)), 0, 254)
    code = np.where(np.isnan(x), 255, np.where(np.isinf(x), 254, code))
    return code.astype(np.uint8).view(f8e8m0.numpy)


# ---- operations ---------------------------------------------------------------------------------------------------------


def divide(a: Array, b: Array) -> Array:
    """Divide; integers truncate, and x / 0 = 0."""
    if a.dtype.kind == "f":
        return a / b
    whole = np.floor_divide(a - np.fmod(a, b), b)
    return np.asarray(np.where(b == 0, a.dtype.type(0), whole))


def shift(left: bool) -> Callable[[Array, Array], Array]:
    """Make a shift; shifting by the width or more gives 0."""

    def fn(a: Array, b: Array) -> Array:
        width = a.dtype.itemsize * 8
        inside = (b >= 0) & (b < width)
        by = np.where(inside, b, b.dtype.type(0))
        return np.where(inside, np.left_shift(a, by) if left else np.right_shift(a, by), a.dtype.type(0))

    return fn


def fma(a: Array, b: Array, c: Array) -> Array:
    """Compute a * b + c, rounded once."""
    if a.dtype == np.float32:
        wide = [x.astype(np.float64) for x in (a, b, c)]
        return np.asarray(add_to_odd(wide[0] * wide[1], wide[2])).astype(np.float32)
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    a, b, c = (np.broadcast_to(x, shape).reshape(-1) for x in (a, b, c))
    factors, finite = np.isfinite(a) & np.isfinite(b), np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    out = np.where(finite, fma_in_range(a, b, c), np.where(factors, c, a * b + c))
    for i in np.flatnonzero(out_of_range(a, b, c)):
        out[i] = fma_exact(float(a[i]), float(b[i]), float(c[i]))
    return out.reshape(shape)


def add_to_odd(a: Array, b: Array) -> Array:
    """Compute f64 a + b rounded to odd, so that rounding the result to fewer bits equals rounding once (Boldo and Melquiond
    2008)."""
    total, error = two_sum(a, b)
    even = np.asarray(total).view(np.int64) & 1 == 0
    inexact = np.isfinite(total) & (error != 0) & even
    return np.where(inexact, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b rounded, and the rounding error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return f64 a * b rounded, and the rounding error (Dekker 1971)."""
    product = a * b
    high_a, high_b = (x * 134217729.0 - (x * 134217729.0 - x) for x in (a, b))
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


def fma_in_range(a: Array, b: Array, c: Array) -> Array:
    """Compute f64 fma where nothing over- or underflows, by algorithm Fma of Boldo and Melquiond 2008."""
    product, low = two_product(a, b)
    total, lost = two_sum(c, low)
    high, rest = two_sum(product, total)
    return np.where(product == 0, product + c, high + add_to_odd(lost, rest))


def out_of_range(a: Array, b: Array, c: Array) -> Array:
    """Mark finite operands with nonzero factors for which `fma_in_range` may be wrong."""
    outside = [(x != 0) & ((np.abs(x) < 2.0**-400) | (np.abs(x) > 2.0**400)) for x in (a, b, c)]
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    return np.asarray(finite & (a != 0) & (b != 0) & (outside[0] | outside[1] | outside[2]))


def fma_exact(a: float, b: float, c: float) -> float:
    """Compute fma of finite numbers in rational arithmetic."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return 0.0
    try:
        return float(exact)
    except OverflowError:
        return np.inf if exact > 0 else -np.inf


FN: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": divide,
    "rem": np.fmod,
    "mod": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": shift(left=True),
    "shr": shift(left=False),
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "neg": np.negative,
    "abs": np.absolute,
    "not": np.invert,
    "sqrt": np.sqrt,
    "rint": np.rint,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "copysign": np.copysign,
    "fma": fma,
}
