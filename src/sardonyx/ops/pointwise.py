"""Building blocks of operators: elementwise functions with broadcasting, views, reductions. They take tensors and return tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at, broadcast
from sardonyx.expr.tensor import Tensor, compute, constant, reduction
from sardonyx.loop.nodes import Expr


def pointwise(fn: Callable[..., Expr], *xs: Tensor, dtype: DType | None = None) -> Tensor:
    """Apply fn to the elements of the tensors, broadcast to one shape. The result has dtype `dtype`, or that of the first tensor."""
    shape = broadcast(*(x.shape for x in xs))
    return compute(dtype or xs[0].dtype, shape, lambda *ix: fn(*(at(x, ix) for x in xs)))


def full_like(x: Tensor, number: float) -> Tensor:
    """Make a scalar constant that has the dtype of x."""
    return constant(np.array(number, x.dtype.numpy))


def add(x: Tensor, y: Tensor) -> Tensor:
    return pointwise(scalar.add, x, y)


def sub(x: Tensor, y: Tensor) -> Tensor:
    return pointwise(scalar.sub, x, y)


def mul(x: Tensor, y: Tensor) -> Tensor:
    return pointwise(scalar.mul, x, y)


def div(x: Tensor, y: Tensor) -> Tensor:
    return pointwise(scalar.div, x, y)


def cast(x: Tensor, dtype: DType) -> Tensor:
    """Convert x to the dtype. T[*d] -> dtype[*d]"""
    return x if x.dtype is dtype else pointwise(lambda e: scalar.cast(e, dtype), x, dtype=dtype)


def normal_axis(axis: int, rank: int) -> int:
    """Return the axis counted from the start, in [0, rank). Raises Fail if it is out of range."""
    if not -rank <= axis < rank:
        raise Fail(f"axis {axis} is out of range for a tensor of rank {rank}")
    return axis % rank


def normal_axes(axes: Sequence[Any], rank: int) -> list[int]:
    """Return the axes counted from the start, in the order given. Raises Fail if one is out of range or occurs twice."""
    out = [normal_axis(int(a), rank) for a in axes]
    if len(set(out)) < len(out):
        raise Fail(f"axes {list(axes)} name one axis twice")
    return out


def view(x: Tensor, shape: Sequence[Dim], index: Callable[..., Sequence[Dim]]) -> Tensor:
    """Return the tensor of this shape whose element at i is x[index(*i)]. No element is copied where readers can use the index map."""
    return compute(x.dtype, shape, lambda *ix: at(x, tuple(index(*ix))))


def expand_to(x: Tensor, shape: Sequence[Dim]) -> Tensor:
    """Broadcast x to this shape. T[*s] -> T[*shape]. Raises Fail if the shapes don't fit."""
    fixed = [(n, m) for n, m in zip(x.shape[::-1], shape[::-1], strict=False) if isinstance(n, int) and isinstance(m, int)]
    if x.rank > len(shape) or any(n not in (1, m) for n, m in fixed):
        raise Fail(f"[ShapeInferenceError] {list(x.shape)} does not broadcast to {list(shape)}")
    return view(x, shape, lambda *i: i[len(shape) - x.rank :])


def lifted(fn: Callable[..., Expr]) -> Callable[..., Tensor]:
    """Turn a function of one element and attributes into a function of a tensor."""

    @functools.wraps(fn)
    def on_tensor(x: Tensor, **attributes: Any) -> Tensor:
        return pointwise(lambda e: fn(e, **attributes), x)

    return on_tensor


def reduce(fn: str, dtype: DType, shape: Sequence[Dim], extents: Sequence[Dim], body: Callable[..., Expr]) -> Tensor:
    """Reduce body over the extents, in the accumulator dtype of `dtype`, and round the result once. See expr.tensor.reduction."""
    compute_dtype = scalar.wide(dtype)
    r = reduction(fn, compute_dtype, shape, extents, lambda *i: scalar.cast(body(*i), compute_dtype))
    return cast(r, dtype)


def along(fn: str, x: Tensor, axes: Sequence[int], term: Callable[[Expr], Expr] | None = None) -> Tensor:
    """Reduce term(x) by fn over these axes, which keep size 1. x: T[*d] -> T[*d with 1 at the axes]. Axes must be in [0, rank)."""
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)]

    def body(*i: Dim) -> Expr:
        over = dict(zip(axes, i[x.rank :], strict=True))
        read = at(x, [over.get(a, own) for a, own in enumerate(i[: x.rank])])
        return read if term is None else term(read)

    return reduce(fn, x.dtype, shape, [x.shape[a] for a in axes], body)


def mean_along(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Compute the mean over these axes, which keep size 1. x: T[*d] -> T[*d with 1 at the axes]"""
    count = scalar.cast(scalar.index(product(x.shape[a] for a in axes)), scalar.wide(x.dtype))
    total = cast(along("add", x, axes), x.dtype)
    return pointwise(lambda e: scalar.div(e, scalar.cast(count, e.dtype)), total)
