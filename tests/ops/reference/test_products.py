"""Gemm in the reference: it agrees with integers of Python, and refuses what is not to be broadcast. test_needed.py has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.errors import SardonyxError
from tests.ops import harness


@pytest.mark.parametrize("run", [harness.run_by_reference, harness.run])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (3.0, -2.0), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.uint32])
def test_integers_are_exact_and_wrap(run: object, alpha: float, beta: float, dtype: type) -> None:
    limits = np.iinfo(dtype)
    a = np.array([[limits.max, limits.max - 1], [3, limits.max // 2]], dtype)
    b = np.array([[2, 5], [7, 11]], dtype)
    c = np.array([limits.max, 1], dtype)
    exact = int(alpha) * (a.astype(object) @ b.astype(object)) + int(beta) * c.astype(object)
    wanted = (exact % (1 << limits.bits)).astype(f"u{limits.bits // 8}").astype(dtype)
    np.testing.assert_array_equal(run("Gemm", [a, b, c], {"alpha": alpha, "beta": beta})[0], wanted)  # type: ignore[operator]


@pytest.mark.parametrize("run", [harness.run_by_reference, harness.run])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_fractions_are_lost_at_the_end(run: object, beta: float) -> None:
    a, b, c = np.array([[3, 5], [7, -2]]), np.array([[1, 2], [3, 5]]), np.array([1, -3])
    wanted = np.trunc(0.5 * (a @ b) + beta * c).astype(np.int64)
    np.testing.assert_array_equal(run("Gemm", [a, b, c], {"alpha": 0.5, "beta": beta})[0], wanted)  # type: ignore[operator]


def test_before_opset_7_a_row_is_broadcast_where_the_model_says_so() -> None:
    a, b, c = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32), np.ones(4, np.float32)
    got = harness.run_by_reference("Gemm", [a, b, c], {"broadcast": 1, "beta": 2.0}, version=6)
    np.testing.assert_array_equal(got[0], np.full((2, 4), 5, np.float32))
    with pytest.raises(SardonyxError, match="broadcast"):
        harness.run_by_reference("Gemm", [a, b, c], {"beta": 2.0}, version=6)
