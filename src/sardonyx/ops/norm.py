"""Normalisation: LayerNormalization, RMSNormalization, GroupNormalization, InstanceNormalization, BatchNormalization,
MeanVarianceNormalization, LpNormalization, LRN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType, f64, float_of_code
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Int, maximum, minimum, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.conv import along_channels
from sardonyx.ops.pointwise import add, along, cast, div, mean_along, mul, normal_axes, normal_axis, pointwise, reduce, sub
from sardonyx.ops.pool import power, root
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import elementwise
from sardonyx.ops.windows import LONG, pad


def inverse_root(variance: Tensor, epsilon: float) -> Tensor:
    """Compute 1 / sqrt(variance + epsilon)."""
    return pointwise(lambda v: scalar.div(1, scalar.apply("sqrt", scalar.add(v, epsilon))), variance)


def squared(x: Tensor) -> Tensor:
    return pointwise(lambda e: scalar.mul(e, e), x)


def standardised(x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - mean) / sqrt(variance + epsilon), mean, and 1 / sqrt(variance + epsilon), with statistics over these axes."""
    mean = mean_along(x, axes)
    centred = sub(x, mean)
    inverse = inverse_root(mean_along(squared(centred), axes), epsilon)
    return mul(centred, inverse), mean, inverse


def stash(x: Tensor, stash_type: int) -> DType:
    """Return the dtype in which statistics of x are computed: that of stash_type, but f64 for f64."""
    return f64 if x.dtype is f64 else scalar.wide(float_of_code(stash_type))


def layer_normalization(
    x: Tensor, scale: Tensor, b: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute LayerNormalization: (x - mean) / sqrt(variance + epsilon) scale + b, with statistics over the axes from `axis` on.

    x: T[*d], scale and b broadcast to T[*d] -> T[*d], mean and 1 / sqrt(variance + epsilon), which have size 1 at those axes.
    """
    axes = range(normal_axis(axis, x.rank), x.rank)
    y, mean, inverse = standardised(cast(x, stash(x, stash_type)), axes, epsilon)
    y = mul(cast(y, x.dtype), scale)
    kept = float_of_code(stash_type)
    return y if b is None else add(y, b), cast(mean, kept), cast(inverse, kept)


def rms_normalization(x: Tensor, scale: Tensor, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    """Compute RMSNormalization: x / sqrt(mean(x^2) + epsilon) scale, with the mean over the axes from `axis` on. x: T[*d], scale:
    V[*s] -> V[*d]
    """
    axes = range(normal_axis(axis, x.rank), x.rank)
    wide = cast(x, stash(x, stash_type))
    y = mul(wide, inverse_root(mean_along(squared(wide), axes), epsilon))
    return mul(cast(y, scale.dtype), scale)


def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Compute GroupNormalization: normalise over each group of channels and all spatial axes. x: T[n, c, *d], scale, bias: T[c] ->
    T[n, c, *d]
    """
    y = group_standardised(x, num_groups, epsilon, stash(x, stash_type))
    return add(mul(y, along_channels(scale, x.rank)), along_channels(bias, x.rank))


def group_normalization_18(x: Tensor, scale: Tensor, bias: Tensor, num_groups: int, epsilon: float = 1e-5) -> Tensor:
    """GroupNormalization before opset 21, where scale and bias have one number per group: T[g]."""
    require_channels(x, num_groups)
    each = x.shape[1] // num_groups
    y = group_standardised(x, num_groups, epsilon, scalar.wide(x.dtype))

    def body(*i: Dim) -> Expr:
        g = i[1] // each
        return scalar.add(scalar.mul(at(y, i), at(scale, (g,))), at(bias, (g,)))

    return compute(x.dtype, x.shape, body)


def group_standardised(x: Tensor, groups: int, epsilon: float, dtype: DType) -> Tensor:
    """Scale x to mean 0 and variance 1 in each group of channels, computed in `dtype`. x: T[n, c, *d] -> T[n, c, *d]"""
    require_channels(x, groups)
    require_equal(x.shape[1] % groups, 0, "{} channels are not divisible into {} groups", x.shape[1], groups)
    each = x.shape[1] // groups
    wide = cast(x, dtype)
    extents = [each, *x.shape[2:]]
    count = scalar.cast(scalar.index(product(extents)), dtype)

    def grouped_mean(t: Tensor) -> Tensor:
        total = reduce("add", dtype, [x.shape[0], groups], extents, lambda n, g, c, *d: at(t, (n, g * each + c, *d)))
        return pointwise(lambda e: scalar.div(e, count), total)

    mean = grouped_mean(wide)
    centred = compute(dtype, x.shape, lambda n, c, *d: scalar.sub(at(wide, (n, c, *d)), at(mean, (n, c // each))))
    inverse = inverse_root(grouped_mean(squared(centred)), epsilon)
    y = compute(dtype, x.shape, lambda n, c, *d: scalar.mul(at(centred, (n, c, *d)), at(inverse, (n, c // each))))
    return cast(y, x.dtype)


def require_channels(x: Tensor, groups: int = 1) -> None:
    """Require that x has an axis of channels and that there is at least one group. Raises Fail."""
    if x.rank < 2 or groups < 1:
        raise Fail(
            f"[ShapeInferenceError] normalisation of {list(x.shape)} over channels in {groups} groups: needs 2 axes and 1 group"
        )


def instance_normalization(x: Tensor, scale: Tensor, b: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Compute InstanceNormalization: normalise each channel of each image. x: T[n, c, *d], scale, b: T[c] -> T[n, c, *d]"""
    wide = cast(x, scalar.wide(x.dtype))
    y, _, _ = standardised(wide, range(2, x.rank), epsilon)
    return cast(affine(y, along_channels(scale, x.rank), along_channels(b, x.rank)), x.dtype)


def affine(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Compute x scale + bias in the dtype of x."""
    return add(mul(x, cast(scale, x.dtype)), cast(bias, x.dtype))


def mean_variance_normalization(x: Tensor, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """Compute MeanVarianceNormalization: (x - mean) / (standard deviation + 1e-9), with statistics over these axes. T[*d] -> T[*d]"""
    over = normal_axes(axes, x.rank)
    centred = sub(x, mean_along(x, over))
    deviation = pointwise(lambda v: scalar.add(scalar.apply("sqrt", v), 1e-9), mean_along(squared(centred), over))
    return div(centred, deviation)


def batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> tuple[Tensor, ...]:
    """Compute BatchNormalization. x: T[n, c, *d], the other inputs: [c] -> T[n, c, *d]

    In training mode statistics come from the batch, and the running mean and variance are returned too.
    """
    if not training_mode:
        return (normalised_by(x, scale, b, mean, variance, epsilon, per_channel=True),)
    for t in (scale, b, mean, variance):
        require_same(
            t.shape, x.shape[1:2], "BatchNormalization of {} with statistics of shape {}, which do not fit", x.shape, t.shape
        )
    wide = cast(x, scalar.wide(x.dtype))
    axes = [0, *range(2, x.rank)]
    y, own_mean, _ = standardised(wide, axes, epsilon)
    own_variance = mean_along(squared(sub(wide, own_mean)), axes)
    y = cast(affine(y, along_channels(scale, x.rank), along_channels(b, x.rank)), x.dtype)
    return y, running(mean, own_mean, momentum), running(variance, own_variance, momentum)


def running(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Update running statistics: old momentum + new (1 - momentum). old: [c], new: [1, c, 1, ...] -> [c]"""

    def body(c: Dim) -> Expr:
        fresh = scalar.cast(at(new, [c if a == 1 else 0 for a in range(new.rank)]), old.dtype)
        return scalar.add(scalar.mul(at(old, (c,)), momentum), scalar.mul(fresh, 1 - momentum))

    return compute(old.dtype, old.shape, body)


def normalised_by(x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, variance: Tensor, epsilon: float, per_channel: bool) -> Tensor:
    """Compute x factor + offset, where factor = scale / sqrt(variance + epsilon) and offset = b - mean factor.

    per_channel: the statistics have one number per channel; otherwise one per element of an image.
    """
    wide = cast(x, scalar.wide(x.dtype))
    scale, b, mean, variance = (cast(t, wide.dtype) for t in (scale, b, mean, variance))
    factor = mul(scale, inverse_root(variance, epsilon))
    offset = sub(b, mul(mean, factor))
    if per_channel:
        factor, offset = along_channels(factor, x.rank), along_channels(offset, x.rank)
    return cast(add(mul(wide, factor), offset), x.dtype)


def batch_normalization_7(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    outputs: int = 1,
) -> Tensor:
    """BatchNormalization of opsets 7 to 13. With spatial=0 the statistics have one number per element: [c, *d].

    Raises Unsupported in training mode, which a node requests by having more than one output.
    """
    if outputs > 1:
        raise Unsupported("BatchNormalization in training mode")
    return normalised_by(x, scale, b, mean, variance, epsilon, per_channel=bool(spatial))


def batch_normalization_1(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    is_test: int = 0,
    consumed_inputs: object = None,
    outputs: int = 1,
) -> Tensor:
    """BatchNormalization before opset 7, where the attribute is_test selects inference. Raises Unsupported if it is 0."""
    if not is_test:
        raise Unsupported("BatchNormalization in training mode")
    return batch_normalization_7(x, scale, b, mean, variance, epsilon, momentum, spatial, outputs)


def lp_normalization(x: Tensor, axis: int = -1, p: int = 2) -> Tensor:
    """Compute LpNormalization: x divided by its p-norm along the axis, 0 where the norm is 0. T[*d] -> T[*d]"""
    norm = root(along("add", x, [normal_axis(axis, x.rank)], lambda e: power(e, p)), p)
    return pointwise(lambda e, n: scalar.select(scalar.apply("eq", n, 0), 0, scalar.div(e, n)), x, norm)


def lrn(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Compute LRN: x / (bias + alpha / size sum)^beta, where sum adds the squares of `size` channels around the own one. x: T[n, c,
    *d] -> T[n, c, *d]
    """
    require_channels(x)
    if size < 1:
        raise Fail(f"[ShapeInferenceError] LRN over {size} channels; it must be at least 1")
    before, after = within(x.shape[1], (size - 1) // 2), within(x.shape[1], size // 2)
    border = [0, before, *[0] * (x.rank - 2)], [0, after, *[0] * (x.rank - 2)]
    squares = pad(squared(x), *border, constant(np.zeros((), x.dtype.numpy)))
    total = reduce("add", x.dtype, x.shape, [before + after + 1], lambda n, c, *i: at(squares, (n, c + i[-1], *i[:-1])))
    return pointwise(lambda e, s: scalar.div(e, raised(scalar.add(scalar.mul(s, alpha / size), bias), beta)), x, total)


def within(channels: Dim, reach: int) -> Dim:
    """Limit how many channels a window reaches to one side to the number of other channels."""
    if isinstance(channels, Int) and reach < LONG:
        return reach
    return minimum(reach, maximum(channels - 1, 0))


def raised(e: Expr, exponent: float) -> Expr:
    """Compute e^exponent; for the usual exponent 3/4 by two square roots."""
    if exponent != 0.75:
        return scalar.apply("pow", e, exponent)
    half = scalar.apply("sqrt", e)
    return scalar.mul(half, scalar.apply("sqrt", half))


IMAGE = reals(2, 6, 3, 4)
BATCH = (IMAGE, reals(6), reals(6), reals(6), np.abs(reals(6)) + 0.1)


def old_batch_normalization(since: int, meaning: Callable[..., Any]) -> Op:
    own = elementwise.batch_normalization
    return Op("BatchNormalization", since=since, expand=meaning, gradient=Rule.DERIVED, tolerance=1e-5, reference=own)


OPS = (
    Op(
        "LayerNormalization",
        since=17,
        expand=layer_normalization,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(
            Case((reals(2, 3, 5), reals(5), reals(5))),
            Case((reals(2, 3, 5), reals(3, 5)), {"axis": 1, "epsilon": 0.1}),
            Case((reals(4, 7, dtype=np.float16), reals(7, dtype=np.float16)), {"axis": -1}),
            Case((reals(0, 7), reals(7)), {"axis": 1}),
        ),
    ),
    Op(
        "LayerNormalization",
        since=1,
        in_standard=False,
        expand=layer_normalization,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(Case((reals(2, 3, 5), reals(5), reals(5)), {"axis": 2}),),
    ),
    Op(
        "RMSNormalization",
        since=23,
        expand=rms_normalization,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(Case((reals(2, 3, 5), reals(5))), Case((reals(2, 3, 5), reals(3, 5)), {"axis": 1})),
    ),
    Op(
        "GroupNormalization",
        since=21,
        lower=group_normalization,
        tolerance=1e-5,
        cases=(Case((IMAGE, reals(6), reals(6)), {"num_groups": 3}), Case((IMAGE, reals(6), reals(6)), {"num_groups": 1})),
    ),
    Op("GroupNormalization", since=18, lower=group_normalization_18, tolerance=1e-5),
    Op(
        "InstanceNormalization",
        since=6,
        expand=instance_normalization,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(Case((IMAGE, reals(6), reals(6)), {"epsilon": 1e-2}), Case((reals(2, 3, 5), reals(3), reals(3)))),
    ),
    Op(
        "MeanVarianceNormalization",
        since=9,
        expand=mean_variance_normalization,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(Case((IMAGE,)), Case((IMAGE,), {"axes": [1, -1]})),
    ),
    Op(
        "BatchNormalization",
        since=14,
        expand=batch_normalization,
        reference=elementwise.batch_normalization,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(
            Case(BATCH),
            Case(BATCH, {"training_mode": 1, "momentum": 0.7}, "training", outputs=3),
            Case((reals(5, 6), *BATCH[1:])),
        ),
    ),
    old_batch_normalization(7, batch_normalization_7),
    old_batch_normalization(1, batch_normalization_1),
    Op(
        "LpNormalization",
        since=1,
        expand=lp_normalization,
        reference=elementwise.lp_normalization,
        gradient=Rule.DERIVED,
        cases=(Case((np.array([[3, 4], [0, 0]], np.float32),)), Case((IMAGE,), {"axis": 1, "p": 1})),
    ),
    Op(
        "LRN",
        since=1,
        lower=lrn,
        reference=elementwise.lrn,
        cases=(Case((IMAGE,), {"size": 3}), Case((IMAGE,), {"size": 5, "alpha": 0.2, "beta": 0.5, "bias": 2.0})),
    ),
)
