"""Operators in numpy that move, select and pad elements; also Optional, quantisation of early opsets, and random choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import from_numpy
from sardonyx.base.errors import Fail
from sardonyx.ops.reference.arrays import Array, evaluate


def slice_(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    """Compute Slice with bounds clamped as ONNX demands. For negative steps a start before the first element becomes the first,
    where numpy selects nothing.
    """
    index = [slice(None)] * x.ndim
    over = range(len(starts)) if axes is None else axes.tolist()
    by = [1] * len(starts) if steps is None else steps.tolist()
    for axis, start, end, step in zip(over, starts.tolist(), ends.tolist(), by, strict=True):
        n = x.shape[axis]
        start, end = (bound + n if bound < 0 else bound for bound in (start, end))
        if step > 0:
            index[axis] = slice(max(start, 0), max(end, 0), step)
        else:
            end = min(max(end, -1), n - 1)
            index[axis] = slice(min(max(start, 0), n - 1), end if end >= 0 else None, step)
    return x[tuple(index)]


def gather_elements(x: Array, indices: Array, axis: int = 0) -> Array:
    """Compute GatherElements: y[..., i, ...] = x[..., indices[..., i, ...], ...]. Along other axes indices may be shorter than x."""
    check_bounds(indices, x.shape[axis])
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = indices
    return np.asarray(x[tuple(places)])


def check_bounds(indices: Array, size: int) -> None:
    """Raise IndexError for the first index that is not in [-size, size)."""
    bad = indices[(indices < -size) | (indices >= size)]
    if bad.size:
        raise IndexError(
            f"indices element out of data bounds, idx={bad.flat[0]} must be within the inclusive range [{-size},{size - 1}]"
        )


def scatter(x: Array, indices: Array, updates: Array, axis: int = 0) -> Array:
    """Compute Scatter, the earlier name of ScatterElements."""
    return evaluate("op_scatter_elements.ScatterElements", x, indices, updates, axis=axis)


def pad(x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, mode: str = "constant") -> Array:
    """Compute Pad. Negative pads crop, before other pads are added. Raises Fail if a reflected border is longer than what it
    mirrors.
    """
    chosen = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
    half = len(pads) // 2
    widths = [(0, 0)] * x.ndim
    for axis, head, tail in zip(chosen, pads[:half], pads[half:], strict=True):
        widths[axis] = int(head), int(tail)
    cropped = x[tuple(slice(max(-head, 0), size - max(-tail, 0)) for (head, tail), size in zip(widths, x.shape, strict=True))]
    grown = [(max(head, 0), max(tail, 0)) for head, tail in widths]
    for axis, (width, size) in enumerate(zip(grown, cropped.shape, strict=True)):
        if mode == "reflect" and max(width) > max(size - 1, 0):
            raise Fail(f"Pad reflect: {max(width)} is longer than axis {axis} of {list(cropped.shape)} can mirror")
    if mode != "constant":
        return np.pad(cropped, grown, mode)  # type: ignore[call-overload, no-any-return]
    fill = np.zeros((), x.dtype) if value is None or value.size == 0 else np.asarray(value).reshape(-1)[0]
    if x.dtype != object:
        return np.pad(cropped, grown, constant_values=fill)
    out = np.full([n + a + b for n, (a, b) in zip(cropped.shape, grown, strict=True)], "" if value is None else fill, object)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(cropped.shape, grown, strict=True))] = cropped
    return out


def non_max_suppression(
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
    center_point_box: int = 0,
) -> Array:
    """Compute NonMaxSuppression with the standard's defaults: without a maximum no box is selected; the default IoU threshold is 0."""
    limits = [np.array([0], np.int64) if most is None else np.asarray(most).reshape(-1)]
    limits.append(np.zeros(1, np.float32) if iou_threshold is None else np.asarray(iou_threshold).reshape(-1))
    if score_threshold is not None:
        limits.append(np.asarray(score_threshold).reshape(-1))
    if int(limits[0][0]) == 0:
        return np.zeros((0, 3), np.int64)
    return evaluate("op_non_max_suppression.NonMaxSuppression", boxes, scores, *limits, center_point_box=center_point_box)


LARGE = 1 << 20
"""Quotients beyond it saturate in each integer dtype of at most 16 bits, whatever the zero point."""


def quantize_linear(
    x: Array, scale: Array, zero: Array | None = None, axis: int = 1, block_size: int = 0, **attributes: Any
) -> Array:
    """Compute QuantizeLinear. Quotients that do not fit 32 bits saturate too, where onnx.reference lets them wrap."""
    inputs = (x, scale) if zero is None else (x, scale, zero)
    result = evaluate("op_quantize_linear.QuantizeLinear_25", *inputs, axis=axis, block_size=block_size, **attributes)
    dtype = from_numpy(result.dtype)
    if dtype.is_float:
        return result
    half = 1 << (dtype.bits - 1)
    low, high = (-half, half - 1) if dtype.kind == "int" else (0, 2 * half - 1)
    with np.errstate(all="ignore"):
        quotient = x / per_element(scale, x.shape, axis, block_size)
    ends = np.where(quotient > 0, high, low).astype(result.dtype)
    return np.where(np.abs(quotient) > LARGE, ends, result)


def per_element(scale: Array, shape: tuple[int, ...], axis: int, block_size: int) -> Array:
    """Give a scale the rank of a tensor of this shape: scale is one number, or one for each index, or block of indices, of the
    axis.
    """
    if scale.size == 1:
        return scale.reshape(())
    if not block_size:
        return scale.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))])
    return np.repeat(scale, block_size, axis).take(np.arange(shape[axis]), axis)


def dequantize_linear(x: Array, scale: Array, zero: Array | None = None, axis: int = 1) -> Array:
    """Compute DequantizeLinear before opset 19."""
    inputs = (x, scale) if zero is None else (x, scale, zero)
    return evaluate("op_dequantize_linear.DequantizeLinear_19", *inputs, axis=axis)


def optional(x: Any = None, **_: Any) -> Any:
    """Compute Optional: its element, or None."""
    return x


def multinomial(x: Array, dtype: int = 6, sample_size: int = 1, seed: float | None = None) -> Array:
    """Draw classes with replacement. x: unnormalised log-probabilities f[b, classes] -> i[b, sample_size]"""
    draw = np.random.default_rng(None if seed is None else int(np.float32(seed).view(np.uint32)))
    weights = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    edges = np.cumsum(weights, 1)
    points = draw.random((len(x), sample_size)) * edges[:, -1:]
    picked = (points[:, :, None] >= edges[:, None, :]).sum(-1)
    return np.asarray(np.minimum(picked, x.shape[1] - 1), np.int64 if dtype == 7 else np.int32)


def one_hot(indices: Array, depth: Array, values: Sequence[float], axis: int = -1) -> Array:
    """Compute OneHot: `on` at each index, else `off`. Negative indices count from the end; indices out of range match no position."""
    size = int(np.asarray(depth).reshape(-1)[0])
    off, on = np.asarray(values)
    wanted = np.expand_dims(np.where(indices < 0, indices + size, indices), axis)
    shape = [1] * wanted.ndim
    shape[axis] = size
    return np.asarray(np.where(wanted == np.arange(size).reshape(shape), on, off))
