"""Building blocks of operators: element by element with broadcasting, views, reductions. Tensors in, tensors out."""

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
    """fn of the elements, broadcast: T[*d] ... -> dtype[*d] (the first input's dtype if none is given)."""
    shape = broadcast(*(x.shape for x in xs))
    return compute(dtype or xs[0].dtype, shape, lambda *ix: fn(*(at(x, ix) for x in xs)))


def full_like(x: Tensor, number: float) -> Tensor:
    """A scalar constant of x's dtype."""
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
    return x if x.dtype is dtype else pointwise(lambda e: scalar.cast(e, dtype), x, dtype=dtype)


def normal_axis(axis: int, rank: int) -> int:
    """axis in [0, rank), counted from the end if negative. Raises Fail if it is outside."""
    if not -rank <= axis < rank:
        raise Fail(f"axis {axis} is out of range for a tensor of rank {rank}")
    return axis % rank


def normal_axes(axes: Sequence[Any], rank: int) -> list[int]:
    """Each axis in [0, rank), in the order given. Raises Fail for one outside or twice."""
    out = [normal_axis(int(a), rank) for a in axes]
    if len(set(out)) < len(out):
        raise Fail(f"axes {list(axes)} name one axis twice")
    return out


def view(x: Tensor, shape: Sequence[Dim], index: Callable[..., Sequence[Dim]]) -> Tensor:
    """The tensor of this shape whose element at i is x's at index(*i)."""
    return compute(x.dtype, shape, lambda *ix: at(x, tuple(index(*ix))))


def expand_to(x: Tensor, shape: Sequence[Dim]) -> Tensor:
    """x broadcast to this shape: T[*s] -> T[*shape]. Raises Fail if it does not fit."""
    fixed = [(n, m) for n, m in zip(x.shape[::-1], shape[::-1], strict=False) if isinstance(n, int) and isinstance(m, int)]
    if x.rank > len(shape) or any(n not in (1, m) for n, m in fixed):
        raise Fail(f"[ShapeInferenceError] {list(x.shape)} does not broadcast to {list(shape)}")
    return view(x, shape, lambda *i: i[len(shape) - x.rank :])


def lifted(fn: Callable[..., Expr]) -> Callable[..., Tensor]:
    """A function of one element, and attributes, as one of a tensor."""

    @functools.wraps(fn)
    def on_tensor(x: Tensor, **attributes: Any) -> Tensor:
        return pointwise(lambda e: fn(e, **attributes), x)

    return on_tensor


def reduce(fn: str, dtype: DType, shape: Sequence[Dim], extents: Sequence[Dim], body: Callable[..., Expr]) -> Tensor:
    """The reduction of body (see expr.tensor.reduction), in the dtype that arithmetic on `dtype` runs in, rounded to it once."""
    carrier = scalar.wide(dtype)
    r = reduction(fn, carrier, shape, extents, lambda *i: scalar.cast(body(*i), carrier))
    return cast(r, dtype)


def along(fn: str, x: Tensor, axes: Sequence[int], term: Callable[[Expr], Expr] | None = None) -> Tensor:
    """fn over these axes (in [0, rank)) of term(x), each left with one element: T[*d] -> T[*d with 1 at the axes]."""
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)]

    def body(*i: Dim) -> Expr:
        over = dict(zip(axes, i[x.rank :], strict=True))
        read = at(x, [over.get(a, own) for a, own in enumerate(i[: x.rank])])
        return read if term is None else term(read)

    return reduce(fn, x.dtype, shape, [x.shape[a] for a in axes], body)


def mean_along(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean over these axes, each left with one element: T[*d] -> T[*d with 1 at the axes]."""
    count = scalar.cast(scalar.index(product(x.shape[a] for a in axes)), scalar.wide(x.dtype))
    total = cast(along("add", x, axes), x.dtype)
    return pointwise(lambda e: scalar.div(e, scalar.cast(count, e.dtype)), total)
