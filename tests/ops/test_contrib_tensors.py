"""com.microsoft's operators that move, pick or sample elements, in random forms beside numpy and onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"


def run(name: str, inputs: Sequence[Array | None], outputs: int = 1, symbolic: bool = False, **attributes: Any) -> list[Array]:
    return harness.run(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs, symbolic=symbolic)


def theirs(name: str, inputs: Sequence[Array | None], outputs: int = 1, **attributes: Any) -> list[Array]:
    return harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs)


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def real(by: np.random.Generator, *shape: int) -> Array:
    return by.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 3, -1, -4])
@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.bool_, np.uint64])
def test_an_axis_of_one_element(axis: int, dtype: Any) -> None:
    x = (real(draw(0), 2, 3, 4) * 9).astype(dtype)
    (got,) = harness.run("ExpandDims", [x, np.array(axis, np.int32)], version=1, domain=DOMAIN, known=[1])
    np.testing.assert_array_equal(got, np.expand_dims(x, axis))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(("start", "limit", "delta"), [(0, 7, 2), (5, -3, -2), (4, 4, 1), (9, 3, 1), (2, 6, None)])
def test_range(dtype: Any, start: int, limit: int, delta: int | None) -> None:
    inputs = [np.array(n, dtype) for n in (start, limit, delta) if n is not None]
    (got,) = run("Range", inputs)
    np.testing.assert_array_equal(got, np.arange(start, limit, 1 if delta is None else delta).astype(dtype))
    assert got.dtype == dtype


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_unique_numbers_in_the_order_of_their_first_places(count: int) -> None:
    x = draw(count).integers(0, 9, count).astype(np.float32)
    got = run("Unique", [x], 3, symbolic=True)
    _, first = np.unique(x, return_index=True)
    expected = x[np.sort(first)]
    np.testing.assert_array_equal(got[0], expected)
    np.testing.assert_array_equal(expected[got[1]], x)
    np.testing.assert_array_equal(got[2], [(x == e).sum() for e in expected])


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_gather_of_tuples(index_type: Any) -> None:
    by = draw(2)
    x, indices = real(by, 3, 4, 5), np.stack([by.integers(-3, 3, (2, 6)), by.integers(-4, 4, (2, 6))], -1).astype(index_type)
    (got,) = run("GatherND", [x, indices])
    np.testing.assert_array_equal(got, x[indices[..., 0], indices[..., 1]])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 2, 3, 0), (-1, 1, 0, -2), (2, -1, -1, 2)])
@pytest.mark.parametrize("flat", [True, False])
def test_pad(mode: str, pads: tuple[int, ...], flat: bool) -> None:
    x, amounts = real(draw(1), 4, 5), np.array(pads, np.int64)
    inputs = [x, amounts if flat else amounts[None], np.array(2.5, np.float32)]
    (got,) = run("Pad", inputs, mode=mode)
    np.testing.assert_array_equal(got, theirs("Pad", inputs, mode=mode)[0])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, -5, -1, 0, 2])
def test_triangles(upper: int, k: int | None) -> None:
    x = real(draw(1), 2, 3, 4)
    (got,) = run("Trilu", [x] if k is None else [x, np.array(k)], upper=upper)
    np.testing.assert_array_equal(got, (np.triu if upper else np.tril)(x, k or 0))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [0, 1])
def test_grid_sample(mode: str, padding_mode: str, align_corners: int) -> None:
    by = draw(3)
    inputs = [real(by, 2, 3, 4, 5), by.uniform(-1.3, 1.3, (2, 3, 2, 2)).astype(np.float32)]
    form = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    np.testing.assert_allclose(run("GridSample", inputs, **form)[0], theirs("GridSample", inputs, **form)[0], 1e-5, 1e-5)


@pytest.mark.parametrize(("size", "dim", "step"), [(1, 0, 1), (3, -1, 1), (2, 1, 2), (4, 2, 3), (5, 2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.bool_])
def test_unfolded_axes(size: int, dim: int, step: int, dtype: Any) -> None:
    x = (real(draw(1), 3, 4, 5) * 5).astype(dtype)
    (got,) = run("UnfoldTensor", [x], symbolic=True, size=size, dim=dim, step=step)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, dim)
    np.testing.assert_array_equal(got, np.moveaxis(np.moveaxis(windows, dim % 3, 0)[::step], 0, dim % 3))


def test_slices_longer_than_their_axis() -> None:
    with pytest.raises(Fail, match="UnfoldTensor"):
        run("UnfoldTensor", [real(draw(0), 3, 4)], size=5)


@pytest.mark.parametrize("known", [[], [2]])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 2, 1)])
@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolution_with_fed_pads(pads: tuple[int, ...], group: int, known: list[int]) -> None:
    by = draw(0)
    inputs = [real(by, 2, 4, 5, 3), real(by, 4, 3, 3, 2), np.array(pads, np.int64), real(by, 3 * group)]
    form = {"group": group, "strides": [2, 1], "dilations": [1, 2], "kernel_shape": [3, 2]}
    (got,) = harness.run("ConvTransposeWithDynamicPads", inputs, form, version=1, domain=DOMAIN, known=known)
    plain = [x for i, x in enumerate(inputs) if i != 2]
    (expected,) = harness.onnxruntime_reference("ConvTranspose", plain, {**form, "pads": list(pads)}, version=11)
    np.testing.assert_allclose(got, expected, 1e-4, 1e-4)


def masked_maximum(x: Array, mask: Array, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> Array:
    """Two spatial axes, one window after the other."""
    n, c, h, w = x.shape
    out = [(size + pads[a] + pads[2 + a] - kernel[a]) // strides[a] + 1 for a, size in enumerate((h, w))]
    y = np.full((n, c, *out), np.finfo(np.float32).min)
    for b, k, i, j in np.ndindex(*y.shape):
        own = mask.reshape(-1, h, w)[(b * c + k) % (mask.shape[0] * mask.shape[1])]
        for row in range(max(i * strides[0] - pads[0], 0), min(i * strides[0] - pads[0] + kernel[0], h)):
            for column in range(max(j * strides[1] - pads[1], 0), min(j * strides[1] - pads[1] + kernel[1], w)):
                if row * w + column > 0 and own[row, column] == 0:
                    break
                y[b, k, i, j] = max(y[b, k, i, j], x[b, k, row, column])
    return y.astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_masked_windows(seed: int) -> None:
    by = draw(seed)
    x = real(by, 2, 3, 5, 6)
    mask = (by.random([(1, 1, 5, 6), (2, 3, 5, 6), (1, 3, 5, 6)][seed % 3]) < 0.8).astype(np.int32)
    kernel, strides = [3, 2 + seed % 2], [1 + seed % 2, 2]
    pads = [seed % 2, 0, 1, seed % 2]
    (got,) = run("MaxpoolWithMask", [x, mask], kernel_shape=kernel, strides=strides, pads=pads)
    np.testing.assert_array_equal(got, masked_maximum(x, mask, kernel, strides, pads))
    if mask.shape[:2] == (1, 1):
        np.testing.assert_array_equal(got, theirs("MaxpoolWithMask", [x, mask], kernel_shape=kernel, strides=strides, pads=pads)[0])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 5), (7, 2)])
def test_crops(mode: str, size: tuple[int, int]) -> None:
    by = draw(size[1])
    boxes = by.uniform(-0.2, 1.2, (6, 4)).astype(np.float32)
    inputs = [real(by, 3, 2, 5, 7), boxes, by.integers(0, 3, 6).astype(np.int32), np.array(size, np.int32)]
    form = {"mode": mode, "extrapolation_value": -3.0}
    np.testing.assert_allclose(run("CropAndResize", inputs, **form)[0], theirs("CropAndResize", inputs, **form)[0], 1e-4, 1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 5, 5), (2, 0, 3, 3), (17, 17)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_inverses(shape: tuple[int, ...], symbolic: bool) -> None:
    x = real(draw(shape[-1]), *shape) + 2 * np.eye(shape[-1], dtype=np.float32)[::-1]
    (got,) = run("Inverse", [x], symbolic=symbolic)
    np.testing.assert_allclose(got @ x.astype(np.float64), np.broadcast_to(np.eye(shape[-1]), shape), rtol=0, atol=2e-4)


def test_the_inverse_of_a_matrix_that_is_not_square() -> None:
    with pytest.raises(Fail, match="inverse"):
        run("Inverse", [real(draw(0), 3, 4)])
