"""Object detection: NonMaxSuppression, RoiAlign, MaxRoiPool. They are written as kernels, because their loops depend on data."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sardonyx.base.dtypes import DType, boolean, f32, f64, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, minimum
from sardonyx.expr import scalar
from sardonyx.expr.known import elements
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, constant, kernel_outputs
from sardonyx.loop.builder import Array, KernelBuilder, as_index, trusted
from sardonyx.loop.nodes import Kernel
from sardonyx.loop.values import Value, op, where
from sardonyx.ops.cases import reals
from sardonyx.ops.cumulative import running
from sardonyx.ops.heap import Heap, larger
from sardonyx.ops.pointwise import along, cast
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import images, tensors

# ---- NonMaxSuppression -----------------------------------------------------------------------------------------------------


def corners(box: Array, first: Dim, centred: bool) -> tuple[Value, Value, Value, Value]:
    """Return (least y, least x, greatest y, greatest x) of the box that starts at box[first].

    centred: the box is (x, y, width, height) around its centre; otherwise two opposite corners (y, x, y, x) in either order.
    """
    a, b, c, d = (box[first + k] for k in range(4))
    if centred:  # the box is (x, y, width, height)
        return b - d * 0.5, a - c * 0.5, b + d * 0.5, a + c * 0.5
    return op("min", a, c), op("min", b, d), op("max", a, c), op("max", b, d)


def overlaps(boxes: Array, p: Dim, q: Dim, centred: bool, threshold: Value) -> Value:
    """Return whether boxes p and q overlap: intersection over union > threshold. Boxes without an area never overlap."""
    top, left, bottom, right = corners(boxes, p, centred)
    top2, left2, bottom2, right2 = corners(boxes, q, centred)
    height = op("max", op("min", bottom, bottom2) - op("max", top, top2), 0)
    width = op("max", op("min", right, right2) - op("max", left, left2), 0)
    shared = height * width
    area, area2 = (bottom - top) * (right - left), (bottom2 - top2) * (right2 - left2)
    proper = (area > 0) & (area2 > 0) & (shared > 0)
    return proper & (shared / (area + area2 - shared) > threshold)


@functools.cache
def suppression_kernel(centred: bool, thresholded: bool) -> Kernel:
    """Build the kernel that selects, for each batch and class, the boxes to keep, best first, and counts them.

    parallel for batch, class:
      heap of the boxes whose score exceeds the threshold
      while boxes are left:  pop the best;  keep it unless it overlaps a box that is kept
    """
    b = KernelBuilder("non-maximum suppression")
    batches, classes, n = (b.size(s) for s in ("batches", "classes", "n"))
    boxes, scores = b.input("boxes", f32, batches * n * 4), b.input("scores", f32, batches * classes * n)
    limit, iou, least = b.input("limit", i64, 1), b.input("iou", f32, 1), b.input("least", f32, 1)
    heaped, kept = b.output("heaped", i64, batches * classes * n), b.output("kept", i64, batches * classes * n)
    count = b.output("count", i64, batches * classes)
    with b.loop("row", batches * classes, kind="parallel") as row:
        first_box = row // classes * n
        left = b.local(i64, 0)
        with b.loop("i", n) as i, b.if_(scores[row * n + i] > least[0] if thresholded else as_index(n) > 0):
            heaped[row * n + trusted(left.value, n)] = as_index(i)
            left.add(1)

        def score(p: Value) -> Value:
            return scores[row * n + trusted(p, n)]

        def worse(p: Value, q: Value) -> Value:
            return larger(score(q), score(p)) | (~larger(score(p), score(q)) & (p > q))

        heap = Heap(b, heaped, lambda j: row * n + j, left.value, n, worse)
        heap.build()
        found = b.local(i64, 0)
        with b.while_((left.value > 0) & (found.value < limit[0])):
            box = heap.pop(b.let(left.value))
            left.add(-1)
            separate = b.local(boolean, True)
            k = b.local(i64, 0)
            with b.while_(separate.value & (k.value < found.value)):
                other = kept[row * n + trusted(k.value, n)]
                here, there = (first_box + trusted(p, n) for p in (box, other))
                separate.set(~overlaps(boxes, here * 4, there * 4, centred, iou[0]))
                k.add(1)
            with b.if_(separate.value):
                kept[row * n + trusted(found.value, n)] = box
                found.add(1)
        count[row] = found.value
    return b.build()


@functools.cache
def selection_kernel() -> Kernel:
    """Build the kernel that writes the rows (batch, class, box) of all kept boxes, list after list; ends[r] is where list r ends."""
    b = KernelBuilder("selected boxes")
    rows, classes, n, total = (b.size(s) for s in ("rows", "classes", "n", "total"))
    kept, count, ends = b.input("kept", i64, rows * n), b.input("count", i64, rows), b.input("ends", i64, rows)
    y = b.output("y", i64, total * 3)
    with b.loop("row", rows, kind="parallel") as row, counting(b, count[row]) as k:
        place = trusted(ends[row] - count[row] + k, total) * 3
        y[place] = as_index(row // classes)
        y[place + 1] = as_index(row % classes)
        y[place + 2] = kept[row * n + trusted(k, n)]
    return b.build()


@contextmanager
def counting(b: KernelBuilder, n: Value, start: Value | int = 0) -> Iterator[Value]:
    """Emit a loop over the integers k from start to n - 1, where only the run knows n."""
    k = b.local(i64, start)
    end = b.let(n)
    with b.while_(k.value < end):
        yield k.value
        k.add(1)


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Tensor | None = None,
    iou_threshold: Tensor | None = None,
    score_threshold: Tensor | None = None,
    center_point_box: int = 0,
) -> Tensor:
    """Compute NonMaxSuppression. boxes: f32[b, n, 4], scores: f32[b, c, n] -> i64[selected, 3]

    Each row is (batch, class, box) of a kept box, best first within each batch and class.
    """
    if boxes.rank != 3 or scores.rank != 3:
        raise Fail(f"[ShapeInferenceError] NonMaxSuppression of boxes {boxes.shape} and scores {scores.shape}")
    batches, classes, n = scores.shape
    require_same(boxes.shape, (batches, n, 4), "NonMaxSuppression of boxes {} and scores {}", boxes.shape, scores.shape)
    limit = max_output_boxes_per_class if max_output_boxes_per_class is not None else constant(np.zeros((), np.int64))
    iou, least = (t if t is not None else constant(np.zeros((), np.float32)) for t in (iou_threshold, score_threshold))
    rows = batches * classes
    kernel = suppression_kernel(bool(center_point_box), score_threshold is not None)
    made = [(i64, (rows, n)), (i64, (rows, n)), (i64, (rows,))]
    _, kept, count = kernel_outputs(kernel, [boxes, scores, cast(limit, i64), iou, least], made, [batches, classes, n])
    total: Dim = elements(along("add", count, [0])).item()
    (y,) = kernel_outputs(
        selection_kernel(), [kept, count, running(count, 0, "add")], [(i64, (total, 3))], [rows, classes, n, total]
    )
    return y


# ---- regions of interest -----------------------------------------------------------------------------------------------------

OUTSIDE = "batch index {0} is outside [0, {1})"
"""Error for a region that names an image that does not exist."""


@functools.cache
def roi_align_kernel(dtype: DType, mode: str, sampling: int, shifted: bool) -> Kernel:
    """Build the kernel of RoiAlign: y[region, c, :, :], from bilinear samples of image x[batch[region], c] at a grid of points in
    each cell.

        parallel for region, c:
          for each cell:
            while points of the cell that lie in the image are left:
              add the four weighted pixels around the point, or take their maximum

    shifted: whether coordinates are shifted by half a pixel (coordinate_transformation_mode half_pixel).
    """
    b = KernelBuilder(f"region align of {dtype}")
    batches, channels, height, width, regions, out_h, out_w = (b.size(s) for s in "NCHWRhw")
    x, rois = b.input("x", dtype, batches * channels * height * width), b.input("rois", dtype, regions * 4)
    batch, spatial = b.input("batch", i64, regions), b.input("scale", f32, 1)
    y = b.output("y", dtype, regions * channels * out_h * out_w)
    compute_dtype = scalar.wide(dtype)
    with b.loop("plane", regions * channels, kind="parallel") as plane:
        region, c = plane // channels, plane % channels
        image = (batch.checked(batch[region], batches, 0) * channels + c) * height * width
        offset, least = (0.5, None) if shifted else (0.0, 1.0)
        ends = [b.let(rois[region * 4 + k].cast(compute_dtype) * spatial[0].cast(compute_dtype) - offset) for k in range(4)]
        sizes = [b.let(op("max", e - s, least) if least else e - s) for s, e in zip(ends[:2], ends[2:], strict=True)]
        cells = [b.let(s / as_index(n).cast(compute_dtype)) for s, n in zip(sizes, (out_w, out_h), strict=True)]
        points = [b.let(constant_or(sampling, c)) for c in cells]
        with b.loop("ph", out_h) as ph, b.loop("pw", out_w) as pw:
            rows, columns = (
                points_inside(b, (ends[a], cells[a], points[a]), p, n, sampling) for a, p, n in ((1, ph, height), (0, pw, width))
            )
            total = b.local(compute_dtype, 0)
            seen = b.local(boolean, (rows[1] - rows[0] < points[1]) | (columns[1] - columns[0] < points[0]))
            with counting(b, rows[1], rows[0]) as iy, counting(b, columns[1], columns[0]) as ix:
                at_x, at_y = (
                    ends[a]
                    + (as_index(p).cast(compute_dtype) + (k.cast(compute_dtype) + 0.5) / points[a].cast(compute_dtype)) * cells[a]
                    for a, p, k in ((0, pw, ix), (1, ph, iy))
                )
                four = weighted_corners(b, x, image, (b.let(at_y), b.let(at_x)), (height, width), compute_dtype)
                if mode == "avg":
                    for e in four:
                        total.add(e)
                else:
                    best = functools.reduce(lambda p, q: op("max", p, q), four)
                    total.set(where(seen.value, op("max", total.value, best), best))
                    seen.set(True)
            count = op("max", points[0].cast(f64) * points[1].cast(f64), 1).cast(compute_dtype)
            result = total.value / count if mode == "avg" else total.value
            y[(plane * out_h + ph) * out_w + pw] = result.cast(dtype)
    return b.build()


def constant_or(sampling: int, cell: Value) -> Value:
    """Return the number of sample points of a cell along an axis: `sampling`, or ceil(size of the cell) if `sampling` is 0."""
    return Value(scalar.index(sampling)) if sampling > 0 else op("ceil", cell).cast(i64)


def points_inside(
    b: KernelBuilder, along: tuple[Value, Value, Value], cell: Dim, extent: Dim, sampling: int
) -> tuple[Value | int, Value]:
    """Return [first, end) of a cell's points along an axis without those that are certain to lie outside the image, where samples
    are 0. So the work follows the image, not the region, which may be any size; where the model tells the number of points, all are taken.

    along: the region's start, the size of its cells, the number of points in each
    """
    start, size, points = along
    if sampling > 0:
        return 0, points
    start, size, count = (v.cast(f64) for v in (start, size, points))
    slack = op("min", 2 + op("abs", start) * 2.0**-20, 1024)  # coordinates are rounded

    def number(at: Value) -> Value:
        return ((at - start) / size - as_index(cell).cast(f64)) * count

    first = op("floor", number(Value(scalar.literal(-1.0, f64))) - slack).cast(i64)
    end = op("ceil", number(as_index(extent).cast(f64)) + slack).cast(i64)
    return tuple(b.let(op("min", op("max", k, 0), points)) for k in (first, end))  # type: ignore[return-value]


def weighted_corners(
    b: KernelBuilder, x: Array, image: Dim, point: tuple[Value, Value], extents: tuple[Dim, Dim], dtype: DType
) -> list[Value]:
    """Return the four pixels around a point, each times its bilinear weight. Points outside the image give zeros."""
    inside, ends = None, []
    for at, n in zip(point, extents, strict=True):
        last = as_index(n - 1)
        here = (at >= -1) & (at <= as_index(n).cast(dtype))
        inside = here if inside is None else inside & here
        place = op("max", at, 0)
        low = b.let(op("min", place.cast(i64), last))
        share = b.let(where(low >= last, 0, place - low.cast(dtype)))
        high = b.let(op("min", low + 1, last))
        ends.append(((low, 1 - share), (high, share)))
    assert inside is not None
    outside = ~b.let(inside)
    (height, width), out = extents, []
    for row, weight_y in ends[0]:
        for column, weight_x in ends[1]:
            pixel = x[image + trusted(op("max", row, 0), height) * width + trusted(op("max", column, 0), width)]
            out.append(where(outside, 0, weight_y * weight_x * pixel.cast(dtype)))
    return out


def require_regions(x: Tensor, rois: Tensor, numbers: int) -> None:
    """Require that each region has this many numbers, and that images have pixels if there are regions. Raises Fail."""
    require_equal(rois.shape[1], numbers, "regions of shape {} do not have {} numbers each", rois.shape, numbers)
    some = minimum(rois.shape[0], 1) * minimum(x.shape[1], 1)
    for n in (x.shape[0], *x.shape[2:]):
        require_nonnegative(n - some, "regions {} in images {}, which have no pixels", rois.shape, x.shape)


def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Compute RoiAlign. x: T[n, c, h, w], rois: T[r, 4] (x1, y1, x2, y2), batch_indices: i64[r] -> T[r, c, output_height,
    output_width]
    """
    if mode not in ("avg", "max"):
        raise Fail(f"RoiAlign: mode must be avg or max, not {mode}")
    require_ranks(
        "RoiAlign of {} with regions {} and batch_indices {}: needs 4, 2 and 1 axes", (x, 4), (rois, 2), (batch_indices, 1)
    )
    require_regions(x, rois, 4)
    require_equal(
        batch_indices.shape[0],
        rois.shape[0],
        "RoiAlign with regions {} and batch_indices {}, which differ in number",
        rois.shape,
        batch_indices.shape,
    )
    kernel = roi_align_kernel(x.dtype, mode, sampling_ratio, coordinate_transformation_mode == "half_pixel")
    scale = constant(np.array([spatial_scale], np.float32))
    shape = [rois.shape[0], x.shape[1], output_height, output_width]
    sizes = [*x.shape, rois.shape[0], output_height, output_width]
    (y,) = kernel_outputs(kernel, [x, rois, cast(batch_indices, i64), scale], [(x.dtype, shape)], sizes, [OUTSIDE])
    return y


def roi_align_10(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """RoiAlign before opset 16, which does not shift coordinates by half a pixel."""
    return roi_align(x, rois, batch_indices, "output_half_pixel", mode, output_height, output_width, sampling_ratio, spatial_scale)


@functools.cache
def max_roi_pool_kernel(dtype: DType) -> Kernel:
    """Build the kernel of MaxRoiPool: y[region, c, :, :] is the greatest pixel of each cell, 0 for an empty cell. Borders of
    regions are rounded to whole pixels; a cell extends from the pixel in which it begins to the one in which it ends.
    """
    b = KernelBuilder(f"region pooling of {dtype}")
    batches, channels, height, width, regions, out_h, out_w = (b.size(s) for s in "NCHWRhw")
    x, rois = b.input("x", dtype, batches * channels * height * width), b.input("rois", dtype, regions * 5)
    spatial = b.input("scale", f32, 1)
    y = b.output("y", dtype, regions * channels * out_h * out_w)
    compute_dtype = scalar.wide(dtype)

    def cell(start: Value, end: Value, k: Dim, count: Dim, extent: Dim) -> tuple[Value, Value]:
        """Return the pixels [lo, hi) of cell k along an axis."""
        size = op("max", end - start + 1, 1).cast(compute_dtype) / as_index(count).cast(compute_dtype)
        lo = op("floor", as_index(k).cast(compute_dtype) * size).cast(i64) + start
        hi = op("ceil", as_index(k + 1).cast(compute_dtype) * size).cast(i64) + start
        return limited(b, lo, extent), limited(b, hi, extent)

    with b.loop("plane", regions * channels, kind="parallel") as plane:
        region, c = plane // channels, plane % channels
        image = rois.checked(rois[region * 5].cast(i64), batches, 0) * channels + c
        ends = [b.let(rounded(rois[region * 5 + 1 + k].cast(compute_dtype) * spatial[0].cast(compute_dtype))) for k in range(4)]
        with b.loop("ph", out_h) as ph, b.loop("pw", out_w) as pw:
            rows, columns = cell(ends[1], ends[3], ph, out_h, height), cell(ends[0], ends[2], pw, out_w, width)
            empty = (rows[1] <= rows[0]) | (columns[1] <= columns[0])
            best = b.local(compute_dtype, float("-inf"))
            with counting(b, rows[1], rows[0]) as i, counting(b, columns[1], columns[0]) as j:
                pixel = x[(image * height + trusted(i, height)) * width + trusted(j, width)].cast(compute_dtype)
                best.set(op("max", best.value, pixel))
            y[(plane * out_h + ph) * out_w + pw] = where(empty, 0, best.value).cast(dtype)
    return b.build()


def limited(b: KernelBuilder, k: Value, extent: Dim) -> Value:
    """Clamp k to [0, extent]."""
    return b.let(op("min", op("max", k, 0), as_index(extent)))


def rounded(x: Value) -> Value:
    """Round to the nearest integer, halves away from zero."""
    return op("trunc", x + op("copysign", Value(scalar.literal(0.5, x.dtype)), x)).cast(i64)


def max_roi_pool(x: Tensor, rois: Tensor, *, pooled_shape: list[int], spatial_scale: float = 1.0) -> Tensor:
    """Compute MaxRoiPool. x: T[n, c, h, w], rois: T[r, 5] (image, x1, y1, x2, y2) -> T[r, c, *pooled_shape]"""
    require_ranks("MaxRoiPool of {} with regions {}: needs 4 and 2 axes", (x, 4), (rois, 2))
    require_regions(x, rois, 5)
    if len(pooled_shape) != 2 or min(pooled_shape) < 0:
        raise Fail(f"MaxRoiPool: pooled_shape must be 2 sizes, not {pooled_shape}")
    scale = constant(np.array([spatial_scale], np.float32))
    shape = [rois.shape[0], x.shape[1], *pooled_shape]
    sizes = [*x.shape, rois.shape[0], *pooled_shape]
    (y,) = kernel_outputs(max_roi_pool_kernel(x.dtype), [x, rois, scale], [(x.dtype, shape)], sizes, [OUTSIDE])
    return y


def boxes_around(count: int) -> np.ndarray:
    """Make test boxes of which some overlap: f32[2, count, 4]"""
    corner = np.abs(reals(2, count, 2))
    return np.concatenate([corner, corner + np.abs(reals(2, count, 2)) + 0.2], -1).astype(np.float32)


def number(value: float, dtype: type = np.float32) -> np.ndarray:
    return np.array(value, dtype)


BOXES, SCORES = boxes_around(12), np.abs(reals(2, 3, 12))
LIMITS = number(4, np.int64), number(0.3), number(0.5)
IMAGE = reals(2, 2, 8, 9)
REGIONS = np.array([[0, 0, 7, 6], [1.5, 2, 4, 7.5], [-3, -2, 3, 12]], np.float32)
IMAGE_OF_REGION = np.array([0, 1, 1])

OPS = (
    Op(
        "NonMaxSuppression",
        since=10,
        kernel=non_max_suppression,
        reference=tensors.non_max_suppression,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((BOXES, SCORES, *LIMITS)),
            Case((BOXES, SCORES, *LIMITS[:2]), {"center_point_box": 1}, "centred"),
            Case((BOXES, SCORES), name="none"),
        ),
    ),
    Op(
        "RoiAlign",
        since=16,
        kernel=roi_align,
        quantised=Rule.NONE,
        tolerance=1e-5,
        cases=tuple(
            Case((IMAGE, REGIONS, IMAGE_OF_REGION), {"output_height": 3, "output_width": 2, "spatial_scale": 0.7, **a})
            for a in ({}, {"sampling_ratio": 2}, {"mode": "max"}, {"coordinate_transformation_mode": "output_half_pixel"})
        ),
    ),
    Op("RoiAlign", since=10, kernel=roi_align_10, reference=images.roi_align_10, quantised=Rule.NONE),
    Op(
        "MaxRoiPool",
        since=1,
        kernel=max_roi_pool,
        reference=images.max_roi_pool,
        quantised=Rule.NONE,
        cases=(
            Case(
                (IMAGE, np.concatenate([IMAGE_OF_REGION[:, None], REGIONS], 1).astype(np.float32)),
                {"pooled_shape": [3, 2], "spatial_scale": 0.7},
            ),
        ),
    ),
)
