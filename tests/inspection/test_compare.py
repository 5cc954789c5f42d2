from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx.inspection.compare import compare

X = np.array([1.0, -2.0, 0.5], np.float32)


def test_equal_values_agree() -> None:
    for x in (X, X.astype(np.int64), X > 0, np.array(["a", "b"], object), np.zeros((0, 2), np.float16), np.array(3.0)):
        found = compare(x, x.copy(), 0.0)
        assert found.is_agreement
        assert found.error == 0


def test_the_error_is_measured_against_the_largest_number() -> None:
    found = compare(X, X + np.float32(1e-3), 1e-4)
    assert not found.is_agreement
    assert found.error == pytest.approx(1e-3, rel=1e-3)
    assert found.scale == 2
    assert compare(X, X + np.float32(1e-3), 1e-3).is_agreement


def test_the_worst_place_is_named() -> None:
    got = np.array([[1, 2], [3, 5]])
    assert compare(np.array([[1, 2], [3, 4]]), got, 1e-4).reason == "5, not 4 at [1, 1]"


@pytest.mark.parametrize(("dtype", "within", "beyond"), [(np.float16, 1.005, 1.02), (ml_dtypes.bfloat16, 1.04, 1.2)])
def test_narrow_floats_may_round(dtype: type, within: float, beyond: float) -> None:
    one = np.ones(3, dtype)
    assert compare(one, (one * within).astype(dtype), 1e-4).is_agreement
    assert not compare(one, (one * beyond).astype(dtype), 1e-4).is_agreement


def test_narrow_integers_may_be_off_by_one_and_wide_ones_not() -> None:
    for dtype, agrees in ((np.uint8, True), (ml_dtypes.int4, True), (np.int32, False), (np.int64, False)):
        x = np.array([1, 2, 3]).astype(dtype)
        assert compare(x, (x.astype(int) + np.array([0, 0, 1])).astype(dtype), 1e-4).is_agreement is agrees
        assert not compare(x, (x.astype(int) + np.array([0, 0, 2])).astype(dtype), 1e-4).is_agreement


def test_large_integers_are_told_apart() -> None:
    assert not compare(np.array([2**62]), np.array([2**62 + 1]), 1e-4).is_agreement


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_numbers_stand_where_they_are_expected(special: float) -> None:
    x = np.array([1.0, special], np.float32)
    assert compare(x, x.copy(), 1e-4).is_agreement
    assert not compare(x, np.array([1.0, 2.0], np.float32), 1e-4).is_agreement
    assert not compare(np.array([1.0, 2.0], np.float32), x, 1e-4).is_agreement
    assert compare(x, x.copy(), 1e-4).scale == 1


@pytest.mark.parametrize(
    ("got", "reason"),
    [
        (X.astype(np.float64), "dtype float64, not float32"),
        (X[None], "shape [1, 3], not [3]"),
        ("text", "'text', not an array"),
        (None, "None, not an array"),
    ],
)
def test_other_forms_differ(got: object, reason: str) -> None:
    found = compare(X, got, 1e-4)
    assert not found.is_agreement
    assert found.reason == reason


def test_lists_dicts_and_none() -> None:
    assert compare([X, X], [X, X.copy()], 1e-4).is_agreement
    assert not compare([X, X], [X, X + 1], 1e-4).is_agreement
    assert not compare([X], [X, X], 1e-4).is_agreement
    assert compare({"a": X, "b": 1}, {"b": 1, "a": X}, 1e-4).is_agreement
    assert not compare({"a": X}, {"b": X}, 1e-4).is_agreement
    assert compare(None, None, 1e-4).is_agreement
    assert not compare(None, X, 1e-4).is_agreement
