"""Operators of the first opset, beside numpy. Their records' cases are compared with onnxruntime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail, InvalidGraph
from tests.ops import harness

X = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32) * 4


def run(name: str, *inputs: harness.Array, version: int = 1, **attributes: Any) -> harness.Array:
    (got,) = harness.run(name, inputs, attributes, version=version, symbolic=True)
    return got


@pytest.mark.parametrize("version", [1, 9])
@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("Affine", {}, X),
        ("Affine", {"alpha": 0.5, "beta": 2.0}, X * 0.5 + 2),
        ("Scale", {}, X),
        ("Scale", {"scale": -3.0}, X * -3),
        ("ScaledTanh", {"alpha": 2.0, "beta": 0.5}, 2 * np.tanh(X * 0.5)),
        ("ParametricSoftplus", {"alpha": 2.0, "beta": 0.5}, 2 * np.logaddexp(0, X * 0.5)),
    ],
)
def test_element_by_element(name: str, attributes: dict[str, Any], expected: harness.Array, version: int) -> None:
    np.testing.assert_allclose(run(name, X, version=version, **attributes), expected, 1e-5, 1e-6)


@pytest.mark.parametrize(("name", "missing"), [("ScaledTanh", "alpha"), ("ParametricSoftplus", "alpha")])
def test_factors_without_a_default(name: str, missing: str) -> None:
    with pytest.raises(InvalidGraph, match=f"Required attribute '{missing}'"):
        run(name, X, beta=1.0)


def test_images_scaled() -> None:
    bias = np.array([1, -2, 0.5], np.float32)
    np.testing.assert_allclose(run("ImageScaler", X, scale=0.5, bias=bias.tolist()), X * 0.5 + bias[:, None, None], 1e-6)
    with pytest.raises(Fail, match="2 biases"):
        harness.run("ImageScaler", [X], {"bias": [1.0, 2.0]}, version=1)


@pytest.mark.parametrize(("border", "scale"), [((0, 0, 0, 0), ()), ((1, 2, 0, 1), ()), ((1, 2, 0, 0), (3, 2)), ((0, 0, 4, 5), ())])
def test_crops(border: tuple[int, ...], scale: tuple[int, ...]) -> None:
    left, top, right, bottom = border
    end = (top + scale[0], left + scale[1]) if scale else (5 - bottom, 4 - right)
    got = run("Crop", X, border=border, **({"scale": scale} if scale else {}))
    np.testing.assert_array_equal(got, X[:, :, top : end[0], left : end[1]])


@pytest.mark.parametrize(("border", "scale"), [((1, 2, 3), ()), ((0, 4, 0, 2), ()), ((0, 3, 0, 0), (3, 2)), ((-1, 0, 0, 0), ())])
def test_crops_that_do_not_fit(border: tuple[int, ...], scale: tuple[int, ...]) -> None:
    with pytest.raises(Fail, match="Crop"):
        harness.run("Crop", [X], {"border": border, **({"scale": scale} if scale else {})}, version=1)


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_slices_of_fed_bounds(index_type: Any) -> None:
    starts, ends, axes = (np.array(n, index_type) for n in ([1, -3], [100, -1], [-1, 2]))
    (got,) = harness.run("DynamicSlice", [X, starts, ends, axes], {}, version=1)
    np.testing.assert_array_equal(got, X[:, :, -3:-1, 1:])
    (got,) = harness.run("DynamicSlice", [X, starts, ends], {}, version=1)
    np.testing.assert_array_equal(got, X[1:, -3:-1])
