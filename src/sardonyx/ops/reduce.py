"""Reductions over axes: ReduceSum, ReduceMean and the other Reduce operators, ArgMax, ArgMin.

Narrow floats are reduced in f32 and rounded once, at the end. A reduction over no elements gives the neutral element. Over no axes
(noop_with_empty_axes) each element is its own sum, but squares, logarithms and roots are still applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from sardonyx.base.dtypes import DType, boolean, f64, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.known import elements
from sardonyx.expr.tensor import Tensor, reduction
from sardonyx.loop.nodes import Expr
from sardonyx.ops.axes import decided, known_axes, marks, split_marked, without
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import along, cast, normal_axes, normal_axis, pointwise, view
from sardonyx.ops.record import Case, Meaning, Op, Rule
from sardonyx.ops.reference import elementwise

Fold: TypeAlias = Callable[[Tensor, Sequence[int]], Tensor]
"""Function that reduces x: T[*d] over these axes, which keep size 1."""


# ---- what is computed ---------------------------------------------------------------------------------------------------


def compute_dtype(dtype: DType) -> DType:
    """Return the dtype in which logarithms, roots and sums of `dtype` are computed."""
    return scalar.wide(dtype) if dtype.is_float else f64


def total(x: Tensor, axes: Sequence[int], fn: str = "add", term: Callable[[Expr], Expr] | None = None) -> Tensor:
    """Reduce term(x) by fn over the axes, which keep size 1; over no axes return term(x)."""
    if axes:
        return along(fn, x, axes, term)
    return x if term is None else pointwise(term, x)


def square(x: Expr) -> Expr:
    return scalar.mul(x, x)


def absolute(x: Expr) -> Expr:
    return x if x.dtype.kind == "uint" else scalar.apply("abs", x)


def plain(fn: str, term: Callable[[Expr], Expr] | None = None) -> Fold:
    """Return the reduction of term(x) by fn, in the dtype of x (narrow floats in f32)."""

    def fold(x: Tensor, axes: Sequence[int]) -> Tensor:
        return cast(total(cast(x, scalar.wide(x.dtype)), axes, fn, term), x.dtype)

    return fold


def finished(last: str, term: Callable[[Expr], Expr] | None = None) -> Fold:
    """Return the reduction last(sum of term(x)), where `last` is a function of the loop IR."""

    def fold(x: Tensor, axes: Sequence[int]) -> Tensor:
        sums = total(cast(x, compute_dtype(x.dtype)), axes, "add", term)
        return cast(pointwise(lambda e: scalar.apply(last, e), sums), x.dtype)

    return fold


def extreme(fn: str) -> Fold:
    """Return the reduction by "min" or "max"; on bools these are "and" and "or"."""

    def fold(x: Tensor, axes: Sequence[int]) -> Tensor:
        return total(x, axes, {"min": "and", "max": "or"}[fn] if x.dtype is boolean else fn)

    return fold


def mean(x: Tensor, axes: Sequence[int]) -> Tensor:
    wide = scalar.wide(x.dtype)
    count = scalar.cast(scalar.index(product(x.shape[a] for a in axes)), wide)
    return cast(pointwise(lambda e: scalar.div(e, count), total(cast(x, wide), axes)), x.dtype)


def log_sum_exp(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Compute log(sum(exp(x))) as log(sum(exp(x - m))) + m, where m is the maximum, or 0 if the maximum is infinite."""
    wide = cast(x, compute_dtype(x.dtype))
    top = pointwise(finite_or_zero, total(wide, axes, "max"))
    sums = total(pointwise(lambda e, m: scalar.apply("exp", scalar.sub(e, m)), wide, top), axes)
    return cast(pointwise(lambda s, m: scalar.add(scalar.apply("log", s), m), sums, top), x.dtype)


def finite_or_zero(x: Expr) -> Expr:
    """Return x, or 0 if x is infinite."""
    return scalar.select(scalar.apply("eq", scalar.apply("abs", x), float("inf")), 0, x)


# ---- over which axes ----------------------------------------------------------------------------------------------------


def drop(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Remove these axes, which have size 1."""
    kept = [a for a in range(x.rank) if a not in axes]
    if len(kept) == x.rank:
        return x
    place = {a: p for p, a in enumerate(kept)}
    return view(x, [x.shape[a] for a in kept], lambda *i: [i[place[a]] if a in place else 0 for a in range(x.rank)])


def reducer_13(fold: Fold) -> Callable[..., Tensor]:
    """Return the operator with the axes as an attribute: before opset 18 (13 for ReduceSum)."""

    def meaning(x: Tensor, axes: Sequence[int] | None = None, keepdims: int = 1) -> Tensor:
        over = sorted(normal_axes(axes, x.rank)) if axes else list(range(x.rank))
        y = fold(x, over)
        return y if keepdims else drop(y, over)

    return meaning


def reducer(fold: Fold) -> Callable[..., Tensor]:
    """Return the operator with the axes as an input. x: T[*d], axes: i64[n] -> T[*d with 1 at the axes], or without these axes if
    keepdims=0
    """

    def meaning(x: Tensor, axes: Tensor | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        if axes is not None and not decided(axes):
            return over_marked(fold, x, axes, bool(keepdims))
        given = known_axes(axes)
        over = sorted(normal_axes(given, x.rank)) if given else [] if noop_with_empty_axes else list(range(x.rank))
        y = fold(x, over)
        return y if keepdims else drop(y, over)

    return meaning


def over_marked(fold: Fold, x: Tensor, axes: Tensor, keepdims: bool) -> Tensor:
    """Reduce over axes that only the run knows: split x into unmarked and marked axes, and reduce over all of the latter."""
    marked = marks(axes, x.rank)
    over = list(range(x.rank, 2 * x.rank))
    y = drop(fold(split_marked(x, marked), over), over)
    return y if keepdims else without(y, marked, elements(axes).size)


# ---- the place of an extreme --------------------------------------------------------------------------------------------


def place_of(fn: str) -> Callable[..., Tensor]:
    """Return the operator ArgMax or ArgMin. x: T[*d] -> i64[*d with 1 at the axis], the index of the first (or last) extreme

    A NaN counts as the extreme. Raises Fail for an empty axis.
    """

    def meaning(x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        axis = normal_axis(axis, x.rank)
        n = x.shape[axis]
        if n == 0:
            raise Fail(f"[ShapeInferenceError] there is no extreme along axis {axis} of {list(x.shape)}, which is empty")
        best = along(fn, x, [axis])
        shape = [1 if a == axis else d for a, d in enumerate(x.shape)]

        def body(*i: Dim) -> Expr:
            *place, r = i
            element = at(x, [*place[:axis], r, *place[axis + 1 :]])
            found = scalar.apply("eq", element, at(best, place))
            if x.dtype.is_float:
                found = scalar.apply("or", found, scalar.is_nan(element))
            return scalar.select(found, scalar.index(r), scalar.index(-1 if select_last_index else n))

        y = reduction("max" if select_last_index else "min", i64, shape, [n], body)
        return y if keepdims else drop(y, [axis])

    return meaning


arg_max, arg_min = place_of("max"), place_of("min")


# ---- records ------------------------------------------------------------------------------------------------------------

FOLDS: dict[str, Fold] = {
    "ReduceSum": plain("add"),
    "ReduceProd": plain("mul"),
    "ReduceMax": extreme("max"),
    "ReduceMin": extreme("min"),
    "ReduceMean": mean,
    "ReduceL1": plain("add", absolute),
    "ReduceL2": finished("sqrt", square),
    "ReduceSumSquare": plain("add", square),
    "ReduceLogSum": finished("log"),
    "ReduceLogSumExp": log_sum_exp,
}
REFERENCES: dict[str, Callable[..., Any]] = {
    "ReduceMean": elementwise.mean,
    "ReduceLogSum": elementwise.log_of_sum,
    "ReduceLogSumExp": elementwise.log_of_sum_of_exponentials,
}
X = reals(2, 3, 4) + 2.5


def cases(name: str) -> tuple[Case, ...]:
    axes = np.array([0, -1])
    empty = np.zeros((2, 0, 3), np.float32)
    whole = name not in ("ReduceLogSum", "ReduceLogSumExp", "ReduceL2")
    return (
        Case((X,)),
        Case((X, axes)),
        Case((X, axes), {"keepdims": 0}),
        Case((X.astype(np.float64), np.array([1])), {"keepdims": 0}),
        Case((X.astype(np.float16), np.array([2]))),
        *([Case((integers(3, 5), np.array([1])))] if whole else []),
        *([Case((empty, np.array([1])))] if name != "ReduceMean" else []),
        *([Case((np.float32(3),))] if name != "ReduceLogSumExp" else []),
    )


def records(name: str, fold: Fold) -> tuple[Op, Op]:
    own = REFERENCES.get(name)
    newest = 13 if name == "ReduceSum" else 18
    older = tuple(Case((X,), a) for a in ({}, {"axes": [1, -1]}, {"axes": [0], "keepdims": 0}))
    return (
        Op(name, since=newest, lower=reducer(fold), cases=cases(name), tolerance=2e-6, reference=own),
        Op(name, since=1, lower=reducer_13(fold), cases=older, tolerance=2e-6, reference=own),
    )


def places(name: str, meaning: Meaning) -> Op:
    some = np.array([[2, 1, 2, 1], [np.nan, 3, np.nan, 0], [-np.inf, -np.inf, 4, 4]], np.float32)
    options: tuple[dict[str, int], ...] = ({}, {"axis": 1}, {"axis": -1, "keepdims": 0}, {"axis": 1, "select_last_index": 1})
    numbers = tuple(Case((some[[0, 2]],), a) for a in options)
    missing = Case((some,), {"axis": 1}, "nan")
    return Op(
        name,
        since=1,
        lower=meaning,
        cases=(*numbers, missing, Case((integers(3, 8, dtype=np.int32, lo=-2, hi=2),), {"axis": 1, "select_last_index": 1})),
        gradient=Rule.NONE,
    )


OPS = (
    *(op for name, fold in FOLDS.items() for op in records(name, fold)),
    places("ArgMax", arg_max),
    places("ArgMin", arg_min),
)
