"""Pooling: MaxPool (with indices), AveragePool, LpPool, their global forms, MaxUnpool."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType, boolean, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, product, strides
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.known import listed
from sardonyx.expr.require import require_nonnegative, require_same
from sardonyx.expr.tensor import Read, Tensor, compute, constant, kernel_outputs
from sardonyx.loop.builder import KernelBuilder
from sardonyx.loop.nodes import Const, Expr, Kernel
from sardonyx.loop.values import Value
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import along, mean_along, pointwise, reduce
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import windows as reference
from sardonyx.ops.windows import Window, bordered, lowest, pad, per_axis, windows


def max_pool(
    x: Tensor,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
    outputs: int = 1,
) -> list[Tensor]:
    """Compute MaxPool. x: T[n, c, *d] -> T[n, c, *o], and the flat index in x of each maximum, the first of equal ones: i64[n, c,
    *o]
    """
    axis_windows = pool_windows(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    y = over_windows("max", x, axis_windows, lowest(x.dtype))
    return [y] if outputs == 1 else [y, found_at(x, y, axis_windows, bool(storage_order))]


def pool_windows(
    x: Tensor,
    kernel_shape: list[int],
    strides: list[int] | None,
    dilations: list[int] | None,
    pads: list[int] | None,
    auto_pad: str,
    ceil_mode: int,
) -> list[Window]:
    """Return the pooling window along each spatial axis. Raises Fail if x has no spatial axis."""
    if x.rank < 3:
        raise Fail(f"[ShapeInferenceError] pooling of {list(x.shape)}, which has no spatial axis")
    return windows(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)


def over_windows(
    fn: str, x: Tensor, axis_windows: Sequence[Window], fill: float, term: Callable[[Expr], Expr] | None = None
) -> Tensor:
    """Reduce term(x) by fn over each window; positions outside x count as `fill`. x: T[n, c, *d] -> T[n, c, *o]

    Small windows read x with a border of `fill`. Windows that may be longer than the data have no border in memory: their reads are
    guarded.
    """
    wide = any(w.is_wide for w in axis_windows)
    source = x if wide else bordered(x, axis_windows, fill)

    def body(n: Dim, c: Dim, *i: Dim) -> Expr:
        outs, taps = i[: len(axis_windows)], i[len(axis_windows) :]
        if not wide:
            read = at(source, (n, c, *(w.position(o, r) for w, o, r in zip(axis_windows, outs, taps, strict=True))))
            return read if term is None else term(read)
        places, guard = guarded(axis_windows, outs, taps)
        read = at(source, (n, c, *places), guard)
        return scalar.select(guard, read if term is None else term(read), fill)

    return reduce(fn, x.dtype, [*x.shape[:2], *(w.out for w in axis_windows)], [w.taps for w in axis_windows], body)


def guarded(axis_windows: Sequence[Window], outs: Sequence[Dim], taps: Sequence[Dim]) -> tuple[list[Dim], Expr]:
    """Return the positions in x that windows visit, and a bool expression: whether the position lies inside x."""
    visited = [w.tap(o, t) for w, o, t in zip(axis_windows, outs, taps, strict=True)]
    places = [w.position(o, r) - w.lo for w, o, r in zip(axis_windows, outs, visited, strict=True)]
    guards = [g for w, o, r in zip(axis_windows, outs, visited, strict=True) if (g := w.holds(o, r)) is not None]
    return places, functools.reduce(scalar.logical_and, guards) if guards else scalar.literal(True, boolean)


def found_at(x: Tensor, y: Tensor, axis_windows: Sequence[Window], columns: bool) -> Tensor:
    """Return the flat index in x of the first element of each window that equals y's (or is NaN, if y is). -> i64[n, c, *o]

    columns: count the spatial axes in column-major order (storage_order=1).
    """
    steps = strides(x.shape)
    none = scalar.index(product(x.shape))

    def candidate(n: Dim, c: Dim, *i: Dim) -> Expr:
        outs = i[: len(axis_windows)]
        places, guard = guarded(axis_windows, outs, i[len(axis_windows) :])
        e = Read(x, (n, c, *places), None if isinstance(guard, Const) else guard)
        hit = scalar.apply("or", scalar.apply("eq", e, at(y, (n, c, *outs))), scalar.is_nan(e))
        hit = hit if isinstance(guard, Const) else scalar.logical_and(hit, guard)
        where: Dim = 0
        for place, step in zip((n, c, *places), steps, strict=True):
            where = where + place * step
        return scalar.select(hit, scalar.index(where), none)

    first = reduce("min", i64, y.shape, [w.taps for w in axis_windows], candidate)
    return pointwise(lambda e: by_columns(e, x.shape[2:]), first) if columns else first


def by_columns(flat: Expr, extents: Sequence[Dim]) -> Expr:
    """Convert a row-major flat index into one that counts the last axes, of these extents, in column-major order."""
    total = scalar.index(product(extents))
    rest = scalar.apply("rem", flat, total)
    out = scalar.sub(flat, rest)
    for axis in reversed(range(len(extents))):
        digit = scalar.apply("rem", rest, scalar.index(extents[axis]))
        rest = scalar.div(rest, scalar.index(extents[axis]))
        out = scalar.add(out, scalar.mul(digit, scalar.index(product(extents[:axis]))))
    return out


def average_pool(
    x: Tensor,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute AveragePool: the mean of each window. x: T[n, c, *d] -> T[n, c, *o]; padding counts as elements only with
    count_include_pad.
    """
    axis_windows = pool_windows(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    total = over_windows("add", x, axis_windows, 0)

    def mean(*i: Dim) -> Expr:
        count = product(counted(w, o, bool(count_include_pad)) for w, o in zip(axis_windows, i[2:], strict=True))
        return scalar.div(at(total, i), scalar.cast(scalar.index(count), x.dtype))

    return compute(x.dtype, total.shape, mean)


def counted(w: Window, o: Dim, with_pads: bool) -> Dim:
    """Return how many elements of window o count in its mean. Positions that ceil_mode adds beyond the padding never count."""
    if w.is_inside or (with_pads and isinstance(w.beyond, int) and w.beyond == 0):
        return w.size
    return w.inside(o, w.lo, w.hi) if with_pads else w.inside(o, 0, 0)


def lp_pool(
    x: Tensor,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    p: float = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute LpPool: the p-norm of each window. x: T[n, c, *d] -> T[n, c, *o]"""
    axis_windows = pool_windows(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return root(over_windows("add", x, axis_windows, 0, lambda e: power(e, p)), p)


def power(e: Expr, p: float) -> Expr:
    """Compute |e|^p."""
    if p == 2:
        return scalar.mul(e, e)
    size = scalar.apply("abs", e)
    return size if p == 1 else scalar.apply("pow", size, p)


def root(x: Tensor, p: float) -> Tensor:
    """Compute x^(1/p). Raises Fail for p = 0."""
    if p == 0:
        raise Fail("a norm of order 0")
    if p == 1:
        return x
    return pointwise(lambda e: scalar.apply("sqrt", e) if p == 2 else scalar.apply("pow", e, 1 / p), x)


def spatial(x: Tensor) -> list[int]:
    """Return the spatial axes of x: T[n, c, *d]."""
    return list(range(2, x.rank))


def global_average_pool(x: Tensor) -> Tensor:
    """Compute GlobalAveragePool: the mean over all spatial axes. x: T[n, c, *d] -> T[n, c, 1, ...]"""
    return mean_along(x, spatial(x))


def global_max_pool(x: Tensor) -> Tensor:
    """Compute GlobalMaxPool: the maximum over all spatial axes. x: T[n, c, *d] -> T[n, c, 1, ...]"""
    return along("max", x, spatial(x))


def global_lp_pool(x: Tensor, p: float = 2) -> Tensor:
    """Compute GlobalLpPool: the p-norm over all spatial axes. x: T[n, c, *d] -> T[n, c, 1, ...]"""
    return root(along("add", x, spatial(x), lambda e: power(e, p)), p)


@functools.cache
def unpool_kernel(dtype: DType) -> Kernel:
    """Build the kernel of MaxUnpool: y = 0, then y[places[k]] = x[k] for each k, so that the last of equal places wins."""
    b = KernelBuilder(f"unpooling of {dtype}")
    n, size = b.size("n"), b.size("size")
    x, places, y = b.input("x", dtype, n), b.input("places", i64, n), b.output("y", dtype, size)
    with b.loop("i", size) as i:
        y[i] = Value(scalar.literal(0, dtype))
    with b.loop("k", n) as k:
        y[places.checked(places[k], size, 0)] = x[k]
    return b.build()


def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute MaxUnpool: write x at its flat indices into a tensor of zeros that has the size of MaxPool's input.

    x: T[n, c, *d], indices: i64[n, c, *d] -> T[n, c, *o], padded with zeros to output_shape. Raises Fail if the shapes don't fit.
    """
    rank = len(kernel_shape)
    require_ranks("MaxUnpool of {} by indices {}, whose axes do not fit the kernel", (x, 2 + rank), (indices, 2 + rank))
    require_same(x.shape, indices.shape, "MaxUnpool of {} by indices {}, which differ in shape", x.shape, indices.shape)
    steps, borders = per_axis("strides", strides, rank), pads or [0] * (2 * rank)
    if len(borders) != 2 * rank:
        raise Fail(f"[ShapeInferenceError] MaxUnpool with {len(borders)} pads for {rank} axes")
    shape = [*x.shape[:2]]
    for a, size in enumerate(kernel_shape):
        shape.append((x.shape[2 + a] - 1) * steps[a] + size - borders[a] - borders[rank + a])
    sizes = [product(x.shape), product(shape)]
    (y,) = kernel_outputs(unpool_kernel(x.dtype), [x, indices], [(x.dtype, shape)], sizes, ["index {0} is outside the {1} outputs"])
    if output_shape is None:
        return y
    asked = listed(output_shape, "output_shape")
    if len(asked) != len(shape):
        raise Fail(f"[ShapeInferenceError] MaxUnpool of {list(x.shape)} into {asked}")
    for m, n in zip(asked, shape, strict=True):
        require_nonnegative(m - n, "MaxUnpool to {}, smaller than {}", asked, shape)
    return pad(y, [0] * x.rank, [m - n for m, n in zip(asked, shape, strict=True)], zero(x.dtype))


def zero(dtype: DType) -> Tensor:
    """Make a scalar constant 0."""
    return constant(np.zeros((), dtype.numpy))


IMAGE = reals(2, 3, 7, 6)
WINDOWS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (IMAGE, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    (IMAGE, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 1], "ceil_mode": 1}),
    (IMAGE, {"kernel_shape": [2, 2], "dilations": [2, 1], "pads": [1, 0, 1, 0]}),
    (reals(1, 2, 9), {"kernel_shape": [4], "strides": [3], "auto_pad": "SAME_LOWER"}),
    (reals(1, 2, 4, 3, 5), {"kernel_shape": [2, 3, 1], "auto_pad": "VALID"}),
    (reals(0, 2, 4, 4), {"kernel_shape": [2, 2]}),
)
PLAIN = tuple(Case((x,), a) for x, a in WINDOWS)
MAX = (*PLAIN, Case((integers(1, 2, 5, 5, dtype=np.int8),), {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}, "i8"))
AVERAGE = (*PLAIN, *(Case((x,), {**a, "count_include_pad": 1}) for x, a in WINDOWS))
LP = tuple(Case((x,), {**a, "p": p}) for (x, a), p in zip(WINDOWS, (1, 2, 3, 2, 4, 2), strict=True))
MAX_AT = tuple(Case((x,), {**a, "storage_order": k % 2}, outputs=2) for k, (x, a) in enumerate(WINDOWS))
GLOBAL = (Case((IMAGE,)), Case((reals(1, 3, 5),)), Case((reals(2, 1, 2, 3, 2),)))


POOLED, PLACES = reals(1, 2, 2, 3), np.array([[[[0, 3, 4], [13, 21, 17]], [[24, 26, 35], [36, 45, 41]]]])

OPS = (
    Op("MaxPool", since=1, lower=max_pool, reference=reference.max_pool, cases=MAX + MAX_AT),
    Op("AveragePool", since=1, lower=average_pool, reference=reference.average_pool, cases=AVERAGE),
    Op("LpPool", since=1, lower=lp_pool, reference=reference.lp_pool, cases=LP),
    Op(
        "MaxUnpool",
        since=9,
        kernel=max_unpool,
        quantised=Rule.NONE,
        cases=(
            Case((POOLED, PLACES), {"kernel_shape": [2, 2], "strides": [2, 2]}),
            Case((POOLED, PLACES, np.array([1, 2, 5, 7])), {"kernel_shape": [2, 2], "strides": [2, 2]}, "output_shape"),
        ),
    ),
    Op("GlobalAveragePool", since=1, lower=global_average_pool, cases=GLOBAL),
    Op("GlobalMaxPool", since=1, lower=global_max_pool, reference=reference.global_max_pool, cases=GLOBAL),
    Op("GlobalLpPool", since=1, lower=global_lp_pool, cases=GLOBAL, reference=reference.global_lp_pool),
)
