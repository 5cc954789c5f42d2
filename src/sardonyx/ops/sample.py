"""Sampling of images at points that are data: GridSample, AffineGrid, DeformConv."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, product
from sardonyx.base.symbolic import strides as strides_of
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import listed
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.conv import Channel, along_channels, conv_windows, over_channels
from sardonyx.ops.pointwise import pointwise
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.resize import cubic, triangle


class Tap(Struct, frozen=True):
    """One neighbour of a sampled point along an axis.

    place: its index, inside the axis. weight: its interpolation weight (None for 1). inside: whether it counts (None for always).
    """

    place: Dim
    weight: Expr | None
    inside: Expr | None


def blend(x: Tensor, before: Sequence[Dim], axes: Sequence[Sequence[Tap]], dtype: DType) -> Expr:
    """Add up x at all combinations of one tap per axis, times the taps' weights, in dtype. before: the leading indices into x"""
    total: Expr | None = None
    for taps in itertools.product(*axes):
        term = scalar.cast(at(x, (*before, *(t.place for t in taps))), dtype)
        for t in taps:
            if t.weight is not None:
                term = scalar.mul(term, t.weight)
        for t in taps:
            if t.inside is not None:
                term = scalar.select(t.inside, term, 0)
        total = term if total is None else scalar.add(total, term)
    assert total is not None
    return total


def neighbours(x: Expr, n: Dim, kernel: Callable[[Expr], Expr], reach: int, border: Callable[[Expr], Expr] | None) -> list[Tap]:
    """Return the taps around coordinate x on an axis of n elements, weighted by the kernel.

    border: maps an index outside the axis to one inside; if None, taps outside the axis count as 0.
    """
    start = scalar.cast(scalar.apply("floor", x), i64)
    out = []
    for k in range(1 - reach, reach + 1):
        place = scalar.add(start, k)
        weight = kernel(scalar.sub(scalar.cast(place, x.dtype), x))
        out.append(tap(place, n, weight, border))
    return out


def tap(place: Expr, n: Dim, weight: Expr | None, border: Callable[[Expr], Expr] | None) -> Tap:
    """Return the tap at an index, which the border maps into the axis; without a border a tap outside the axis counts as 0."""
    inside = None
    if border is None:
        inside = scalar.logical_and(scalar.apply("ge", place, 0), scalar.apply("lt", place, scalar.index(n)))
    else:
        place = border(place)
    limited = scalar.minimum(scalar.maximum(place, 0), scalar.index(n - 1))
    return Tap(element(limited, n), weight, inside)


# ---- GridSample ------------------------------------------------------------------------------------------------------------

CUBIC = -0.75
"""Parameter a of GridSample's cubic kernel."""


def grid_sample(x: Tensor, grid: Tensor, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros") -> Tensor:
    """Compute GridSample: interpolate x at the points of the grid. x: T[n, c, *d], grid: U[n, *o, len(d)] -> T[n, c, *o]

    A point has coordinates in [-1, 1], the last spatial axis first. Raises Fail for unknown modes and sizes that don't fit.
    """
    rank = x.rank - 2
    require_equal(grid.shape[0], x.shape[0], "a grid of shape {} does not fit {}", grid.shape, x.shape)
    require_equal(grid.shape[-1], rank, "a grid of shape {} does not fit {}", grid.shape, x.shape)
    if mode not in ("linear", "nearest", "cubic") or padding_mode not in ("zeros", "border", "reflection"):
        raise Fail(f"GridSample with the unknown mode {mode} or padding_mode {padding_mode}")
    compute_dtype = scalar.wide(grid.dtype)
    borders = [Border(n, bool(align_corners), padding_mode, compute_dtype) for n in x.shape[2:]]

    def coordinate(n: Dim, *i: Dim) -> Expr:
        """Return the point's coordinate along the axis that i[-1] stands for."""
        share = scalar.cast(at(grid, (n, *i)), compute_dtype)
        choices = [border.coordinate(share, mode) for border in reversed(borders)]
        out = choices[0]
        for a, choice in enumerate(choices[1:], 1):
            out = scalar.select(scalar.apply("eq", scalar.index(i[-1]), a), choice, out)
        return out

    where = compute(compute_dtype, grid.shape, coordinate)

    def body(n: Dim, c: Dim, *o: Dim) -> Expr:
        axes = []
        for a, border in enumerate(borders):
            place = at(where, (n, *o, rank - 1 - a))
            axes.append(border.taps(place, mode))
        return scalar.cast(blend(x, (n, c), axes, compute_dtype), x.dtype)

    return compute(x.dtype, [*x.shape[:2], *grid.shape[1:-1]], body)


class Border(Struct, frozen=True):
    """How points map to coordinates of one axis of n elements, and what stands for elements outside it (mode: zeros, border,
    reflection).
    """

    n: Dim
    align_corners: bool
    mode: str
    dtype: DType

    def number(self, n: Dim) -> Expr:
        return scalar.cast(scalar.index(n), self.dtype)

    def coordinate(self, share: Expr, sampling: str) -> Expr:
        """Convert a point in [-1, 1] to a coordinate, moved into the axis in modes border and reflection.

        In mode border, points for cubic sampling stay outside; their neighbours are clamped instead, which gives other weights.
        """
        if self.align_corners:
            x = scalar.mul(scalar.mul(scalar.add(share, 1), 0.5), self.number(self.n - 1))
        else:
            x = scalar.mul(scalar.sub(scalar.mul(scalar.add(share, 1), self.number(self.n)), 1), 0.5)
        if sampling == "nearest":
            x = scalar.apply("rint", x)
        if self.mode == "border" and sampling != "cubic":
            return scalar.minimum(scalar.maximum(x, 0), self.number(self.n - 1))
        return self.reflected(x) if self.mode == "reflection" else x

    def reflected(self, x: Expr) -> Expr:
        """Mirror x at the ends of the axis until it lies between them."""
        low = 0.0 if self.align_corners else -0.5
        high = scalar.sub(self.number(self.n), 1.0 if self.align_corners else 0.5)
        width = scalar.sub(high, low)
        below, above = scalar.apply("lt", x, low), scalar.apply("gt", x, high)
        past = scalar.select(below, scalar.sub(low, x), scalar.sub(x, high))
        times = scalar.apply("trunc", scalar.div(past, width))
        rest = scalar.sub(past, scalar.mul(times, width))
        even = scalar.apply("eq", scalar.apply("mod", times, 2), 0)
        near_low = scalar.apply("eq", below, even)
        moved = scalar.select(near_low, scalar.add(rest, low), scalar.sub(high, rest))
        return scalar.select(scalar.apply("or", below, above), moved, x)

    def taps(self, x: Expr, mode: str) -> list[Tap]:
        """Return the taps of the coordinate x."""
        border = {"zeros": None, "border": lambda place: place, "reflection": self.reflected_place}[self.mode]
        if mode == "nearest":
            return [tap(scalar.cast(x, i64), self.n, None, border)]
        return neighbours(x, self.n, triangle, 1, border) if mode == "linear" else neighbours(x, self.n, cubic(CUBIC), 2, border)

    def reflected_place(self, place: Expr) -> Expr:
        """Mirror an index into the axis."""
        return scalar.cast(self.reflected(scalar.cast(place, self.dtype)), i64)


def grid_sample_16(x: Tensor, grid: Tensor, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros") -> Tensor:
    """GridSample before opset 20: for two spatial axes, with modes bilinear and bicubic."""
    names = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
    return grid_sample(x, grid, align_corners, names.get(mode, mode), padding_mode)


def affine_grid(theta: Tensor, size: Tensor, align_corners: int = 0) -> Tensor:
    """Compute AffineGrid: the points at which an image transformed by theta reads its original. theta: T[n, r, r + 1], size: i64[r
    + 2] -> T[n, *size[2:], r]
    """
    require_ranks("transforms of shape {}, not [n, r, r + 1]", (theta, 3))
    outs = listed(size, "the size")[2:]
    require_same(theta.shape[1:], [len(outs), len(outs) + 1], "theta of shape {} does not fit {} axes", theta.shape, len(outs))
    compute_dtype = scalar.wide(theta.dtype)

    def point(i: Dim, n: Dim) -> Expr:
        """Return the i-th of n points of [-1, 1]: evenly spaced from end to end with align_corners, else the centres of n equal
        parts.
        """
        if align_corners:
            last = scalar.cast(scalar.index(n - 1), compute_dtype)
            share = scalar.div(scalar.cast(scalar.index(2 * i), compute_dtype), scalar.maximum(last, 1))
        else:
            share = scalar.div(scalar.cast(scalar.index(2 * i + 1), compute_dtype), scalar.cast(scalar.index(n), compute_dtype))
        return scalar.sub(share, 1)

    def body(n: Dim, *i: Dim) -> Expr:
        *places, row = i
        out = scalar.cast(at(theta, (n, row, len(outs))), compute_dtype)
        for column, (place, extent) in enumerate(zip(reversed(places), reversed(outs), strict=True)):
            out = scalar.add(out, scalar.mul(scalar.cast(at(theta, (n, row, column)), compute_dtype), point(place, extent)))
        return scalar.cast(out, theta.dtype)

    return compute(theta.dtype, [theta.shape[0], *outs, len(outs)], body)


# ---- DeformConv ------------------------------------------------------------------------------------------------------------


def deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    offset_group: int = 1,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute DeformConv: a convolution whose taps are moved by offsets, and read x by linear interpolation.

    x: T[n, c, *d], w: T[m, c / group, *k], offset: T[n, offset_group taps len(k), *o], mask: T[n, offset_group taps, *o], factors
    of the samples, b: T[m] -> T[n, m, *o], where taps = product(k). Raises Fail for sizes that don't fit.
    """
    axis_windows = conv_windows(x, w, group, "NOTSET", dilations, kernel_shape, pads, strides)
    rank = len(axis_windows)
    taps, outs = [window.size for window in axis_windows], [window.out for window in axis_windows]
    if offset_group < 1:
        raise Fail(f"DeformConv with offset_group {offset_group}")
    require_equal(
        x.shape[1] % offset_group, 0, "DeformConv of {} channels: not divisible by offset_group {}", x.shape[1], offset_group
    )
    steps, points, each = strides_of(taps), product(taps), x.shape[1] // offset_group
    moves = [x.shape[0], offset_group * points * rank, *outs]
    require_same(offset.shape, moves, "offsets have the shape {}, not {}", offset.shape, moves)
    if mask is not None:
        moves = [x.shape[0], offset_group * points, *outs]
        require_same(mask.shape, moves, "a mask has the shape {}, not {}", mask.shape, moves)
    compute_dtype = scalar.wide(x.dtype)

    def sampled(n: Dim, c: Dim, *i: Dim) -> Expr:
        r, o = i[:rank], i[rank:]
        block = (c // each) * points
        for k, step in zip(r, steps, strict=True):
            block = block + k * step
        axes = []
        for a, window in enumerate(axis_windows):
            start = scalar.cast(scalar.index(window.position(o[a], r[a]) - window.lo), compute_dtype)
            moved = scalar.cast(at(offset, (n, block * rank + a, *o)), compute_dtype)
            axes.append(neighbours(scalar.add(start, moved), window.extent, triangle, 1, None))
        out = blend(x, (n, c), axes, compute_dtype)
        if mask is not None:
            out = scalar.mul(out, scalar.cast(at(mask, (n, block, *o)), compute_dtype))
        return scalar.cast(out, x.dtype)

    columns = compute(x.dtype, [*x.shape[:2], *taps, *outs], sampled)

    def term(at_channel: Channel, o: Sequence[Dim], r: Sequence[Dim]) -> Expr:
        n, c, own, m, _ = at_channel
        return scalar.mul(scalar.cast(at(columns, (n, c, *r, *o)), compute_dtype), scalar.cast(at(w, (m, own, *r)), compute_dtype))

    y = over_channels(x.dtype, (x.shape[0], group, w.shape[1], w.shape[0] // group), outs, taps, term)
    return y if b is None else pointwise(scalar.add, y, along_channels(b, y.rank))


IMAGE = reals(2, 3, 4, 5)
GRID = reals(2, 3, 2, 2, scale=1.6)

OPS = (
    Op(
        "GridSample",
        since=20,
        lower=grid_sample,
        quantised=Rule.NONE,
        tolerance=1e-4,
        cases=(
            *(
                Case((IMAGE, GRID), {"mode": m, "padding_mode": p, "align_corners": int(p == "border")})
                for m in ("linear", "nearest", "cubic")
                for p in ("zeros", "border", "reflection")
            ),
            Case((reals(1, 2, 3, 4, 3), reals(1, 2, 2, 3, 3, scale=1.2)), {"align_corners": 1}, "three_axes"),
        ),
    ),
    Op("GridSample", since=16, lower=grid_sample_16, quantised=Rule.NONE, tolerance=1e-4),
    Op(
        "AffineGrid",
        since=20,
        lower=affine_grid,
        quantised=Rule.NONE,
        cases=(
            Case((reals(2, 2, 3), np.array([2, 3, 4, 5]))),
            Case((reals(2, 3, 4), np.array([2, 3, 2, 4, 3])), {"align_corners": 1}),
        ),
    ),
    Op(
        "DeformConv",
        since=19,
        lower=deform_conv,
        quantised=Rule.NONE,
        tolerance=1e-4,
        cases=(
            Case((IMAGE, reals(4, 3, 2, 2), reals(2, 8, 3, 4))),
            Case(
                (reals(1, 4, 4, 4), reals(2, 2, 2, 3), reals(1, 24, 3, 2), reals(2), np.abs(reals(1, 12, 3, 2))),
                {"group": 2, "offset_group": 2, "strides": [2, 2], "pads": [1, 0, 2, 1]},
            ),
        ),
    ),
)
