"""Old broadcasting, expected by hand; reductions where onnx.reference leaves the result to the processor. test_init.py has the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
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


A = np.array([[[-7.0, 5], [3, -2], [9, 4]]] * 2, np.float32)  # [2, 3, 2]
MIDDLE = np.array([2.0, -3, 4], np.float32)
OLD = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "Greater": lambda a, b: a > b,
    "Less": lambda a, b: a < b,
}


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("axis", [1, -2])
def test_an_axis_to_broadcast_from(name: str, axis: int) -> None:
    """Before opset 7 the second operand lies along the axes from `axis` on."""
    (got,) = harness.run_by_reference(name, [A, MIDDLE], {"axis": axis, "broadcast": 1}, version=6)
    np.testing.assert_array_equal(got, OLD[name](A, MIDDLE[:, None]))


@pytest.mark.parametrize("name", ["Add", "Mul"])
def test_broadcast_from_the_end(name: str) -> None:
    b = np.array([10.0, 20], np.float32)
    (got,) = harness.run_by_reference(name, [A, b], {"broadcast": 1}, version=6)
    np.testing.assert_array_equal(got, OLD[name](A, b))


def test_nothing_is_broadcast_unasked() -> None:
    with pytest.raises(Fail, match="differ and broadcast is not set"):
        harness.run_by_reference("Add", [A, MIDDLE[:2]], {}, version=6)
    np.testing.assert_array_equal(harness.run_by_reference("Add", [A, A], {}, version=6)[0], 2 * A)


@pytest.mark.parametrize(("name", "combine"), [("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)])
def test_old_logic(name: str, combine: Any) -> None:
    a, b = A > 0, MIDDLE > 0
    (got,) = harness.run_by_reference(name, [a, b], {"axis": 1, "broadcast": 1}, version=1)
    np.testing.assert_array_equal(got, combine(a, b[:, None]))


def test_old_equality_and_division_of_integers() -> None:
    a, b = np.array([-7, 7, -8, 9], np.int32), np.array([2, -2, 4, 3], np.int32)
    np.testing.assert_array_equal(harness.run_by_reference("Div", [a, b], {}, version=6)[0], [-3, -3, -2, 3])
    np.testing.assert_array_equal(
        harness.run_by_reference("Equal", [a, np.array([7, 7, 4, 9], np.int32)], {}, version=1)[0], [0, 1, 0, 1]
    )


def test_old_shapes() -> None:
    """Reshape and Split of opset 1 have attributes; Gemm before opset 7 broadcasts if it is told to."""
    np.testing.assert_array_equal(harness.run_by_reference("Reshape", [A], {"shape": [0, -1]}, version=1)[0], A.reshape(2, 6))
    halves = harness.run_by_reference("Split", [A], {"axis": 1, "split": [1, 2]}, version=1, outputs=2)
    np.testing.assert_array_equal(halves[0], A[:, :1])
    np.testing.assert_array_equal(halves[1], A[:, 1:])
    a, b, c = A[0], A[0].T, MIDDLE
    got = harness.run_by_reference(
        "Gemm", [a.T, b.T, c], {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1, "broadcast": 1}, version=6
    )
    np.testing.assert_allclose(got[0], 0.5 * (a @ b) + 2 * c)
    x, mask = harness.run_by_reference("Dropout", [A], {"is_test": 1}, version=6, outputs=2)
    np.testing.assert_array_equal(x, A)
    assert mask.all()


def test_erf_of_doubles() -> None:
    x = np.linspace(-3, 3, 25)
    for name, factor in (("Erf", 1.0), ("Gelu", x / 2)):
        inner = x if name == "Erf" else x / math.sqrt(2)
        wanted = factor * (np.vectorize(math.erf)(inner) + (name == "Gelu"))
        np.testing.assert_allclose(harness.run_by_reference(name, [x])[0], wanted, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_log_softmax_leaves_its_input_as_it_is(shape: tuple[int, ...], axis: int) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x.flags.writeable = False
    (got,) = harness.run_by_reference("LogSoftmax", [x], {"axis": axis})
    harness.assert_same([got], harness.run("LogSoftmax", [x], {"axis": axis}))
