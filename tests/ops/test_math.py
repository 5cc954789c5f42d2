"""Arithmetic where onnx.reference is no help: short powers, powers of integers, limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.harness import assert_same, run

INF, NAN = float("inf"), float("nan")
EDGES = np.array([INF, -INF, 0, -0.0, 4, -4, NAN], np.float32)
ROOTS = [INF, INF, 0, 0, 2, NAN, NAN]


@pytest.mark.parametrize("known", [(), (1,)])
def test_power_of_one_half_is_not_quite_a_root(known: tuple[int, ...]) -> None:
    (y,) = run("Pow", [EDGES, np.array(0.5, np.float32)], known=known)
    np.testing.assert_array_equal(y, np.array(ROOTS, np.float32))
    assert not np.signbit(y[3])


@pytest.mark.parametrize("known", [(), (1,)])
@pytest.mark.parametrize("exponent", [1, 2, 3, -1])
def test_short_powers(exponent: int, known: tuple[int, ...]) -> None:
    with np.errstate(all="ignore"):
        expected = np.power(EDGES, np.full(7, exponent, np.float32))
    assert_same(run("Pow", [EDGES, np.array(exponent, np.float32)], known=known), [expected])


@given(st.integers(-40, 40), st.integers(-5, 200))
def test_integer_powers(x: int, y: int) -> None:
    (got,) = run("Pow", [np.array(x), np.array(y)])
    if y >= 0 and abs(x**y) < 1 << 63:
        assert got == x**y
    elif y < 0:
        assert got == (x**-y if abs(x) == 1 else 0)


def test_power_of_an_integer_to_a_fraction_is_cut_off() -> None:
    got = run("Pow", [np.array([2, 3, 9], np.int32), np.array([0.5, 1.5, 0.5], np.float32)])
    assert_same(got, [np.array([1, 5, 3], np.int32)])


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_signed_shifts(dtype: type) -> None:
    x, by = np.array([-5, -5, -5, 5, 5], dtype), np.array([1, 70, -1, 70, -1], dtype)
    assert_same(run("BitShift", [x, by], {"direction": "RIGHT"}), [np.array([-3, -1, -1, 0, 0], dtype)])
    assert_same(run("BitShift", [x, by], {"direction": "LEFT"}), [np.array([-10, 0, 0, 0, 0], dtype)])


def test_integer_division_by_zero_gives_zero() -> None:
    x = np.array([7, -7, 0], np.int32)
    for name in ("Div", "Mod"):
        assert_same(run(name, [x, np.zeros(3, np.int32)]), [np.zeros(3, np.int32)])


def test_old_clip_takes_infinity_away() -> None:
    (y,) = run("Clip", [EDGES], version=6)
    np.testing.assert_array_equal(y[:2], np.array([3.4028234663852886e38, -3.4028234663852886e38], np.float32))
