"""Operators on tensors of strings: those that move elements, and comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from sardonyx.host.table import Array, Function, Table, fresh, plain


def reshape(allowzero: int = 0) -> Function:
    """x: T[*d], shape: i64[r] -> T[*shape]; -1 stands for the remaining size, 0 for the size of x (unless allowzero)."""

    def run(x: Array, shape: Array) -> Array:
        sizes = shape.tolist()
        if 0 in sizes and not allowzero:
            sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    return run


def gather(axis: int = 0) -> Function:
    """x: T[*d], indices: i[*k] -> T with d[axis] replaced by *k; negative indices count from the end."""
    return fresh(lambda x, indices: x.take(indices, axis))


def concat(axis: int) -> Function:
    """xs: T[*d] that differ only along the axis -> their concatenation."""
    return fresh(lambda *xs: np.concatenate(xs, axis))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Remove these axes of size 1; by default all axes of size 1."""
    return x.squeeze(None if axes is None else tuple(axes.tolist()))


def squeeze_1(axes: tuple[int, ...] | None = None) -> Function:
    """Squeeze before opset 13, where the axes are an attribute."""
    return lambda x: x.squeeze(axes)


def unsqueeze(x: Array, axes: Array) -> Array:
    """Insert axes of size 1 at these positions of the result."""
    return np.expand_dims(x, tuple(axes.tolist()))


def unsqueeze_1(axes: tuple[int, ...]) -> Function:
    """Unsqueeze before opset 13, where the axes are an attribute."""
    return lambda x: np.expand_dims(x, axes)


def slice_(data: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    """Return x[start:end:step] along each of the axes, by default the first ones."""
    where = axes.tolist() if axes is not None else range(len(starts))
    by = steps.tolist() if steps is not None else [1] * len(starts)
    taken: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(where, starts.tolist(), ends.tolist(), by, strict=True):
        size = data.shape[axis]
        first = max(start, -size) if step < 0 else start  # clamped to the first element; Python's slice would be empty
        taken[axis] = slice(first, None if step < 0 and end < -size else end, step)
    return np.ascontiguousarray(data[tuple(taken)])


def transpose(perm: tuple[int, ...] | None = None) -> Function:
    return lambda x: np.ascontiguousarray(x.transpose(perm))


def flatten(axis: int = 1) -> Function:
    def run(x: Array) -> Array:
        cut = axis + x.ndim if axis < 0 else axis
        return x.reshape(int(np.prod(x.shape[:cut], dtype=np.int64)), -1)

    return run


def select(condition: Array, x: Array, y: Array) -> Array:
    return np.where(condition, x, y)


def equal(x: Array, y: Array) -> Array:
    return np.asarray(x == y, bool)


def shape(start: int = 0, end: int | None = None) -> Function:
    return lambda x: np.array(x.shape[start:end], np.int64)


def size(x: Array) -> Array:
    return np.array(x.size, np.int64)


def expand(x: Array, sizes: Array) -> Array:
    """Broadcast x with a tensor of these sizes."""
    wanted: tuple[Any, ...] = np.broadcast_shapes(x.shape, tuple(sizes.tolist()))
    return np.ascontiguousarray(np.broadcast_to(x, wanted))


TABLE: Table = {
    "Concat": ((4, concat),),
    "Equal": ((19, lambda: equal),),
    "Expand": plain(expand),
    "Flatten": ((1, flatten),),
    "Gather": ((1, gather),),
    "Identity": plain(lambda x: x),
    "Reshape": ((5, reshape),),
    "Shape": ((1, shape),),
    "Size": plain(size),
    "Slice": ((10, lambda: slice_),),
    "Squeeze": ((1, squeeze_1), (13, lambda: squeeze)),
    "Transpose": ((1, transpose),),
    "Unsqueeze": ((1, unsqueeze_1), (13, lambda: unsqueeze)),
    "Where": plain(select),
}
