"""Elementwise operators in numpy: broadcasting and Softmax of early opsets, reductions and normalisations that onnx.reference
computes wrongly.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.ops.reference.arrays import Array


def explicit_broadcast(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """Return a binary operator's form before opset 7: b is broadcast only on request, with its axes aligned to those of a from
    `axis` on.
    """

    def apply(a: Array, b: Array, axis: int | None = None, broadcast: int = 0, consumed_inputs: object = None) -> Array:
        if broadcast and axis is not None:
            b = b.reshape(b.shape + (1,) * (a.ndim - axis % a.ndim - b.ndim))
        elif not broadcast and a.shape != b.shape:
            raise ValueError(f"shapes {a.shape} and {b.shape} differ and broadcast is not set")
        with np.errstate(all="ignore"):
            return function(a, b)

    return apply


def divide(a: Array, b: Array) -> Array:
    """Divide; integers by truncation towards zero."""
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)


def flattened(function: Callable[[Array], Array]) -> Callable[..., Array]:
    """Return an operator's form before opset 13, which treats all axes from `axis` on as one."""

    def apply(x: Array, axis: int = 1) -> Array:
        axis = axis % x.ndim if x.ndim else 0
        rows = x.reshape(int(np.prod(x.shape[:axis])), -1) if x.size else x.reshape(x.shape[0], 0)
        return function(rows).reshape(x.shape) if x.size else x

    return apply


def softmax(rows: Array) -> Array:
    e = np.exp(rows - rows.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def log_softmax(rows: Array) -> Array:
    shifted = rows - rows.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def log_softmax_along(x: Array, axis: int = -1) -> Array:
    """Compute LogSoftmax since opset 13. onnx.reference writes into its input if that is empty."""
    if x.size == 0:
        return x.copy()
    shifted = x - x.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)), x.dtype)


def erf(x: Array) -> Array:
    """Compute Erf in the dtype of x. onnx.reference rounds to f32."""
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), x.dtype)


def hardmax(rows: Array) -> Array:
    """Compute 1 at the first greatest element of each row, else 0. A row with a NaN has no 1."""
    out = np.zeros_like(rows)
    np.put_along_axis(out, rows.argmax(1)[:, None], ~np.isnan(rows).any(1, keepdims=True), 1)
    return out


def log_of_sum(
    x: Array, axes: Array | Sequence[int] | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0, exponential: bool = False
) -> Array:
    """Compute ReduceLogSum or (exponential) ReduceLogSumExp. Integers are computed in float64."""
    over: tuple[int, ...] | None = None if axes is None else tuple(int(axis) for axis in axes)
    if not over:
        over = () if noop_with_empty_axes else None
    y = x.astype(np.float64) if x.dtype.kind in "iu" else x
    with np.errstate(all="ignore"):
        if not exponential:
            return np.asarray(np.log(y.sum(over, keepdims=bool(keepdims)))).astype(x.dtype)
        top = y.max(over, keepdims=True, initial=-np.inf)
        finite = np.where(np.isfinite(top), top, 0)
        total = np.log(np.exp(y - finite).sum(over, keepdims=True)) + finite
    return np.asarray(total if keepdims else total.reshape(y.sum(over).shape), x.dtype)


def mean(x: Array, axes: Array | Sequence[int] | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Compute ReduceMean. Integers over no elements give 0; numpy's result depends on the processor."""
    over: tuple[int, ...] | None = None if axes is None else tuple(int(axis) for axis in axes)
    if not over:
        over = () if noop_with_empty_axes else None
    if x.size == 0 and x.dtype.kind in "iu":
        return np.asarray(np.zeros_like(x).sum(over, x.dtype, keepdims=bool(keepdims)))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.mean(x, over, x.dtype, keepdims=bool(keepdims)), x.dtype)


def log_of_sum_of_exponentials(x: Array, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    return log_of_sum(x, axes, keepdims, noop_with_empty_axes, exponential=True)


def lp_normalization(x: Array, axis: int = -1, p: int = 2) -> Array:
    """Divide x by its p-norm along an axis; 0 where the norm is 0."""
    norm = np.sum(np.abs(x) ** p, axis, keepdims=True) ** (1 / p)
    return np.asarray(np.divide(x, norm, out=np.zeros_like(x), where=norm != 0))


def lrn(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """Compute x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta."""
    before, after = (size - 1) // 2, size // 2
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return (x / (bias + alpha / size * np.asarray(total)) ** beta).astype(x.dtype)


def batch_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    outputs: int = 1,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    is_test: int = 0,
    training_mode: int | None = None,
    consumed_inputs: object = None,
) -> tuple[Array, ...]:
    """Compute any version of BatchNormalization. Before opset 14 a node with several outputs is in training mode; `spatial` = 0 has
    statistics for each element.
    """
    training = outputs > 1 if training_mode is None else bool(training_mode)
    axes = (0, *range(2, x.ndim)) if spatial else (0,)
    shape = (1, -1, *[1] * (x.ndim - 2)) if spatial else (1, *x.shape[1:])
    now_mean, now_variance = mean, variance
    if training:
        wide = x.astype(np.float64) if x.dtype.itemsize > 2 else x.astype(np.float32)
        now_mean, now_variance = wide.mean(axes).astype(mean.dtype), wide.var(axes).astype(variance.dtype)
    factor = scale.reshape(shape) / np.sqrt(now_variance.reshape(shape) + epsilon)
    y = ((x - now_mean.reshape(shape)) * factor + bias.reshape(shape)).astype(x.dtype)
    if not training:
        return y, mean, variance, mean, variance
    running_mean = mean * momentum + now_mean * (1 - momentum)
    running_variance = variance * momentum + now_variance * (1 - momentum)
    return y, running_mean.astype(mean.dtype), running_variance.astype(variance.dtype), now_mean, now_variance


def dropout(x: Array, ratio: float = 0.5, is_test: int = 0, outputs: int = 1, consumed_inputs: object = None) -> Any:
    """Compute Dropout before opset 7 at inference: x, and a mask of ones."""
    return x, np.ones(x.shape, x.dtype)


def reshape(x: Array, shape: Sequence[int], consumed_inputs: object = None) -> Array:
    """Compute Reshape of opset 1, whose shape is an attribute; 0 keeps a size."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def split(x: Array, lengths: Array | None = None, axis: int = 0, split: Sequence[int] = (), outputs: int = 1) -> tuple[Array, ...]:
    """Compute Split of opset 1: sizes as an input or an attribute, else equal parts."""
    sizes = list(lengths) if lengths is not None else list(split) or [x.shape[axis] // outputs] * outputs
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": divide,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
}
