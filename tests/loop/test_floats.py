"""Sums and products in two parts: the rounded result and what rounding lost, exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.dtypes import DType, f32, f64, i32, i64
from sardonyx.loop.floats import FORMATS, ordered_sum, power_of_two, two_product, two_sum
from tests.loop.evaluation import compute

ARRAYS = {f32: np.float32, f64: np.float64}
middling = st.floats(2.0**-30, 2.0**30, width=32) | st.floats(-(2.0**30), -(2.0**-30), width=32)


def parts(function: object, *numbers: float, dtype: DType) -> tuple[float, float]:
    arrays = [np.array([n], ARRAYS[dtype]) for n in numbers]
    return tuple(float(compute(lambda *v, k=k: function(*v)[k], *arrays)[0]) for k in (0, 1))  # type: ignore[operator,return-value]


@given(middling, middling, st.sampled_from([f32, f64]))
def test_a_sum_and_its_error_are_the_exact_sum(a: float, b: float, dtype: DType) -> None:
    total, lost = parts(two_sum, a, b, dtype=dtype)
    assert total == float(ARRAYS[dtype](a) + ARRAYS[dtype](b))
    assert Fraction(total) + Fraction(lost) == Fraction(a) + Fraction(b)


@given(middling, middling, st.sampled_from([f32, f64]))
def test_a_sum_in_order_needs_fewer_steps(a: float, b: float, dtype: DType) -> None:
    a, b = sorted((a, b), key=abs, reverse=True)
    total, lost = parts(ordered_sum, a, b, dtype=dtype)
    assert Fraction(total) + Fraction(lost) == Fraction(a) + Fraction(b)


@given(middling, middling, st.sampled_from([f32, f64]))
def test_a_product_and_its_error_are_the_exact_product(a: float, b: float, dtype: DType) -> None:
    product, lost = parts(two_product, a, b, dtype=dtype)
    assert Fraction(product) + Fraction(lost) == Fraction(a) * Fraction(b)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_formats_agree_with_numpy(dtype: DType) -> None:
    limits, form = np.finfo(ARRAYS[dtype]), FORMATS[dtype]
    assert form.fraction == limits.nmant
    assert form.smallest == limits.smallest_normal
    assert form.integer.bits == dtype.bits
    x = np.array([3.49, -7.51, 1000.5], ARRAYS[dtype])
    assert ((x + ARRAYS[dtype](form.rounder)) - ARRAYS[dtype](form.rounder)).tolist() == np.rint(x).tolist()


@pytest.mark.parametrize(("dtype", "carrier"), [(f32, np.int32), (f64, np.int64)], ids=str)
def test_powers_of_two_from_their_exponents(dtype: DType, carrier: type) -> None:
    bias = FORMATS[dtype].bias
    fields = np.arange(1, 2 * bias + 1, dtype=carrier)
    got = compute(lambda v: power_of_two(v, dtype), fields)
    assert got.dtype == dtype.numpy
    np.testing.assert_array_equal(got, np.ldexp(np.ones(len(fields), ARRAYS[dtype]), fields.astype(int) - bias))


def test_each_format_has_its_integer() -> None:
    assert {d: f.integer for d, f in FORMATS.items()} == {f32: i32, f64: i64}
