"""Operators of com.microsoft that move, select or sample elements, earlier forms of the standard's (Range, Pad, Trilu, Unique,
GridSample and others), transposed products, and Inverse.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md, and of its kernels where the document says too little
(CropAndResize, MaxpoolWithMask).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import ALL, FLOATS, INTEGERS, boolean, f32, f64, i16, i32, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, maximum
from sardonyx.base.symbolic import strides as steps_of
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import listed
from sardonyx.expr.region import scan
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops import gather, movement, sample, shape, sort
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT, fused_matmul
from sardonyx.ops.conv_transpose import conv_transpose
from sardonyx.ops.linalg import pivot_row
from sardonyx.ops.pointwise import cast, full_like, normal_axis, reduce, view
from sardonyx.ops.pool import guarded, pool_windows
from sardonyx.ops.ranks import require_rank_from, require_ranks
from sardonyx.ops.record import Case, Op, Rule

LOWEST = float(np.finfo(np.float32).min)

# ---- other forms of the standard's operators ------------------------------------------------------------------------------------


def sample_op(X: Tensor) -> Tensor:
    """Compute SampleOp: X itself. T[*d] -> T[*d]"""
    return shape.identity(X)


def expand_dims(X: Tensor, axis: Tensor) -> Tensor:
    """Compute ExpandDims: insert an axis of size 1 at position `axis` of the result. axis: i32[] or i32[1]"""
    return shape.unsqueeze(X, view(axis, [1], lambda _: [0] * axis.rank) if axis.rank == 0 else axis)


def arange(start: Tensor, limit: Tensor, delta: Tensor | None = None) -> Tensor:
    """Compute com.microsoft's Range: start + i delta for all i >= 0 before the limit; delta is 1 by default. T[], T[], T[] -> T[n]"""
    return shape.arange(start, limit, full_like(start, 1) if delta is None else delta)


def unique(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute com.microsoft's Unique: the different elements in the order of their first occurrence, each element's index among
    them, and their counts. x: T[n] -> T[u], i64[n], i64[u]
    """
    require_ranks("Unique of {}, which has not one axis", (x, 1))
    y, _, which, counts = sort.unique(x, None, 0)
    return y, which, counts


def gather_nd(data: Tensor, indices: Tensor) -> Tensor:
    """Compute com.microsoft's GatherND: each tuple of k indices selects a slice of the data. data: T[*d, *rest], indices: U[*m, k]
    -> T[*m, *rest], where k is the rank of d
    """
    return gather.gather_nd(data, indices)


def pad(data: Tensor, pads: Tensor, value: Tensor | None = None, mode: str = "constant") -> Tensor:
    """Compute com.microsoft's Pad: add borders before and after each axis. pads: i64[2 rank] or i64[1, 2 rank], first all borders
    before, then all borders after
    """
    if mode not in ("constant", "reflect", "edge"):
        raise Fail(f"Pad with mode {mode}; it is constant, reflect or edge")
    if pads.rank == 2:
        require_equal(pads.shape[0], 1, "Pad with pads of shape {}", pads.shape)
    flat = view(pads, pads.shape[1:], lambda i: (0, i)) if pads.rank == 2 else pads
    return movement.pad(data, flat, value, None, mode)


def trilu(X: Tensor, k: Tensor | None = None, upper: int = 1) -> Tensor:
    """Compute com.microsoft's Trilu: set elements below (upper=1) or above (upper=0) the k-th diagonal to zero. X: T[*batch, n, m]"""
    return movement.trilu(X, k, upper)


def grid_sample(X: Tensor, Grid: Tensor, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros") -> Tensor:
    """Compute com.microsoft's GridSample: interpolate X at points with coordinates in [-1, 1]. X: T[n, c, h, w], Grid: T[n, *o, 2]
    -> T[n, c, *o]
    """
    require_ranks("GridSample of {} by {}, which have not both four axes", (X, 4), (Grid, 4))
    return sample.grid_sample_16(X, Grid, align_corners, mode, padding_mode)


def transpose_matmul(A: Tensor, B: Tensor, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Tensor:
    """Compute TransposeMatMul: alpha A B, where transA and transB exchange the last two axes of A and B first."""
    return fused_matmul(A, B, alpha, transA, transB)


def unfold_tensor(input: Tensor, *, size: int, dim: int = -1, step: int = 1) -> Tensor:  # noqa: A002
    """Compute UnfoldTensor: windows of `size` elements along an axis, `step` apart: y[.., i, .., j] = x[.., i step + j, ..]. T[..,
    n, ..] -> T[.., (n - size) / step + 1, .., size]
    """
    if size < 1 or step < 1:
        raise Fail(f"UnfoldTensor with slices of {size} elements, {step} apart")
    axis = normal_axis(dim, input.rank)
    room = input.shape[axis] - size
    require_nonnegative(room, "UnfoldTensor of {} into slices of {} elements", input.shape, size)
    sizes = [*input.shape[:axis], room // step + 1, *input.shape[axis + 1 :], size]
    return view(input, sizes, lambda *i: (*i[:axis], i[axis] * step + i[-1], *i[axis + 1 : -1]))


def conv_transpose_with_dynamic_pads(
    X: Tensor,
    W: Tensor,
    Pads: Tensor | None = None,
    B: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute ConvTransposeWithDynamicPads: ConvTranspose whose pads are an input. Pads: i64[2 len(d)]"""
    y = conv_transpose(X, W, B, auto_pad, dilations, group, kernel_shape, output_padding, None, None, strides)
    if Pads is None or auto_pad != "NOTSET":
        return y
    given, rank = listed(Pads, "Pads"), X.rank - 2
    if len(given) != 2 * rank:
        raise Fail(f"[ShapeInferenceError] ConvTransposeWithDynamicPads with {len(given)} pads for {rank} axes")
    for n in given:
        require_nonnegative(n, "ConvTransposeWithDynamicPads with pads below zero: {}", given)
    sizes = [n - lo - hi for n, lo, hi in zip(y.shape[2:], given[:rank], given[rank:], strict=True)]
    return view(y, [*y.shape[:2], *sizes], lambda n, c, *o: (n, c, *(i + lo for i, lo in zip(o, given[:rank], strict=True))))


# ---- windows and boxes ------------------------------------------------------------------------------------------------------------


def maxpool_with_mask(
    X: Tensor,
    M: Tensor,
    kernel_shape: list[int] | None = None,
    auto_pad: str = "NOTSET",
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute MaxpoolWithMask: the maximum of each window, without masked elements. In each row of a window, all elements from the
    first whose mask is 0 on are masked.

    X: f32[n, c, *d], M: i32[m, k, *d], masks that channels use in rotation -> f32[n, c, *o]. With more than one spatial axis, the
    very first element of an image is never masked. A window without unmasked elements gives the lowest number. These are the rules
    of onnxruntime's kernel.
    """
    if not kernel_shape:
        raise Fail("MaxpoolWithMask without kernel_shape")
    require_ranks("MaxpoolWithMask of {} under a mask {}", (X, X.rank), (M, X.rank))
    require_same(M.shape[2:], X.shape[2:], "MaxpoolWithMask of {} under a mask {}", X.shape, M.shape)
    for n in M.shape[:2]:
        require_nonnegative(n - 1, "MaxpoolWithMask of {} under a mask {}", X.shape, M.shape)
    ways = pool_windows(X, kernel_shape, strides, None, pads, auto_pad, 0)
    last, channels = ways[-1], X.shape[1]

    def is_masked(n: Dim, c: Dim, place: tuple[Dim, ...], guard: Expr) -> Expr:
        own = (n * channels + c) % (M.shape[0] * M.shape[1])
        hidden = scalar.apply("eq", at(M, (own // M.shape[1], own % M.shape[1], *place), guard), 0)
        flat: Dim = 0
        for i, step in zip(place, steps_of(X.shape[2:]), strict=True):
            flat = flat + i * step
        started = scalar.literal(True, boolean) if len(ways) == 1 else scalar.apply("gt", scalar.index(flat), 0)
        return scalar.logical_and(guard, scalar.logical_and(hidden, started))

    def end(n: Dim, c: Dim, *i: Dim) -> Expr:
        """The tap, if it is masked."""
        *row, o, t = i
        (place,), guard = guarded([last], [o], [t])
        return scalar.select(is_masked(n, c, (*row, place), guard), scalar.index(t), scalar.index(last.taps))

    ends = reduce("min", i64, [*X.shape[:-1], last.out], [last.taps], end)

    def term(n: Dim, c: Dim, *i: Dim) -> Expr:
        outs, taps = i[: len(ways)], i[len(ways) :]
        places, guard = guarded(ways, outs, taps)
        before = scalar.apply("lt", scalar.index(taps[-1]), at(ends, (n, c, *places[:-1], outs[-1]), guard))
        return scalar.select(scalar.logical_and(guard, before), at(X, (n, c, *places), guard), LOWEST)

    return reduce("max", f32, [*X.shape[:2], *(w.out for w in ways)], [w.taps for w in ways], term)


def crop_and_resize(
    X: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    crop_size: Tensor,
    extrapolation_value: float = 0.0,
    mode: str = "bilinear",
) -> Tensor:
    """Compute CropAndResize: sample boxes of images at h x w points that include the boxes' corners.

    X: T[n, c, *d], rois: T[r, 4] as (y1, x1, y2, x2) from 0 to 1, batch_indices: i32[r], crop_size: i32[2] -> T[r, c, h, w]. Points
    outside an image give extrapolation_value.
    """
    require_ranks(
        "CropAndResize of {} with rois {} and batch_indices {}: needs 4, 2 and 1 axes", (X, 4), (rois, 2), (batch_indices, 1)
    )
    require_same(
        rois.shape,
        [batch_indices.shape[0], 4],
        "CropAndResize with rois {} and batch_indices {}, which do not fit",
        rois.shape,
        batch_indices.shape,
    )
    if mode not in ("bilinear", "nearest"):
        raise Fail(f"CropAndResize with mode {mode}; it is bilinear or nearest")
    sizes = listed(crop_size, "crop_size")
    if len(sizes) != 2:
        raise Fail(f"[ShapeInferenceError] CropAndResize to {len(sizes)} sizes, not 2")
    compute_dtype = scalar.wide(X.dtype)

    def coordinate(r: Dim, axis: int, i: Dim) -> Expr:
        first, last = (scalar.cast(at(rois, (r, axis + end)), compute_dtype) for end in (0, 2))
        reach = scalar.cast(scalar.index(X.shape[2 + axis] - 1), compute_dtype)
        count = sizes[axis]
        gap = scalar.cast(scalar.index(maximum(count - 1, 1)), compute_dtype)
        stride = scalar.div(scalar.mul(scalar.sub(last, first), reach), gap)
        inner = scalar.add(scalar.mul(first, reach), scalar.mul(scalar.cast(scalar.index(i), compute_dtype), stride))
        at_end = scalar.apply("eq", scalar.index(i), scalar.index(count - 1))
        point = scalar.select(at_end, scalar.mul(last, reach), inner)
        middle = scalar.mul(scalar.mul(scalar.add(first, last), 0.5), reach)
        return scalar.select(scalar.apply("eq", scalar.index(count), 1), middle, point)

    def place(x: Expr, n: Dim) -> Dim:
        return element(scalar.minimum(scalar.maximum(scalar.cast(x, i64), 0), scalar.index(n - 1)), n)

    def body(r: Dim, c: Dim, i: Dim, j: Dim) -> Expr:
        y, x = coordinate(r, 0, i), coordinate(r, 1, j)
        h, w = X.shape[2:]
        image = element(at(batch_indices, (r,)), X.shape[0])
        is_in = scalar.logical_and(within(y, h), within(x, w))

        def pixel(row: Expr, column: Expr) -> Expr:
            return scalar.cast(at(X, (image, c, place(row, h), place(column, w))), compute_dtype)

        if mode == "nearest":
            value = pixel(*(scalar.apply("floor", scalar.add(p, 0.5)) for p in (y, x)))
        else:
            (top, low), (left, right) = ((scalar.apply("floor", p), scalar.apply("ceil", p)) for p in (y, x))
            across, down = scalar.sub(x, left), scalar.sub(y, top)
            value = mixed(
                mixed(pixel(top, left), pixel(top, right), across), mixed(pixel(low, left), pixel(low, right), across), down
            )
        return scalar.cast(scalar.select(is_in, value, extrapolation_value), X.dtype)

    return compute(X.dtype, [rois.shape[0], X.shape[1], *sizes], body)


def within(x: Expr, n: Dim) -> Expr:
    """Return whether 0 <= x <= n - 1, as a bool expression."""
    return scalar.logical_and(scalar.apply("ge", x, 0), scalar.apply("le", x, scalar.cast(scalar.index(n - 1), x.dtype)))


def mixed(a: Expr, b: Expr, share: Expr) -> Expr:
    """Interpolate: a + (b - a) share."""
    return scalar.add(a, scalar.mul(scalar.sub(b, a), share))


# ---- inverses -----------------------------------------------------------------------------------------------------------------------


def inverse(X: Tensor) -> Tensor:
    """Compute Inverse of each matrix, by Gauss-Jordan elimination with partial pivoting, one column in each iteration. X: T[*batch,
    n, n] -> T[*batch, n, n]
    """
    require_rank_from("the inverse of {}, which is no matrix", X, 2)
    n = X.shape[-1]
    require_equal(X.shape[-2], n, "the inverse of {}", X.shape)
    left = cast(X, scalar.wide(X.dtype))
    unit = compute(
        left.dtype, X.shape, lambda *i: scalar.cast(scalar.apply("eq", scalar.index(i[-2]), scalar.index(i[-1])), left.dtype)
    )

    def step(t: Dim, a: Tensor, b: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        row = pivot_row(a, t)
        return [reduced(x, a, t, row) for x in (a, b)], []

    (_, found), _ = scan(n, [left, unit], step)
    return cast(found, X.dtype)


def reduced(x: Tensor, a: Tensor, t: Dim, row: Tensor) -> Tensor:
    """Apply an elimination step to x: exchange rows t and `row`, divide the new row t by a's pivot, and subtract multiples of it
    from all other rows, so that a's column t becomes that of the identity matrix.
    """
    n = a.shape[-1]

    def body(*i: Dim) -> Expr:
        *outer, r, c = i
        chosen = element(at(row, outer), n)
        is_chosen = scalar.apply("eq", scalar.index(r), at(row, outer))
        own = scalar.select(is_chosen, at(x, (*outer, t, c)), at(x, (*outer, r, c)))
        head = scalar.select(is_chosen, at(a, (*outer, t, t)), at(a, (*outer, r, t)))
        unit = scalar.div(at(x, (*outer, chosen, c)), at(a, (*outer, chosen, t)))
        return scalar.select(scalar.apply("eq", scalar.index(r), scalar.index(t)), unit, scalar.sub(own, scalar.mul(head, unit)))

    return compute(x.dtype, x.shape, body)


# ---- records --------------------------------------------------------------------------------------------------------------------------

X = reals(2, 3, 5, 6)
WELL = reals(2, 4, 4) + 5 * np.eye(4, dtype=np.float32)[[2, 0, 3, 1]]
PADS = np.array([0, 1, 2, 0, 1, -1], np.int64)
BOXES = np.array([[0.1, 0.2, 0.9, 0.7], [0, 0, 1, 1], [0.3, -0.4, 1.2, 0.6]], np.float32)
MASK = (integers(1, 3, 5, 6, dtype=np.int32) % 4 != 0).astype(np.int32)
SIZES = (i32, i64)


def op(name: str, meaning: Callable[..., Any], types: dict[str, Any], *cases: Case, gradient: Any = Rule.DERIVED) -> Op:
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        expand=meaning,
        element_types=types,
        gradient=gradient,
        cases=cases,
        tolerance=1e-5,
    )


def whole(*numbers: int, dtype: Any = np.int32) -> np.ndarray:
    return np.array(numbers, dtype)


OPS = (
    op("SampleOp", sample_op, {}, Case((X,))),
    op("ExpandDims", expand_dims, {"X": ALL, "axis": (i32,)}, Case((X, np.array(-2, np.int32))), Case((X, whole(0)))),
    op(
        "Range",
        arange,
        {"start limit delta": (f32, f64, i16, i32, i64)},
        Case((np.array(2, np.int32), np.array(11, np.int32), np.array(3, np.int32))),
        Case((whole(5), whole(9))),
        Case((np.array(1, np.float32), np.array(-1, np.float32), np.array(-0.3, np.float32))),
        gradient=Rule.NONE,
    ),
    op("Unique", unique, {}, Case((np.array([2, 1, 1, 3, 4, 3], np.float32),), outputs=3), gradient=Rule.NONE),
    op("GatherND", gather_nd, {"data": ALL, "indices": SIZES}, Case((X, whole(1, 2, 0, -1, dtype=np.int64).reshape(2, 2)))),
    op(
        "Pad",
        pad,
        {"pads": (i64,)},
        Case((X[0], PADS, np.array([0.5], np.float32))),
        Case((X[0], PADS[None]), {"mode": "reflect"}),
        Case((X[0], PADS), {"mode": "edge"}),
    ),
    op("Trilu", trilu, {"X": (*FLOATS, *INTEGERS, boolean), "k": (i64,)}, Case((X,)), Case((X, np.array(-1)), {"upper": 0})),
    op(
        "GridSample",
        grid_sample,
        {},
        Case((X, reals(2, 4, 3, 2))),
        Case((X, reals(2, 4, 3, 2)), {"mode": "bicubic", "padding_mode": "border", "align_corners": 1}),
    ),
    op(
        "TransposeMatMul",
        transpose_matmul,
        {},
        Case((reals(2, 4, 3), reals(2, 5, 4)), {"transA": 1, "transB": 1, "alpha": 0.5}),
    ),
    op("UnfoldTensor", unfold_tensor, {"input": ALL}, Case((X,), {"size": 3}), Case((X,), {"size": 2, "dim": 1, "step": 2})),
    op(
        "ConvTransposeWithDynamicPads",
        conv_transpose_with_dynamic_pads,
        {"Pads": (i64,)},
        Case((X, reals(3, 2, 3, 3), whole(1, 0, 2, 1, dtype=np.int64), reals(2)), {"strides": [2, 1], "kernel_shape": [3, 3]}),
    ),
    op(
        "MaxpoolWithMask",
        maxpool_with_mask,
        {"M": (i32,)},
        Case((X[:1, :1].copy(), MASK[:, :1].copy()), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        Case((X[:1, 0, :1].copy(), MASK[:1, 0, :1].copy()), {"kernel_shape": [3], "strides": [2]}),
    ),
    op(
        "CropAndResize",
        crop_and_resize,
        {"batch_indices crop_size": (i32,)},
        Case((X, BOXES, whole(0, 1, 1), whole(4, 3))),
        Case((X, BOXES, whole(0, 1, 1), whole(1, 3)), {"mode": "nearest", "extrapolation_value": 7.0}),
    ),
    op("Inverse", inverse, {}, Case((WELL,)), Case((WELL.astype(np.float64),)), Case((WELL[0].astype(np.float16),))),
)
