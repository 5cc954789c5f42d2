"""Reductions of the reference where onnx.reference leaves the result to the processor. The others are compared in tests/test_backend.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops import harness

NOTHING = np.zeros((0, 3))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_the_mean_of_integers_over_nothing(dtype: Any, keepdims: int) -> None:
    x, axes = NOTHING.astype(dtype), np.array([0])
    (got,) = harness.run_by_reference("ReduceMean", [x, axes], {"keepdims": keepdims})
    np.testing.assert_array_equal(got, np.zeros((1, 3) if keepdims else (3,), dtype))
    harness.assert_same(harness.run("ReduceMean", [x, axes], {"keepdims": keepdims}, known=[1]), [got])


def test_the_mean_of_floats_over_nothing_is_no_number() -> None:
    assert np.isnan(harness.run_by_reference("ReduceMean", [NOTHING.astype(np.float32), np.array([0])])[0]).all()


@pytest.mark.parametrize("noop", [0, 1])
def test_the_mean_over_no_axes(noop: int) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (got,) = harness.run_by_reference("ReduceMean", [x, np.zeros(0, np.int64)], {"keepdims": 0, "noop_with_empty_axes": noop})
    np.testing.assert_array_equal(got, x if noop else 2.5)
