"""Indices that are out of bounds, known beforehand, or shared by threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.errors import Fail, InvalidArgument, Unsupported
from sardonyx.base.symbolic import symbol
from sardonyx.expr import require
from sardonyx.expr.tensor import constant, input_tensor
from sardonyx.loop import interpreter
from sardonyx.ops import gather, scatter
from tests.ops.harness import run

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.mark.parametrize("bad", [3, -4])
def test_gather_checks_its_indices(bad: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"index {bad} is out of bounds for an axis of 3"):
        run("Gather", [X, np.array([0, bad])])


@pytest.mark.parametrize("bad", [3, -4])
def test_a_known_index_is_checked_at_once(bad: int) -> None:
    with pytest.raises(Fail, match=f"index {bad} is out of bounds for an axis of 3"):
        gather.gather(constant(X), constant(np.array(bad)))


def test_a_known_index_into_an_unknown_size() -> None:
    n = symbol("n")
    with require.collect() as requirements:
        y = gather.gather(input_tensor("x", f32, (n, 4)), constant(np.array(-1)))
    assert y.shape == (4,)
    assert [str(r.dim) for r in requirements if r.relation == "nonnegative"] == [str(n - 1)]


def test_gather_nd_needs_a_fixed_length_of_tuples() -> None:
    with pytest.raises(Unsupported, match="unknown length"):
        gather.gather_nd(constant(X), input_tensor("i", i64, (2, symbol("k"))))


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_compress(mask: list[bool], known: bool) -> None:
    (got,) = run("Compress", [X, np.array(mask)], {"axis": 1}, known=(1,) if known else ())
    np.testing.assert_array_equal(got, X[:, mask])


def test_compress_beyond_the_axis() -> None:
    with pytest.raises(InvalidArgument, match="index 4"):
        run("Compress", [X, np.array([False, False, False, False, True])], {"axis": 1})


@pytest.mark.parametrize("name", ["ScatterElements", "ScatterND"])
def test_scatter_checks_its_indices(name: str) -> None:
    with pytest.raises(InvalidArgument, match="idx=9 for an axis of 3"):
        run(name, [X[:, 0, 0].copy(), np.array([9]) if name == "ScatterElements" else np.array([[9]]), np.ones(1, np.float32)])


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 0), ((3, 4), 1), ((5,), 0), ((2, 3, 4), 1)])
def test_threads_of_scatter_elements_share_nothing(reduction: str, shape: tuple[int, ...], axis: int) -> None:
    kernel = scatter.elements_kernel(len(shape), axis, f32, i64, reduction)
    x, updates = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    arrays = {"x": x, "indices": np.zeros(shape, np.int64), "updates": updates, "y": np.empty_like(x)}
    sizes = {f"{letter}{a}": n for letter in "nm" for a, n in enumerate(shape)}
    assert interpreter.run(kernel, arrays, sizes, strict=True) is None
    expected = np.zeros(shape)
    first = tuple(slice(0, 1) if a == axis else slice(None) for a in range(len(shape)))
    expected[first] = shape[axis] if reduction == "add" else 1
    np.testing.assert_array_equal(arrays["y"], expected)


@pytest.mark.parametrize("width", [1, 64, 150])
def test_threads_of_scatter_nd_share_nothing(width: int) -> None:
    kernel = scatter.rows_kernel(1, f32, i64, "add")
    arrays = {
        "x": np.zeros((3, width), np.float32),
        "indices": np.array([[1], [1], [-1]]),
        "updates": np.ones((3, width), np.float32),
        "y": np.empty((3, width), np.float32),
    }
    assert interpreter.run(kernel, arrays, {"n0": 3, "count": 3, "width": width}, strict=True) is None
    np.testing.assert_array_equal(arrays["y"], np.repeat([[0], [2], [1]], width, axis=1))


def test_later_updates_win() -> None:
    (y,) = run("ScatterND", [np.zeros(2, np.float32), np.array([[1], [1]]), np.array([3, 4], np.float32)])
    np.testing.assert_array_equal(y, [0, 4])
