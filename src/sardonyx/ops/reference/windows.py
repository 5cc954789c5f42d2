"""Convolutions and pooling in numpy, on windows that are views without a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from sardonyx.ops.reference.arrays import Array, wide


class Window(Struct, frozen=True):
    """How a window slides over the spatial axes: one entry per axis, except `pads`, which has all heads, then all tails."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Return how many input positions the window spans along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def make_window(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Window:
    """Return the window over spatial axes of these sizes, with `auto_pad` and `ceil_mode` resolved.

    out = floor((size + pads - extent) / stride) + 1, or rounded up with ceil_mode. SAME_*: out = ceil(size / stride), with the odd
    pad at the end (UPPER) or the start (LOWER). A last window that would start in the padding at the end is dropped.
    """
    rank = len(kernel)
    strides = tuple(strides or [1] * rank)
    dilations = tuple(dilations or [1] * rank)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [-(-n // s) for n, s in zip(sizes, strides, strict=True)]
        total = [max((o - 1) * s + e - n, 0) for o, s, e, n in zip(wanted, strides, extents, sizes, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*small, *large] if auto_pad == "SAME_UPPER" else [*large, *small]
    elif auto_pad == "VALID" or not pads:
        pads = [0] * (2 * rank)
    outputs = []
    for n, e, s, head, tail in zip(sizes, extents, strides, pads[:rank], pads[rank:], strict=True):
        steps = (n + head + tail - e) / s
        out = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
        if ceil_mode and (out - 1) * s >= n + head:
            out -= 1
        outputs.append(out)
    return Window(tuple(kernel), strides, dilations, tuple(pads), tuple(outputs))


def padded(x: Array, window: Window, fill: float) -> Array:
    """Add the window's padding, and as many elements at the end as its last position needs."""
    rank = len(window.kernel)
    needs = [(o - 1) * s + e for o, s, e in zip(window.outputs, window.strides, window.extents, strict=True)]
    spatial = x.shape[2:]
    widths = [
        (head, max(tail, need - n - head))
        for head, tail, need, n in zip(window.pads[:rank], window.pads[rank:], needs, spatial, strict=True)
    ]
    return np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)


def view(x: Array, window: Window) -> Array:
    """Return all windows of an array that is already padded. -> [n, c, *outputs, *kernel]"""
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, window.extents, axes)
    places = tuple(slice(0, (o - 1) * s + 1, s) for o, s in zip(window.outputs, window.strides, strict=True))
    taps = tuple(slice(None, None, d) for d in window.dilations)
    return windows[(slice(None), slice(None), *places, *taps)]


# ---- convolutions ---------------------------------------------------------------------------------------------------------


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Compute ConvTranspose: every input element adds its multiple of the kernel. x: T[n, c, *s], w: T[c, m / group, *k], b: T[m]
    -> T[n, m, *o]. Raises ValueError where pads cut off more than there is.
    """
    rank = x.ndim - 2
    strides, dilations = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
    extra = tuple(output_padding or [0] * rank)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(x.shape[2:], strides, w.shape[2:], dilations, strict=True)]
    heads, sizes = transposed_frame(x.shape[2:], strides, full, extra, pads, output_shape, auto_pad)
    if min(sizes, default=0) < 0:
        raise ValueError(f"transposed convolution of {x.shape} gives {sizes}")
    n, m = x.shape[0], w.shape[1] * group
    room = [max(f, h + size) for f, h, size in zip(full, heads, sizes, strict=True)]
    out = np.zeros((n, m, *room), wide(x).dtype)
    channels, columns = x.shape[1] // group, w.shape[1]
    for g in range(group):
        part = wide(x[:, g * channels : (g + 1) * channels])
        weights = wide(w[g * channels : (g + 1) * channels])
        for tap in np.ndindex(*w.shape[2:]):
            places = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, s, size in zip(tap, dilations, strides, x.shape[2:], strict=True)
            )
            product = np.tensordot(part, weights[(slice(None), slice(None), *tap)], (1, 0))
            out[(slice(None), slice(g * columns, (g + 1) * columns), *places)] += np.moveaxis(product, -1, 1)
    cut = tuple(slice(h, h + size) for h, size in zip(heads, sizes, strict=True))
    out = out[(slice(None), slice(None), *cut)]
    if b is not None:
        out = out + b.reshape(1, -1, *[1] * rank)
    return out.astype(x.dtype)


def transposed_frame(
    inputs: Sequence[int],
    strides: Sequence[int],
    full: Sequence[int],
    extra: Sequence[int],
    pads: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    auto_pad: str,
) -> tuple[list[int], list[int]]:
    """Return, for each axis, the first index and the size of the output inside the full result of a transposed convolution, before
    pads are removed.
    """
    rank = len(full)
    if output_shape or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = list(output_shape)[-rank:] if output_shape else [n * s for n, s in zip(inputs, strides, strict=True)]
        total = [f + e - size for f, e, size in zip(full, extra, wanted, strict=True)]
        if auto_pad == "SAME_UPPER":
            return [max(t, 0) // 2 for t in total], wanted
        return [max(t, 0) - max(t, 0) // 2 for t in total], wanted
    pads = pads or [0] * (2 * rank)
    heads = list(pads[:rank])
    return heads, [f + e - h - t for f, e, h, t in zip(full, extra, heads, pads[rank:], strict=True)]


# ---- pooling --------------------------------------------------------------------------------------------------------------


def max_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> tuple[Array, Array]:
    """Compute MaxPool: the maximum of each window, and its index into the flattened input (column-major if `storage_order` is 1)."""
    window = make_window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    lowest = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
    windows = view(padded(x, window, lowest), window)
    rank = len(window.kernel)
    flat = windows.reshape(*windows.shape[: 2 + rank], math.prod(window.kernel))
    best = flat.argmax(-1)
    return np.take_along_axis(flat, best[..., None], -1)[..., 0], places_of(best, x.shape, window, storage_order)


def places_of(best: Array, shape: tuple[int, ...], window: Window, storage_order: int) -> Array:
    """Convert the tap `best` of each window into an index into the flattened input. -> i64, in the shape of best"""
    rank = len(window.kernel)
    taps = np.unravel_index(best, window.kernel)
    coordinates = []
    for axis, tap in enumerate(taps):
        start = np.arange(window.outputs[axis]) * window.strides[axis] - window.pads[axis]
        start = start.reshape(-1, *[1] * (rank - 1 - axis))
        coordinates.append(start + tap * window.dilations[axis])
    spatial = shape[2:]
    order = "F" if storage_order else "C"
    inner = np.zeros(best.shape, np.int64)
    step = 1
    for axis in range(rank) if order == "F" else reversed(range(rank)):
        inner += coordinates[axis] * step
        step *= spatial[axis]
    planes = np.arange(shape[0] * shape[1]).reshape(shape[0], shape[1], *[1] * rank)
    return np.asarray(planes * step + inner, np.int64)


def average_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Compute AveragePool: the mean of each window over the elements inside the input, or over input and padding."""
    window = make_window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    rank = len(window.kernel)
    axes = tuple(range(-rank, 0))
    total = view(padded(x.astype(np.float64), window, 0), window).sum(axes)
    counted = np.ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        counted = np.pad(counted, [(0, 0), (0, 0), *zip(window.pads[:rank], window.pads[rank:], strict=True)], constant_values=1)
        bare = Window(window.kernel, window.strides, window.dilations, (0,) * (2 * rank), window.outputs)
        count = view(padded(counted, bare, 0), bare).sum(axes)
    else:
        count = view(padded(counted, window, 0), window).sum(axes)
    return np.asarray(total / count, x.dtype)


def lp_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: float = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """Compute LpPool: the p-norm of each window."""
    window = make_window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    powers = np.abs(x.astype(np.float64)) ** p
    total = view(padded(powers, window, 0), window).sum(tuple(range(-len(window.kernel), 0)))
    return np.asarray(total ** (1 / p), x.dtype)


def global_lp_pool(x: Array, p: float = 2) -> Array:
    """Compute GlobalLpPool: the p-norm of each channel."""
    total = (np.abs(x.astype(np.float64)) ** p).sum(tuple(range(2, x.ndim)), keepdims=True)
    return np.asarray(total ** (1 / p), x.dtype)


def global_max_pool(x: Array) -> Array:
    """Compute GlobalMaxPool: the maximum of each channel."""
    return np.asarray(x.max(tuple(range(2, x.ndim)), keepdims=True))
