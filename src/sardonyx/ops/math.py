"""Elementwise arithmetic: functions of one tensor, and functions of two or more tensors with broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sardonyx.base.dtypes import boolean, f32, f64
from sardonyx.expr import scalar
from sardonyx.expr.known import known
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import lifted, pointwise
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import elementwise

# ---- one element --------------------------------------------------------------------------------------------------------


def absolute(x: Expr) -> Expr:
    """Compute |x|; unsigned integers are returned unchanged."""
    return x if x.dtype.kind == "uint" else scalar.apply("abs", x)


def sign(x: Expr) -> Expr:
    """Compute -1, 0 or 1 by the sign of x; NaN stays NaN."""
    above = scalar.select(scalar.apply("gt", x, 0), 1, x)
    return above if x.dtype.kind == "uint" else scalar.select(scalar.apply("lt", x, 0), -1, above)


def reciprocal(x: Expr) -> Expr:
    """Compute 1 / x."""
    return scalar.div(1, x)


def function(fn: str) -> Callable[[Expr], Expr]:
    """Return the elementwise function of this name in the loop IR. For integers it is computed in f32 and truncated."""

    def on_element(x: Expr) -> Expr:
        return scalar.apply(fn, x) if x.dtype.is_float else scalar.cast(scalar.apply(fn, scalar.cast(x, f32)), x.dtype)

    return on_element


def is_inf(x: Tensor, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Compute IsInf: whether x is -infinity (if detect_negative) or infinity (if detect_positive). x: T[*d] -> bool[*d]"""
    bounds = [b for b, wanted in ((float("-inf"), detect_negative), (float("inf"), detect_positive)) if wanted]

    def body(e: Expr) -> Expr:
        return functools.reduce(lambda a, b: scalar.apply("or", a, b), (scalar.apply("eq", e, b) for b in bounds))

    return pointwise(body, x, dtype=boolean) if bounds else pointwise(lambda e: scalar.literal(False, boolean), x, dtype=boolean)


def is_nan(x: Tensor) -> Tensor:
    """Compute IsNaN. x: T[*d] -> bool[*d]"""
    return pointwise(scalar.is_nan, x, dtype=boolean)


# ---- two and more -------------------------------------------------------------------------------------------------------


def binary(fn: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the operator that applies this function of the loop IR to two tensors, broadcast. a: T[*d], b: T[*e] -> T"""

    def on_tensors(a: Tensor, b: Tensor) -> Tensor:
        return pointwise(functools.partial(scalar.apply, fn), a, b)

    return on_tensors


def folded(fn: str) -> Callable[..., Tensor]:
    """Return the operator that applies this function of the loop IR to any number of tensors, broadcast, from left to right."""

    def on_tensors(*xs: Tensor) -> Tensor:
        return pointwise(lambda *es: functools.reduce(functools.partial(scalar.apply, fn), es), *xs)

    return on_tensors


def mean(*xs: Tensor) -> Tensor:
    """Compute Mean: the elementwise mean of any number of tensors, broadcast."""
    return pointwise(lambda *es: scalar.div(functools.reduce(scalar.add, es), len(es)), *xs)


def mod(a: Tensor, b: Tensor, fmod: int = 0) -> Tensor:
    """Compute Mod: the remainder with the sign of the divisor, or of the dividend with fmod=1. a: T[*d], b: T[*e] -> T

    For integers x mod 0 is 0.
    """
    return pointwise(functools.partial(scalar.apply, "rem" if fmod else "mod"), a, b)


def power(x: Tensor, y: Tensor) -> Tensor:
    """Compute Pow: x to the power y. x: T[*d], y: V[*e] -> T

    Integers to negative powers are truncated to integers; integer results wrap around. Small constant exponents become products
    (SHORT_POWERS).
    """
    exponent = known(y) if y.rank == 0 or y.shape == (1,) else None
    short = SHORT_POWERS.get(exponent.item()) if exponent is not None and x.dtype.is_float and y.rank <= x.rank else None
    if short is not None:
        return pointwise(short, x)
    return pointwise(power_of, x, y)


def half_power(x: Expr) -> Expr:
    """Compute x^0.5 as pow does: like sqrt, but +0 for -0 and infinity for -infinity."""
    return scalar.select(scalar.apply("eq", x, float("-inf")), float("inf"), scalar.apply("sqrt", scalar.add(x, 0)))


SHORT_POWERS: Mapping[Any, Callable[[Expr], Expr]] = {
    1: lambda x: x,
    2: lambda x: scalar.mul(x, x),
    3: lambda x: scalar.mul(scalar.mul(x, x), x),
    0.5: half_power,
    -1: reciprocal,
}
"""Constant exponents that have a cheaper form than the pow function."""


def power_of(x: Expr, y: Expr) -> Expr:
    """Compute x to the power y for one element: integers by repeated squaring, others by pow in f64 where an operand needs it, else
    in f32.
    """
    if x.dtype.is_integer and y.dtype.is_integer:
        return integer_power(x, y)
    compute_dtype = f64 if f64 in (x.dtype, y.dtype) or (x.dtype.is_integer and x.dtype.bits > 16) else f32
    return scalar.cast(scalar.apply("pow", scalar.cast(x, compute_dtype), scalar.cast(y, compute_dtype)), x.dtype)


def integer_power(x: Expr, y: Expr) -> Expr:
    """Compute x^y of integers by repeated squaring, modulo 2^bits.

    For y >= 64 the result is 0, unless x is 1 or -1. For y < 0 it is 1 / x^-y, truncated: 0 unless x is 1 or -1.
    """
    out, square = scalar.literal(1, x.dtype), x
    for bit in range(6):
        chosen = scalar.apply("ne", scalar.apply("and", scalar.apply("shr", y, bit), 1), 0)
        out, square = scalar.select(chosen, scalar.mul(out, square), out), scalar.mul(square, square)
    unit = scalar.apply("eq", x if x.dtype.kind == "uint" else scalar.mul(x, x), 1)
    small = scalar.apply("and", scalar.apply("ge", y, 0), scalar.apply("lt", y, 64))
    return scalar.select(scalar.apply("or", small, unit), out, 0)


# ---- limits -------------------------------------------------------------------------------------------------------------


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Compute Clip: min(max(x, low), high). x: T[*d], low, high: T[] or None -> T[*d]; NaN stays NaN."""
    y = x if low is None else pointwise(scalar.maximum, x, low)
    return y if high is None else pointwise(scalar.minimum, y, high)


def clip_6(x: Tensor, min: float = -3.4028234663852886e38, max: float = 3.4028234663852886e38) -> Tensor:  # noqa: A002
    """Clip before opset 11, where the limits are attributes. The default limits turn infinities into the largest finite f32."""
    return pointwise(lambda e: scalar.minimum(scalar.maximum(e, min), max), x)


# ---- records ------------------------------------------------------------------------------------------------------------

SPECIAL = np.array([0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-3, -1e-3, 3, -7, 20, -20, np.inf, -np.inf, np.nan], np.float32)


def unary(name: str, fn: Callable[..., Expr], since: int, *more: Case, gradient: Rule = Rule.UNWRITTEN, **fields: Any) -> Op:
    """Make the record of an elementwise function of a real number. Its cases: special values, f64, f16, an empty tensor, and those
    given.
    """
    some = reals(3, 5)
    cases = (
        Case((SPECIAL,)),
        Case((some.astype(np.float64),)),
        Case((some.astype(np.float16),)),
        Case((np.zeros((2, 0, 3), np.float32),)),
    )
    return Op(name, since=since, lower=lifted(fn), cases=cases + more, gradient=gradient, **fields)


def pairs(*dtypes: Any) -> tuple[Case, ...]:
    """Make cases for a binary operator: each dtype, broadcasting of either operand, a scalar, an empty tensor."""
    return (
        *(Case((integers(2, 3, 4, lo=1, dtype=t), integers(2, 3, 4, lo=1, hi=5, dtype=t))) for t in dtypes),
        Case((reals(2, 3, 4), reals(3, 1))),
        Case((reals(4), reals(2, 1, 4))),
        Case((reals(1, 5), np.float32(2.5))),
        Case((reals(0, 3), reals(1, 3))),
    )


SIGNED = Case((integers(3, 4, dtype=np.int32),))
UNSIGNED = Case((integers(3, 4, dtype=np.uint8, lo=0, hi=255),))
EVERY = (np.float64, np.float16, np.int32, np.int64, np.uint8, np.uint64)
DIVISORS = (
    Case((integers(12, dtype=np.int32), np.array([3, -3, 2, -2] * 3, np.int32))),
    Case((integers(12, dtype=np.int64), np.array([3, -3, 2, -2] * 3))),
)
POWERS = (
    *(Case((reals(3, 4) + 3, np.float32(e))) for e in (0, 1, 2, 3, 0.5, -1, 1.7)),
    Case((reals(3, 4), np.int64(3))),
    Case((integers(3, 7, dtype=np.int32), integers(3, 7, lo=0, hi=6))),
    Case((integers(3, 7), integers(3, 7, lo=0, hi=8, dtype=np.int32))),
    Case((np.array([2, 3, 4], np.float32), integers(3, lo=0, hi=3, dtype=np.uint8))),
)
MORE_THAN_TWO = (
    Case((reals(2, 3),)),
    Case((reals(2, 3), reals(1, 3), reals(2, 1))),
    Case((integers(2, 3, dtype=np.int32), integers(3, dtype=np.int32))),
)


def unary_family() -> tuple[Op, ...]:
    """Make the records of the functions that the loop IR has under the same name as ONNX."""
    plain = {"Ceil": 6, "Floor": 6, "Sqrt": 6, "Exp": 6, "Log": 6}
    circular = {"Sin": 7, "Cos": 7, "Tan": 7, "Asin": 7, "Acos": 7, "Atan": 7}
    hyperbolic = {"Sinh": 9, "Cosh": 9, "Tanh": 6, "Asinh": 9, "Acosh": 9, "Atanh": 9}
    flat = ("Ceil", "Floor")
    return tuple(
        unary(name, function(name.lower()), since, gradient=Rule.NONE if name in flat else Rule.UNWRITTEN)
        for name, since in {**plain, **circular, **hyperbolic}.items()
    )


OPS = (
    *unary_family(),
    unary("Abs", absolute, 6, SIGNED, UNSIGNED),
    unary("Neg", scalar.negate, 6, SIGNED),
    unary("Sign", sign, 9, SIGNED, UNSIGNED, gradient=Rule.NONE),
    unary("Round", function("rint"), 11, gradient=Rule.NONE),
    unary("Reciprocal", reciprocal, 6),
    unary("Erf", function("erf"), 9, reference=elementwise.erf),
    Op("IsNaN", since=9, lower=is_nan, cases=(Case((SPECIAL,)),), gradient=Rule.NONE),
    Op(
        "IsInf",
        since=10,
        lower=is_inf,
        cases=tuple(Case((SPECIAL,), {"detect_negative": n, "detect_positive": p}) for n in (0, 1) for p in (0, 1)),
        gradient=Rule.NONE,
    ),
    Op("Add", since=7, lower=binary("add"), cases=pairs(*EVERY)),
    Op("Sub", since=7, lower=binary("sub"), cases=pairs(*EVERY)),
    Op("Mul", since=7, lower=binary("mul"), cases=pairs(*EVERY)),
    Op("Div", since=7, lower=binary("div"), cases=pairs(np.float64, np.float16, np.uint8)),
    Op(
        "Mod",
        since=10,
        lower=mod,
        cases=(*DIVISORS, *(Case(c.inputs, {"fmod": 1}) for c in (*DIVISORS, *pairs()))),
        gradient=Rule.NONE,
    ),
    Op("Pow", since=7, lower=power, cases=POWERS),
    Op("Max", since=6, lower=folded("max"), cases=pairs(*EVERY) + MORE_THAN_TWO),
    Op("Min", since=6, lower=folded("min"), cases=pairs(*EVERY) + MORE_THAN_TWO),
    Op("Sum", since=6, lower=folded("add"), cases=MORE_THAN_TWO[:2]),
    Op("Mean", since=6, lower=mean, cases=MORE_THAN_TWO[:2]),
    Op(
        "Clip",
        since=11,
        lower=clip,
        cases=(
            Case((SPECIAL, np.float32(-1), np.float32(2))),
            Case((SPECIAL, None, np.float32(2))),
            Case((reals(2, 3, dtype=np.float16), np.float16(0.5))),
            Case((integers(3, 4, dtype=np.int8), np.int8(-2), np.int8(3))),
            Case((reals(3), np.float32(1), np.float32(-1))),
        ),
    ),
    Op("Clip", since=6, lower=clip_6, cases=(Case((reals(3, 4),), {"min": -1.0, "max": 0.5}), Case((reals(3, 4),), {"max": 0.5}))),
)
