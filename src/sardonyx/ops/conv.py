"""Conv with any number of spatial axes, groups and dilations. Also the parts that other convolutions share (ConvInteger and
QLinearConv are in integer_products.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.pointwise import pointwise, reduce, view
from sardonyx.ops.record import Case, Op
from sardonyx.ops.windows import Window, bordered, windows


def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute Conv: y[n, m, o] = b[m] + sum over c, r of x[n, c, o stride + r dilation - pad] w[m, c, r].

    x: T[n, c, *d], w: T[m, c / group, *k], b: T[m] -> T[n, m, *o]. The i-th group of outputs sees the i-th group of channels only.
    Raises Fail if the shapes don't fit each other or kernel_shape.
    """
    axis_windows = conv_windows(x, w, group, auto_pad, dilations, kernel_shape, pads, strides)
    y = convolve(bordered(x, axis_windows, 0), w, axis_windows, group, x.dtype)
    return y if b is None else pointwise(scalar.add, y, along_channels(b, y.rank))


def conv_windows(
    x: Tensor,
    w: Tensor,
    group: int,
    auto_pad: str,
    dilations: list[int] | None,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> list[Window]:
    """Check the shapes of a convolution and return its window along each spatial axis. Raises Fail."""
    shapes = x.shape, w.shape, group
    if x.rank < 3 or w.rank != x.rank or group < 1 or len(kernel_shape or w.shape[2:]) != x.rank - 2:
        raise Fail(f"[ShapeInferenceError] convolution of {list(x.shape)} by {list(w.shape)}, group {group}")
    require_equal(w.shape[1] * group, x.shape[1], "convolution of {} by {}, group {}: the channels differ", *shapes)
    require_equal(
        w.shape[0] % group, 0, "convolution of {} by {}, group {}: the output channels are not divisible by the group", *shapes
    )
    for n, asked in zip(w.shape[2:], kernel_shape or w.shape[2:], strict=True):
        require_equal(n, asked, "convolution of {} by {}, group {}: kernel_shape is {}", *shapes, kernel_shape)
    return windows(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)


def convolve(x: Tensor, w: Tensor, axis_windows: Sequence[Window], group: Dim, dtype: DType) -> Tensor:
    """Sum the products of a convolution. x: [n, c, *d], already padded, w: [m, c / group, *k] -> dtype[n, m, *o], summed in the
    accumulator dtype of `dtype`.
    """
    compute_dtype = scalar.wide(dtype)

    def term(at_channel: Channel, o: Sequence[Dim], r: Sequence[Dim]) -> Expr:
        n, c, own, m, _ = at_channel
        places = [window.position(i, k) for window, i, k in zip(axis_windows, o, r, strict=True)]
        return scalar.mul(scalar.cast(at(x, (n, c, *places)), compute_dtype), scalar.cast(at(w, (m, own, *r)), compute_dtype))

    outs, taps = [window.out for window in axis_windows], [window.size for window in axis_windows]
    return over_channels(dtype, (x.shape[0], group, w.shape[1], w.shape[0] // group), outs, taps, term)


Channel = tuple[Dim, Dim, Dim, Dim, Dim]
"""Indices (image, input channel, input channel within its group, output channel, output channel within its group)."""


def over_channels(
    dtype: DType,
    sizes: tuple[Dim, Dim, Dim, Dim],
    outs: Sequence[Dim],
    taps: Sequence[Dim],
    term: Callable[[Channel, Sequence[Dim], Sequence[Dim]], Expr],
) -> Tensor:
    """Sum term(channels, output position, tap) over the taps and the input channels of a group. -> dtype[n, m, *outs]

    sizes: (images, groups, input channels of a group, output channels of a group). A depthwise convolution, with one input channel
    in each group, sums over the taps alone. Other grouped convolutions are computed with an axis for the groups, which a view
    merges into the channels.
    """
    images, groups, inputs, outputs = sizes
    rank = len(outs)
    shape = [images, groups * outputs, *outs]
    if groups == 1:
        return reduce("add", dtype, shape, [*taps, inputs], lambda n, m, *i: term((n, i[-1], i[-1], m, m), i[:rank], i[rank:-1]))
    if inputs == 1:
        return reduce("add", dtype, shape, taps, lambda n, m, *i: term((n, m // outputs, 0, m, m % outputs), i[:rank], i[rank:]))

    def grouped(n: Dim, g: Dim, m: Dim, *i: Dim) -> Expr:
        return term((n, g * inputs + i[-1], i[-1], g * outputs + m, m), i[:rank], i[rank:-1])

    y = reduce("add", dtype, [images, groups, outputs, *outs], [*taps, inputs], grouped)
    return view(y, shape, lambda n, m, *o: (n, m // outputs, m % outputs, *o))


def along_channels(v: Tensor, rank: int) -> Tensor:
    """Reshape a vector so that it broadcasts along the channels of a tensor of this rank. v: T[c] -> T[c, 1, ...]"""
    return view(v, (*v.shape, *[1] * (rank - 2)), lambda c, *_: (c,))


OPS = (
    Op(
        "Conv",
        since=1,
        lower=conv,
        cases=(
            Case((reals(2, 3, 5, 7), reals(4, 3, 3, 3), reals(4)), {"pads": [1, 1, 1, 1]}),
            Case((reals(1, 4, 7, 6), reals(6, 2, 2, 3)), {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 0]}, "groups"),
            Case((reals(1, 3, 6, 6), reals(3, 1, 3, 3), reals(3)), {"group": 3, "dilations": [2, 1]}, "depthwise"),
            Case((reals(1, 3, 6, 6), reals(6, 1, 3, 3)), {"group": 3}, "depthwise_twice"),
            Case((reals(2, 3, 9), reals(2, 3, 4)), {"auto_pad": "SAME_UPPER", "strides": [2]}, "one_axis"),
            Case((reals(1, 2, 4, 5, 3), reals(3, 2, 2, 3, 1)), {"auto_pad": "SAME_LOWER"}, "three_axes"),
            Case((reals(0, 3, 5, 5), reals(4, 3, 3, 3)), {}, "no_images"),
            Case((reals(1, 2, 4, 4, dtype=np.float64), reals(2, 2, 3, 3, dtype=np.float64)), {"auto_pad": "VALID"}, "f64"),
            Case((reals(1, 2, 4, 4, dtype=np.float16), reals(2, 2, 1, 1, dtype=np.float16)), {}, "f16"),
        ),
    ),
)
