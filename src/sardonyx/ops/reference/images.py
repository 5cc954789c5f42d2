"""Resize and Upsample of early opsets, and pooling of regions, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.ops.reference.arrays import Array, evaluate

_EMPTY = np.zeros(0, np.float32)


def resize_10(x: Array, scales: Array, mode: str = "nearest") -> Array:
    """Compute Resize of opset 10, or Upsample: coordinates are divided by the scale, and "nearest" rounds down."""
    return evaluate(
        "op_resize.Resize",
        x,
        _EMPTY,
        np.asarray(scales, np.float32),
        mode="linear" if mode == "bilinear" else mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def upsample_7(x: Array, scales: Sequence[float], mode: str = "nearest") -> Array:
    """Compute Upsample of opset 7, whose scales are an attribute."""
    return resize_10(x, np.array(scales, np.float32), mode)


def upsample_1(x: Array, height_scale: float, width_scale: float, mode: str = "nearest") -> Array:
    """Compute Upsample of opset 1, which scales height and width."""
    return resize_10(x, np.array([1, 1, height_scale, width_scale], np.float32), mode)


def roi_align_10(x: Array, rois: Array, batches: Array, **attributes: Any) -> Array:
    """Compute RoiAlign before opset 16, which does not shift coordinates by half a pixel."""
    return evaluate("op_roi_align.RoiAlign", x, rois, batches, coordinate_transformation_mode="output_half_pixel", **attributes)


def max_roi_pool(x: Array, rois: Array, pooled_shape: Sequence[int], spatial_scale: float = 1.0) -> Array:
    """Compute MaxRoiPool: the greatest element of each cell, 0 for an empty cell. x: f[n, c, h, w], rois: f[r, 5] of (batch, x1,
    y1, x2, y2) -> f[r, c, *pooled_shape]
    """
    rows, columns = pooled_shape
    out = np.zeros((len(rois), x.shape[1], rows, columns), x.dtype)
    for r, (batch, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (int(np.floor(c * spatial_scale + 0.5)) for c in corners)
        ys = cells(y1, y2, rows, x.shape[2])
        xs = cells(x1, x2, columns, x.shape[3])
        for i, j in np.ndindex(rows, columns):
            cell = x[int(batch), :, slice(*ys[i]), slice(*xs[j])]
            if cell.size:
                out[r, :, i, j] = cell.max((1, 2))
    return out


def cells(first: int, last: int, count: int, limit: int) -> list[tuple[int, int]]:
    """Return the bounds, within [0, limit), of `count` cells of equal size over the pixels from first to last."""
    size = max(last - first + 1, 1) / count
    bounds = [(first + int(np.floor(i * size)), first + int(np.ceil((i + 1) * size))) for i in range(count)]
    return [(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in bounds]
