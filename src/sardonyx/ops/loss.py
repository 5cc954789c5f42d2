"""Losses of classification: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss."""

from __future__ import annotations

import numpy as np

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import along, div, pointwise, view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.softmax import log_softmax_over


def negative_log_likelihood_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean"
) -> Tensor:
    """Compute NegativeLogLikelihoodLoss: for each sample -weight[class] x[class], where class is the sample's target.

    x: T[n, c, *d], target: i64[n, *d], weight: T[c] -> T[n, *d] with reduction "none", else the sum or the weighted mean: T[]
    Samples whose target is ignore_index contribute neither to the loss nor to the weights of the mean. Raises Fail if the shapes
    don't fit, or for an unknown reduction.
    """
    if x.rank < 2 or x.rank != target.rank + 1:
        raise Fail(
            f"[ShapeInferenceError] losses of {list(x.shape)} for targets {list(target.shape)}: the targets must have one axis less"
        )
    for n, m in zip((x.shape[0], *x.shape[2:]), target.shape, strict=True):
        require_equal(n, m, "losses of {} for targets {}: the sizes differ", x.shape, target.shape)

    def kept(i: tuple[Dim, ...], counted: Expr) -> Expr:
        """Return a sample's contribution, or 0 if the sample is ignored."""
        if ignore_index is None:
            return counted
        return scalar.select(scalar.apply("eq", at(target, i), ignore_index), 0, counted)

    def label(i: tuple[Dim, ...]) -> Dim:
        own = at(target, i)
        if ignore_index is not None:
            own = scalar.select(scalar.apply("eq", own, ignore_index), 0, own)
        return element(own, x.shape[1])

    def share(*i: Dim) -> Expr:
        return kept(i, scalar.literal(1, x.dtype) if weight is None else at(weight, (label(i),)))

    def loss(*i: Dim) -> Expr:
        own = scalar.negate(at(x, (i[0], label(i), *i[1:])))
        return kept(i, own if weight is None else scalar.mul(own, at(weight, (label(i),))))

    losses = compute(x.dtype, target.shape, loss)
    if reduction == "none":
        return losses
    total = over_all(losses)
    if reduction == "sum":
        return total
    if reduction != "mean":
        raise Fail(f"reduction must be none, sum or mean, not {reduction}")
    if weight is None and ignore_index is None:
        count = scalar.index(product(target.shape))
        return pointwise(lambda t: scalar.div(t, scalar.cast(count, t.dtype)), total)
    return div(total, over_all(compute(x.dtype, target.shape, share)))


def over_all(t: Tensor) -> Tensor:
    """Sum all elements. T[*d] -> T[]"""
    total = along("add", t, range(t.rank))
    return view(total, [], lambda: [0] * t.rank)


def softmax_cross_entropy_loss(
    scores: Tensor, labels: Tensor, weights: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean"
) -> tuple[Tensor, Tensor]:
    """Compute SoftmaxCrossEntropyLoss: the negative log-likelihood loss of log(softmax(scores)) over axis 1.

    scores: T[n, c, *d] -> the loss, and the log-probabilities T[n, c, *d]. Raises Fail if the scores have no axis of classes.
    """
    if scores.rank < 2:
        raise Fail(f"[ShapeInferenceError] losses of {list(scores.shape)}, without an axis of classes")
    log_probabilities = log_softmax_over(scores, [1])
    return negative_log_likelihood_loss(log_probabilities, labels, weights, ignore_index, reduction), log_probabilities


X, T, W = reals(3, 4, 2, 2), integers(3, 2, 2, lo=0, hi=3), np.abs(reals(4)) + 0.1
WITH_IGNORED = np.where(T == 1, -5, T)

CASES = (
    Case((X, T)),
    Case((X, T, W), {"reduction": "sum"}),
    Case((X, WITH_IGNORED, W), {"ignore_index": -5}),
    Case((X, WITH_IGNORED), {"ignore_index": -5, "reduction": "none"}),
    Case((reals(3, 4), integers(3, lo=0, hi=3, dtype=np.int32)), {"reduction": "mean"}),
)

OPS = (
    Op(
        "NegativeLogLikelihoodLoss",
        since=12,
        lower=negative_log_likelihood_loss,
        quantised=Rule.NONE,
        cases=CASES,
    ),
    Op(
        "SoftmaxCrossEntropyLoss",
        since=12,
        expand=softmax_cross_entropy_loss,
        gradient=Rule.DERIVED,
        quantised=Rule.NONE,
        cases=CASES,
    ),
)
