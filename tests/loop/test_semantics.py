"""The operations against Python's integers and exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.base.dtypes import INTEGERS, DType, boolean, f32, f64, i8, i32, i64, u8
from sardonyx.loop.nodes import FUNCTIONS, OPS, REDUCTIONS
from sardonyx.loop.semantics import FN, apply, cast, fma, neutral

NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.integers(-9, 9), st.sampled_from([2**31, 2**63 - 1, -(2**63), 255, 128]))


def wrap(n: int, dtype: DType) -> int:
    low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
    return (n - low) % (1 << dtype.bits) + low


def quotient(a: int, b: int) -> int:
    """Towards zero; 0 for b = 0."""
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def shifted(a: int, b: int, dtype: DType, left: bool) -> int:
    if not 0 <= b < dtype.bits:
        return 0
    return a << b if left else a >> b


BINARY = {
    "add": lambda a, b, t: a + b,
    "sub": lambda a, b, t: a - b,
    "mul": lambda a, b, t: a * b,
    "div": lambda a, b, t: quotient(a, b),
    "rem": lambda a, b, t: a - b * quotient(a, b) if b else 0,
    "mod": lambda a, b, t: a % b if b else 0,
    "min": lambda a, b, t: min(a, b),
    "max": lambda a, b, t: max(a, b),
    "and": lambda a, b, t: a & b,
    "or": lambda a, b, t: a | b,
    "xor": lambda a, b, t: a ^ b,
    "shl": lambda a, b, t: shifted(a, b, t, left=True),
    "shr": lambda a, b, t: shifted(a, b, t, left=False),
}
COMPARE = {"eq": int.__eq__, "ne": int.__ne__, "lt": int.__lt__, "le": int.__le__, "gt": int.__gt__, "ge": int.__ge__}


def test_every_operation_has_a_meaning() -> None:
    assert set(FN) == set(OPS) - FUNCTIONS


@settings(max_examples=300)
@given(NUMBERS, NUMBERS, st.sampled_from(INTEGERS))
def test_integers(a: int, b: int, dtype: DType) -> None:
    a, b = wrap(a, dtype), wrap(b, dtype)
    x, y = np.array(a, dtype.numpy), np.array(b, dtype.numpy)
    for fn, meaning in BINARY.items():
        got = apply(fn, x, y)
        assert got.dtype == dtype.numpy
        assert int(got) == wrap(meaning(a, b, dtype), dtype), fn
    for fn, meaning in COMPARE.items():
        assert bool(apply(fn, x, y)) is meaning(a, b)
    assert int(apply("neg", x)) == wrap(-a, dtype)
    assert int(apply("abs", x)) == wrap(abs(a), dtype)
    assert int(apply("not", x)) == wrap(~a, dtype)


FLOATS = st.one_of(st.floats(), st.floats(-4, 4), st.sampled_from([0.0, -0.0, math.inf, math.nan, 5e-324, 1.7e308, 2.0**-537]))


def exact_fma(a: float, b: float, c: float, dtype: type) -> float:
    total = Fraction(a) * Fraction(b) + Fraction(c)
    if total == 0:
        return a * b + c
    try:
        wide = float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf
    if dtype is np.float64:
        return wide
    with np.errstate(all="ignore"):
        candidates = {float(np.nextafter(np.float32(wide), np.float32(d))) for d in (-math.inf, math.inf)} | {
            float(np.float32(wide))
        }
        return float(min(candidates, key=lambda v: distance(v, total)))


def distance(v: float, exact: Fraction) -> tuple[Fraction, int]:
    """To round to nearest, ties to even; 2^128 stands for infinity."""
    value = Fraction(v) if math.isfinite(v) else Fraction(2) ** 128 * (1 if v > 0 else -1)
    return abs(value - exact), int(np.float32(v).view(np.int32)) & 1


@settings(max_examples=500)
@given(FLOATS, FLOATS, FLOATS, st.sampled_from([np.float32, np.float64]))
def test_fma_rounds_once(a: float, b: float, c: float, dtype: type) -> None:
    with np.errstate(all="ignore"):
        args = [np.array(v, dtype) for v in (a, b, c)]
        got = float(fma(*args))
        a, b, c = (float(v) for v in args)
    if all(map(math.isfinite, (a, b, c))):
        want = exact_fma(a, b, c, dtype)
    else:  # a product of finite factors is finite
        want = c if math.isfinite(a) and math.isfinite(b) else a * b + c
    assert got == want or (math.isnan(got) and math.isnan(want))


@settings(max_examples=300)
@given(st.floats(), st.sampled_from(INTEGERS), st.sampled_from([f32, f64]))
def test_float_to_integer(x: float, to: DType, source: DType) -> None:
    with np.errstate(all="ignore"):
        v = np.array(x, source.numpy)
    info, x = np.iinfo(to.numpy), float(v)
    if math.isnan(x):
        want = 0
    elif math.isinf(x):
        want = info.max if x > 0 else info.min
    else:
        want = min(max(math.trunc(x), info.min), info.max)
    assert int(cast(v, source, to)) == want


@given(NUMBERS, st.sampled_from(INTEGERS), st.sampled_from(INTEGERS))
def test_integer_to_integer_wraps(n: int, source: DType, to: DType) -> None:
    n = wrap(n, source)
    assert int(cast(np.array(n, source.numpy), source, to)) == wrap(n, to)


LOGIC = ("and", "or", "xor")


@pytest.mark.parametrize("dtype", [f32, f64, i8, u8, i32, i64, boolean], ids=str)
def test_neutral_elements(dtype: DType) -> None:
    fns = REDUCTIONS - set(LOGIC) if dtype.is_float else (*LOGIC, "min", "max") if dtype is boolean else REDUCTIONS
    for fn in fns:
        for v in [False, True] if dtype is boolean else [0, 1, 3, 100]:
            assert apply(fn, neutral(fn, dtype), np.array(v, dtype.numpy)) == v, fn


def test_nan_and_signs() -> None:
    nan, one = np.array(math.nan), np.array(1.0)
    assert np.isnan(apply("min", nan, one))
    assert np.isnan(apply("max", one, nan))
    assert float(apply("rem", np.array(-5.5), np.array(2.0))) == -1.5
    assert float(apply("mod", np.array(-5.5), np.array(2.0))) == 0.5
    assert np.signbit(apply("rint", np.array(-0.4)))
    assert float(apply("rint", np.array(2.5))) == 2.0
