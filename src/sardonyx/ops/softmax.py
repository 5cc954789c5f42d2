"""Softmax, LogSoftmax, Hardmax. Before opset 13 they treat all axes from `axis` on as one; since then they work along `axis` only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.symbolic import Dim, product, strides
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.pointwise import along, cast, div, normal_axis, pointwise, reduce, sub
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import elementwise as reference
from sardonyx.ops.reference.arrays import Array


def softmax_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Compute exp(x - max) / sum of exp(x - max) over the axes. T[*d] -> T[*d]"""
    e = pointwise(lambda v: scalar.apply("exp", v), sub(x, along("max", x, axes)))
    return div(e, along("add", e, axes))


def log_softmax_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Compute x - max - log(sum of exp(x - max)) over the axes. T[*d] -> T[*d]"""
    shifted = sub(x, along("max", x, axes))
    total = along("add", shifted, axes, lambda v: scalar.apply("exp", v))
    return sub(shifted, pointwise(lambda v: scalar.apply("log", v), total))


def hardmax_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Compute 1 at the first greatest element along the axes, which count as one axis, else 0. T[*d] -> T[*d]"""
    extents = [x.shape[a] for a in axes]
    steps = strides(extents)
    largest = along("max", x, axes)

    def position(indices: Sequence[Dim]) -> Expr:
        where: Dim = 0
        for a, n in zip(axes, steps, strict=True):
            where = where + indices[a] * n
        return scalar.index(where)

    def candidate(*i: Dim) -> Expr:
        over = dict(zip(axes, i[x.rank :], strict=True))
        full = [over.get(a, own) for a, own in enumerate(i[: x.rank])]
        return scalar.select(scalar.apply("eq", at(x, full), at(largest, full)), position(full), scalar.index(product(extents)))

    first = reduce("min", i64, largest.shape, extents, candidate)
    hit = compute(boolean, x.shape, lambda *i: scalar.apply("eq", position(i), at(first, i)))
    return cast(hit, x.dtype)


def over_one(meaning: Callable[[Tensor, Sequence[int]], Tensor]) -> Callable[..., Tensor]:
    """Return the operator's form since opset 13: along one axis."""

    def along_axis(x: Tensor, axis: int = -1) -> Tensor:
        return meaning(x, [normal_axis(axis, x.rank)])

    return along_axis


def over_rest(meaning: Callable[[Tensor, Sequence[int]], Tensor]) -> Callable[..., Tensor]:
    """Return the operator's form before opset 13: over all axes from `axis` on."""

    def from_axis(x: Tensor, axis: int = 1) -> Tensor:
        return meaning(x, range(normal_axis(axis, x.rank), x.rank))

    return from_axis


CASES = (
    Case((np.linspace(-5, 5, 24, dtype=np.float32).reshape(2, 3, 4),)),
    Case((np.linspace(-5, 5, 24, dtype=np.float32).reshape(2, 3, 4),), {"axis": 1}),
    Case((np.array([[1000, 1000, -1000], [np.inf, 0, 1], [np.nan, 0, 1], [-np.inf, -np.inf, 1]], np.float32),), {"axis": 1}),
    Case((np.array([[3, 1, 3, 2]], np.float32),), {"axis": -1}),
    Case((np.zeros((0, 3), np.float32),), {"axis": 1}),
)


def versions(
    name: str,
    meaning: Callable[[Tensor, Sequence[int]], Tensor],
    older: Callable[[Array], Array],
    newer: Callable[..., Array] | None = None,
) -> tuple[Op, Op]:
    """Make the records of both forms. older: the operator in numpy on rows; newer: its form since opset 13 in numpy, if
    onnx.reference's is wrong
    """
    flat = reference.flattened(older)
    return (
        Op(name, since=13, expand=over_one(meaning), gradient=Rule.DERIVED, cases=CASES, reference=newer),
        Op(name, since=1, expand=over_rest(meaning), gradient=Rule.DERIVED, cases=CASES, reference=flat),
    )


OPS = (
    *versions("Softmax", softmax_over, reference.softmax),
    *versions("LogSoftmax", log_softmax_over, reference.log_softmax, reference.log_softmax_along),
    *versions("Hardmax", hardmax_over, reference.hardmax),
)
