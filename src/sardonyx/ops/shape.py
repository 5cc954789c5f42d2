"""Operators on shapes: Shape, Size, Reshape, Flatten, Squeeze, Unsqueeze, Identity, Expand, Tile, Constant, ConstantOfShape, Range,
EyeLike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import DType, f32, f64, float_of_code, from_numpy, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Int, alias, ceil_divide, equals, is_nonnegative, maximum, named, product, split, terms
from sardonyx.expr import scalar
from sardonyx.expr.decide import ask
from sardonyx.expr.index import at, broadcast
from sardonyx.expr.known import elements, known, listed
from sardonyx.expr.require import not_below_zero, require_equal, require_nonnegative
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.axes import decided, inserted, known_axes, removed
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.casts import element_type
from sardonyx.ops.pointwise import expand_to, normal_axes, normal_axis, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reduce import drop
from sardonyx.ops.reference import elementwise

# ---- sizes as tensors ---------------------------------------------------------------------------------------------------


def vector(dims: Sequence[Dim]) -> Tensor:
    """Return sizes as a tensor. -> i64[n]"""
    if all(isinstance(d, int) for d in dims):
        return constant(np.array(dims, np.int64))

    def body(i: Dim) -> Expr:
        out = scalar.index(dims[-1])
        for place in reversed(range(len(dims) - 1)):
            here = scalar.apply("eq", scalar.index(i), place)
            out = scalar.select(here, scalar.index(dims[place]), out)
        return out

    return compute(i64, (len(dims),), body)


def sizes(t: Tensor) -> list[Dim]:
    """Return the elements of a tensor of sizes: i64[n] -> n sizes. Sizes of the model's dimensions keep their names."""
    return [named(n) for n in listed(t, "sizes")]


def shape(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    """Compute Shape: the sizes of the axes from start to end. x: T[*d] -> i64[n]"""
    return vector(x.shape[start:end])


def size(x: Tensor) -> Tensor:
    """Compute Size: the number of elements. x: T[*d] -> i64[]"""
    count = product(x.shape)
    return compute(i64, (), lambda: scalar.index(count))


# ---- other axes, the same elements --------------------------------------------------------------------------------------


def reshape(x: Tensor, target: Tensor, allowzero: int = 0) -> Tensor:
    """Compute Reshape: the elements of x in row-major order, in the shape target: i64[r].

    A target of -1 is inferred from the number of elements; 0 (without allowzero) copies the size of that axis of x. Raises Fail if
    the numbers of elements differ.
    """
    return reshaped(x, target_shape(x, sizes(target), bool(allowzero)))


def reshape_1(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape before opset 5, where the target is an attribute."""
    return reshaped(x, target_shape(x, shape, False))


def target_shape(x: Tensor, target: Sequence[Dim], allowzero: bool) -> list[Dim]:
    """Return the target's sizes with 0 and -1 resolved, also if only the run knows them. Raises Fail for impossible sizes."""
    if sum(isinstance(d, int) and d == -1 for d in target) > 1 or any(isinstance(d, int) and d < -1 for d in target):
        raise Fail(f"[ShapeInferenceError] Reshape to {list(target)}")
    dims = [d if allowzero else own_size(x, axis, d) for axis, d in enumerate(target)]
    inferred = [equals_or_no(d, -1) for d in dims]
    if all(e == 0 for e in inferred):
        return dims
    given = [resolved(d, e, 2) for d, e in zip(dims, inferred, strict=True)]  # the size that is inferred counts as 1
    rest = quotient(x.shape, given)
    return [resolved(d, e, rest + 1) for d, e in zip(dims, inferred, strict=True)]


def resolved(d: Dim, inferred: Dim, instead: Dim) -> Dim:
    """Return the size d + inferred instead, where inferred is 1 if d is -1, else 0.

    If only the run knows `inferred`, the formula is given a name, because such formulas grow fast when they are combined.
    """
    if not isinstance(inferred, Int):
        return d + inferred * instead
    size = d + inferred * instead
    require_nonnegative(size, "Reshape to the negative size {}", d)
    return alias(size)


def own_size(x: Tensor, axis: int, d: Dim) -> Dim:
    """Return d, or the size of this axis of x if d is 0. Raises Fail if x has no such axis."""
    zero = equals_or_no(d, 0)
    if zero == 0:
        return d
    if axis >= x.rank and isinstance(d, Int):
        return d
    if axis >= x.rank:
        raise Fail(f"[ShapeInferenceError] Reshape copies axis {axis} of {list(x.shape)}, which does not exist")
    return d + zero * x.shape[axis]


def equals_or_no(d: Dim, number: int) -> Dim:
    """Return 1 where d equals the number (0 or -1), else 0. Formulas known to be non-negative are sizes and taken to be neither."""
    return 0 if isinstance(d, Int) and is_nonnegative(d) else equals(d, number)


def quotient(whole: Sequence[Dim], by: Sequence[Dim]) -> Dim:
    """Return the product of `whole` divided by that of `by`. Equal factors cancel first. The run fails if the division leaves a
    remainder.
    """
    left, divisors = list(whole), []
    for d in by:
        if d in left:
            left.remove(d)
        else:
            divisors.append(d)
    dividend, divisor = product(left), product(divisors)
    if divisor == 0:
        raise Fail(f"[ShapeInferenceError] Reshape of {list(whole)} cannot infer a size, because another one is 0")
    if isinstance(divisor, Int):
        divisor = divisor if is_nonnegative(divisor - 1) else maximum(divisor, 1)
    out = dividend // divisor
    require_equal(out * divisor, dividend, "cannot reshape {}: not a multiple of {}", whole, divisor)
    return out


def reshaped(x: Tensor, target: Sequence[Dim]) -> Tensor:
    """Reshape x in row-major order. T[*d] -> T[*target]. The run fails if the numbers of elements differ.

    Axes are matched in groups of equal size (see `groups`), so that an index map divides within a group only.
    """
    require_equal(product(x.shape), product(target), "cannot reshape {} to {}", x.shape, target)

    def index(*i: Dim) -> list[Dim]:
        out: list[Dim] = [0] * x.rank
        if 0 in x.shape:
            return out
        for ins, outs in groups(x.shape, target):
            flat: Dim = 0
            for a in outs:
                flat = flat * target[a] + i[a]
            for a in reversed(ins[1:]):
                flat, out[a] = flat // x.shape[a], flat % x.shape[a]
            if ins:
                out[ins[0]] = flat
        return out

    return view(x, target, index)


def groups(xs: Sequence[Dim], ys: Sequence[Dim]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the shortest runs of axes on both sides whose sizes have equal products as formulas; axes of size 1 are omitted.

    Example: [a, 6, b] and [a, 2, 3, b] give (a; a), (6; 2, 3), (b; b). Axes after the last match that can be proven form one group.
    """
    left, right = ([a for a, n in enumerate(ns) if n != 1] for ns in (xs, ys))
    while left or right:
        ins, outs = left[:1], right[:1]
        p, q = product(xs[a] for a in ins), product(ys[a] for a in outs)
        while p != q and (len(ins) < len(left) or len(outs) < len(right)):
            if len(ins) < len(left) and (len(outs) == len(right) or is_factor(p, q)):
                p = p * xs[left[len(ins)]]
                ins.append(left[len(ins)])
            else:
                q = q * ys[right[len(outs)]]
                outs.append(right[len(outs)])
        yield ins, outs
        left, right = left[len(ins) :], right[len(outs) :]


def is_factor(p: Dim, q: Dim) -> bool:
    """Return whether formula p is a proper factor of q, or, for numbers, whether p < q."""
    if not isinstance(p, Int) and not isinstance(q, Int):
        return p < q
    return len(terms(p)) == 1 and split(q, p)[1] == 0


def flatten(x: Tensor, axis: int = 1) -> Tensor:
    """Compute Flatten: a matrix. T[*d] -> T[product of the sizes before `axis`, product of the other sizes]"""
    axis = axis if axis == x.rank else normal_axis(axis, x.rank)
    return reshaped(x, [product(x.shape[:axis]), product(x.shape[axis:])])


def squeeze_axes(x: Tensor, axes: Sequence[int] | None) -> Tensor:
    """Remove these axes, or all axes of size 1 (which the sizes fed to a run decide). The run fails if a named axis has another
    size.
    """
    if axes is None:
        return drop(x, [a for a, n in enumerate(x.shape) if ask(n - 1, "==")])
    dropped = normal_axes(axes, x.rank)
    for a in dropped:
        require_equal(x.shape[a], 1, "cannot squeeze axis {} of {}", a, x.shape)
    return drop(x, dropped)


def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Compute Squeeze: remove axes of size 1. T[*d] -> T[*d without the axes]. The run fails if one has another size."""
    return removed(x, axes) if axes is not None and not decided(axes) else squeeze_axes(x, known_axes(axes))


def squeeze_1(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Squeeze before opset 13, where the axes are an attribute."""
    return squeeze_axes(x, axes)


def unsqueeze_axes(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Insert axes of size 1. axes: their positions in the result"""
    rank = x.rank + len(axes)
    new = normal_axes(axes, rank)
    kept = [a for a in range(rank) if a not in new]
    place = {a: p for p, a in enumerate(kept)}
    return view(x, [x.shape[place[a]] if a in place else 1 for a in range(rank)], lambda *i: [i[a] for a in kept])


def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    """Compute Unsqueeze: insert axes of size 1. axes: their positions in the result"""
    return unsqueeze_axes(x, known_axes(axes) or []) if decided(axes) else inserted(x, axes)


def unsqueeze_1(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Unsqueeze before opset 13, where the axes are an attribute."""
    return unsqueeze_axes(x, axes)


def identity(x: Tensor) -> Tensor:
    return view(x, x.shape, lambda *i: i)


# ---- repeated elements --------------------------------------------------------------------------------------------------


def expand(x: Tensor, target: Tensor) -> Tensor:
    """Compute Expand: broadcast x with the shape target: i64[r]"""
    return expand_to(x, broadcast(x.shape, sizes(target)))


def tile(x: Tensor, repeats: Tensor) -> Tensor:
    """Compute Tile: repeat x along each axis. T[*d] -> T[d[0] repeats[0], d[1] repeats[1], ...]. repeats: i64[rank]

    Raises Fail if the number of repeats is wrong.
    """
    times = listed(repeats, "repeats of Tile")
    if len(times) != x.rank:
        raise Fail(f"[ShapeInferenceError] {len(times)} repeats do not fit {list(x.shape)}")
    out = [n * r for n, r in zip(x.shape, times, strict=True)]

    def index(*i: Dim) -> list[Dim]:
        return [a if r == 1 else 0 if n == 0 else a % n for a, n, r in zip(i, x.shape, times, strict=True)]

    return view(x, out, index)


# ---- made from nothing --------------------------------------------------------------------------------------------------


def constant_of_shape(target: Tensor, value: npt.NDArray[Any] | None = None) -> Tensor:
    """Compute ConstantOfShape: a tensor filled with the value (an array of one element, by default f32 zero). target: i64[r] ->
    T[*target]
    """
    if value is not None and value.size != 1:
        raise Fail(f"[ShapeInferenceError] ConstantOfShape of {value.size} values instead of one")
    number = constant(np.zeros((), np.float32) if value is None else value.reshape(()))
    return compute(number.dtype, sizes(target), lambda *_: at(number, ()))


def constant_node(
    value: npt.NDArray[Any] | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Tensor:
    """Return the tensor of the one attribute that is given. Raises Fail for none or several, Unsupported for strings."""
    given = [
        *([] if value is None else [value]),
        *(np.array(v, np.float32) for v in (value_float, value_floats) if v is not None),
        *(np.array(v, np.int64) for v in (value_int, value_ints) if v is not None),
    ]
    if len(given) != 1:
        raise Fail(f"Constant has {len(given)} values instead of one")
    if not from_numpy(given[0].dtype).is_number:
        raise Unsupported(f"a constant of {given[0].dtype}")
    return constant(given[0])


def arange(start: Tensor, limit: Tensor, delta: Tensor, stash_type: int = 1) -> Tensor:
    """Compute Range: start + i delta for all i >= 0 before the limit. T[], T[], T[] -> T[n]

    Narrow floats are computed in the dtype of stash_type. Vectors of one element count as scalars. Raises Fail for larger tensors.
    """
    start, limit, delta = map(as_scalar, (start, limit, delta))
    first, last, step = (known(t) for t in (start, limit, delta))
    if first is not None and last is not None and step is not None and start.dtype.is_integer:
        count = steps(first.item(), last.item(), step.item())
    else:
        count = None
    if count is None:
        (count,) = elements(count_of_steps(start, limit, delta)).ravel()
    counted = start.dtype if start.dtype in (f32, f64) or start.dtype.is_integer else float_of_code(stash_type)

    def body(i: Dim) -> Expr:
        a, d = (scalar.cast(at(t, ()), counted) for t in (start, delta))
        return scalar.cast(scalar.add(a, scalar.mul(scalar.cast(scalar.index(i), counted), d)), start.dtype)

    return compute(start.dtype, (count,), body)


def as_scalar(x: Tensor) -> Tensor:
    """Return the only element of a tensor. T[.., 1, ..] -> T[]. The run fails if there are more."""
    require_equal(product(x.shape), 1, "a tensor of one element is needed, not {}", x)
    return view(x, [], lambda: (0,) * x.rank) if x.rank else x


def steps(start: Dim, limit: Dim, delta: Dim) -> Dim | None:
    """Return how many steps of delta from start stay before the limit, as a formula, or None if the sign of delta is not known.
    Raises Fail for a delta of 0.
    """
    if isinstance(delta, Int):
        return None
    if delta == 0:
        raise Fail("[ShapeInferenceError] Range with a step of 0")
    count = ceil_divide(limit - start, delta) if delta > 0 else ceil_divide(start - limit, -delta)
    return not_below_zero(count)


def count_of_steps(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Return the number of steps as a tensor that the run computes: i64[1]; 0 for a delta of 0."""
    compute_dtype = f64 if start.dtype.is_float else i64

    def body(_: Dim) -> Expr:
        a, b, d = (scalar.cast(at(t, ()), compute_dtype) for t in (start, limit, delta))
        distance = scalar.sub(b, a)
        if compute_dtype is f64:
            count = scalar.cast(scalar.apply("ceil", scalar.div(distance, d)), i64)
        else:
            almost_one = scalar.sub(d, scalar.select(scalar.apply("gt", d, 0), scalar.literal(1, i64), -1))
            count = scalar.div(scalar.add(distance, almost_one), d)
        return scalar.select(scalar.apply("eq", d, 0), 0, scalar.maximum(count, 0))

    return compute(i64, (1,), body)


def eye_like(x: Tensor, dtype: int | None = None, k: int = 0) -> Tensor:
    """Compute EyeLike: ones on the k-th diagonal, else zeros. x: S[n, m] -> T[n, m]"""
    require_ranks("EyeLike of {}, which is not a matrix", (x, 2))
    out: DType = x.dtype if dtype is None else element_type(dtype)
    one, zero = scalar.literal(1, out), scalar.literal(0, out)
    return compute(out, x.shape, lambda i, j: scalar.select(scalar.apply("eq", scalar.index(j - i), k), one, zero))


# ---- records ------------------------------------------------------------------------------------------------------------

X = reals(2, 3, 4)
EMPTY = np.zeros((0, 3, 4), np.float32)


def ints(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def quiet(name: str, meaning: Callable[..., Tensor], since: int, *cases: Case) -> Op:
    """Make the record of an operator without a gradient."""
    return Op(name, since=since, lower=meaning, cases=cases, gradient=Rule.NONE)


RESHAPES = (
    *(Case((X, ints(*t))) for t in ((4, 6), (24,), (2, -1), (0, 12), (-1, 0, 4), (1, 2, 1, 12), (3, 8), (8, 3), (4, 3, 2), (-1,))),
    Case((np.zeros((0, 4), np.float32), ints(2, 0)), {"allowzero": 1}),
    Case((np.float32(3), ints(1, 1))),
    Case((np.array([3], np.int32), np.zeros(0, np.int64))),
)
RANGES = (
    *(
        Case(tuple(np.array(v, np.int64) for v in r))
        for r in ((0, 5, 1), (1, 10, 3), (10, 1, -4), (3, 3, 1), (5, 2, 1), (-3, 4, 7))
    ),
    *(Case(tuple(np.array(v, np.float32) for v in r)) for r in ((0, 1, 0.1), (2, -1, -0.5), (1, 0, 1))),
    Case(tuple(np.array(v, np.int16) for v in (9, -9, -5))),
)
OPS = (
    quiet("Shape", shape, 1, Case((X,)), Case((X,), {"start": 1}), Case((X,), {"start": -2, "end": -1}), Case((X,), {"end": 9})),
    quiet("Size", size, 1, Case((X,)), Case((EMPTY,)), Case((np.float32(2),))),
    Op("Reshape", since=5, lower=reshape, cases=RESHAPES),
    Op("Reshape", since=1, lower=reshape_1, reference=elementwise.reshape),
    Op(
        "Flatten",
        since=1,
        lower=flatten,
        cases=(Case((X,)), *(Case((X,), {"axis": a}) for a in (0, 2, 3, -1)), Case((EMPTY,), {"axis": 0})),
    ),
    Op(
        "Squeeze",
        since=13,
        lower=squeeze,
        cases=(Case((X[:1, :, :1],)), Case((X[:1, :, :1], ints(-1))), Case((X[:1, :, :1], ints(2, 0)))),
    ),
    Op("Squeeze", since=1, lower=squeeze_1, cases=(Case((X[:1],)), Case((X[:1, :, :1],), {"axes": [0]}))),
    Op(
        "Unsqueeze",
        since=13,
        lower=unsqueeze,
        cases=(Case((X, ints(0))), Case((X, ints(-1, 1))), Case((np.float32(1), ints(0, 1)))),
    ),
    Op("Unsqueeze", since=1, lower=unsqueeze_1, cases=(Case((X,), {"axes": [1, 4]}),)),
    Op("Identity", since=1, lower=identity, cases=(Case((X,)), Case((integers(2, 3),)), Case((np.float32(2),)))),
    Op(
        "Expand",
        since=8,
        lower=expand,
        cases=(Case((X[:, :1], ints(2, 3, 1))), Case((X[:1, :1], ints(5, 1, 2, 1))), Case((X, ints(4)))),
    ),
    Op(
        "Tile", since=6, lower=tile, cases=(Case((X, ints(1, 2, 3))), Case((X[:, :1], ints(2, 3, 0))), Case((EMPTY, ints(2, 1, 1))))
    ),
    quiet("Constant", constant_node, 1),
    quiet(
        "ConstantOfShape",
        constant_of_shape,
        9,
        Case((ints(2, 3),)),
        Case((ints(2, 0),), {"value": np.array([7], np.int32)}),
        Case((ints(),), {"value": np.array([True])}),
    ),
    quiet("Range", arange, 11, *RANGES),
    quiet(
        "EyeLike",
        eye_like,
        9,
        Case((reals(3, 4),)),
        Case((reals(3, 4),), {"k": 1, "dtype": 6}),
        Case((integers(4, 3),), {"k": -2, "dtype": 11}),
    ),
)
