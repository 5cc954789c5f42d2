"""Operators that the first version of the standard had as experiments, and that onnxruntime still runs: Affine, Crop, DynamicSlice,
ImageScaler, ParametricSoftplus, Scale, ScaledTanh. Their definitions are those of onnxruntime's schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import ALL, i32, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.require import require_equal, require_nonnegative
from sardonyx.expr.tensor import Tensor, constant
from sardonyx.ops import activation
from sardonyx.ops.cases import reals
from sardonyx.ops.conv import along_channels
from sardonyx.ops.movement import slice_
from sardonyx.ops.pointwise import pointwise, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule


def affine(X: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """Compute Affine: alpha X + beta. T[*d] -> T[*d]"""
    return pointwise(lambda e: scalar.add(scalar.mul(e, alpha), beta), X)


def scaled(input: Tensor, scale: float = 1.0) -> Tensor:  # noqa: A002
    """Compute Scale: scale X. T[*d] -> T[*d]"""
    return pointwise(lambda e: scalar.mul(e, scale), input)


def scaled_tanh(input: Tensor, *, alpha: float, beta: float) -> Tensor:  # noqa: A002
    """Compute ScaledTanh: alpha tanh(beta X). T[*d] -> T[*d]"""
    return pointwise(lambda e: scalar.mul(scalar.apply("tanh", scalar.mul(e, beta)), alpha), input)


def parametric_softplus(X: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Compute ParametricSoftplus: alpha log(1 + exp(beta X)). T[*d] -> T[*d]"""
    return pointwise(lambda e: scalar.mul(activation.softplus(scalar.mul(e, beta)), alpha), X)


def image_scaler(input: Tensor, bias: Sequence[float] = (), scale: float = 1.0) -> Tensor:  # noqa: A002
    """Compute ImageScaler: scale X plus the bias of the channel. X: T[n, c, h, w], bias: c numbers -> T[n, c, h, w]"""
    require_ranks("ImageScaler of {}, which has not four axes", (input, 4))
    require_equal(input.shape[1], len(bias), "ImageScaler of {} with {} biases", input.shape, len(bias))
    by_channel = along_channels(constant(np.array(bias, input.dtype.numpy)), 4)
    return pointwise(lambda e, b: scalar.add(scalar.mul(e, scale), b), input, by_channel)


def crop(input: Tensor, border: Sequence[int] = (), scale: Sequence[int] = ()) -> Tensor:  # noqa: A002
    """Compute Crop: remove the borders (left, top, right, bottom) of an image, or keep `scale` (height, width) pixels from the left
    and top border on. X: T[n, c, h, w] -> T[n, c, h', w']
    """
    require_ranks("Crop of {}, which has not four axes", (input, 4))
    if len(border) != 4 or len(scale) not in (0, 2) or min(*border, *scale) < 0:
        raise Fail(f"[ShapeInferenceError] Crop with the border {list(border)} and the scale {list(scale)}")
    left, top, right, bottom = border
    h, w = input.shape[2:]
    sizes: list[Dim] = list(scale) or [h - top - bottom, w - left - right]
    for n, first, count in ((h, top, sizes[0]), (w, left, sizes[1])):
        require_nonnegative(n - first - count, "Crop of {} to {} from {} on", input.shape, sizes, [top, left])
    return view(input, [*input.shape[:2], *sizes], lambda n, c, y, x: (n, c, y + top, x + left))


def dynamic_slice(data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None) -> Tensor:
    """Compute DynamicSlice: data[starts[0]:ends[0], ...] on the given axes (by default the first ones), by Python's rules."""
    return slice_(data, starts, ends, axes)


def op(name: str, meaning: Callable[..., Any], *cases: Case, **types: Any) -> Op:
    return Op(name, 1, in_standard=False, expand=meaning, element_types=types, gradient=Rule.DERIVED, cases=cases, tolerance=1e-5)


X = reals(2, 3, 6, 5)

OPS = (
    op("Affine", affine, Case((X,), {"alpha": 0.7, "beta": -1.5}), Case((X,))),
    op("Scale", scaled, Case((X,), {"scale": 2.5})),
    op("ScaledTanh", scaled_tanh, Case((X,), {"alpha": 1.7, "beta": 0.6})),
    op("ParametricSoftplus", parametric_softplus, Case((X * 20,), {"alpha": 1.7, "beta": 0.6})),
    op("ImageScaler", image_scaler, Case((X,), {"scale": 0.5, "bias": [0.1, -2.0, 3.0]})),
    op("Crop", crop, Case((X,), {"border": [1, 2, 0, 1]}), Case((X,), {"border": [1, 2, 9, 9], "scale": [3, 4]})),
    op(
        "DynamicSlice",
        dynamic_slice,
        Case((X, np.array([1, -4]), np.array([2, 1000]), np.array([1, -2])), name="axes"),
        Case((X, np.array([0, 1], np.int32), np.array([-1, 3], np.int32)), name="first_axes"),
        data=ALL,
        **{"starts ends axes": (i32, i64)},
    ),
)
