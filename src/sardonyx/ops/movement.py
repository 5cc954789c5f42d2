"""Operators that move elements: Slice, Split, Concat, Pad, CenterCropPad, DepthToSpace, SpaceToDepth, ReverseSequence, Trilu."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Int, alias, ceil_divide, equals, is_nonnegative, maximum, minimum
from sardonyx.expr import scalar
from sardonyx.expr.index import at, clamp, element, inside
from sardonyx.expr.known import listed
from sardonyx.expr.require import not_below_zero, require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, assemble, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.axes import choices, decided, known_axes
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import normal_axes, normal_axis, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op
from sardonyx.ops.reference import tensors
from sardonyx.ops.windows import pad as pad_constant

I32_MOST, I64_MOST = 2**31 - 1, 2**63 - 1
LONGEST_AXIS = 2**47
"""No axis has more elements than this. Starts and ends of slices are clamped to it, so that their differences fit in 64 bits."""

# ---- Slice --------------------------------------------------------------------------------------------------------------


def slice_(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    """Compute Slice: x[starts[0]:ends[0]:steps[0], ...] on the given axes (by default the first ones), by Python's rules. All
    inputs: i64[n]
    """
    if axes is not None and axes.rank != 1:
        raise Fail(f"[ShapeInferenceError] axes of Slice must be in a tensor of one axis, not in {axes}")
    first, last = listed(starts, "starts of Slice"), listed(ends, "ends of Slice")
    by = [1] * len(first) if steps is None else listed(steps, "steps of Slice")
    if axes is not None and not decided(axes):
        return sliced_anywhere(x, first, last, choices(axes, x.rank), by)
    return sliced(x, first, last, known_axes(axes), by)


def slice_1(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None) -> Tensor:
    """Slice before opset 10, where starts, ends and axes are attributes and the steps are 1."""
    return sliced(x, starts, ends, axes, [1] * len(starts))


def sliced(x: Tensor, starts: Sequence[Dim], ends: Sequence[Dim], axes: Sequence[int] | None, steps: Sequence[Dim]) -> Tensor:
    """Slice x along axes that are known now. Raises Fail if starts, ends, axes and steps differ in number."""
    over = normal_axes(range(len(starts)) if axes is None else axes, x.rank)
    if not len(over) == len(starts) == len(ends) == len(steps):
        raise Fail(f"[ShapeInferenceError] Slice with {len(starts)} starts, {len(ends)} ends, {len(over)} axes, {len(steps)} steps")
    shape, by_axis = list(x.shape), {}
    for a, start, end, step in zip(over, starts, ends, steps, strict=True):
        step = shortened(step, x.shape[a])
        offset, shape[a] = span(x.shape[a], start, end, step)
        by_axis[a] = offset, step
    return view(x, shape, lambda *i: [o * by_axis[a][1] + by_axis[a][0] if a in by_axis else o for a, o in enumerate(i)])


def sliced_anywhere(
    x: Tensor, starts: Sequence[Dim], ends: Sequence[Dim], which: Sequence[Sequence[Dim]], steps: Sequence[Dim]
) -> Tensor:
    """Slice x along axes that only the run knows. which: for each slice and each axis 1 if the slice applies to the axis, else 0
    (ops.axes.choices).
    """
    if not len(which) == len(starts) == len(ends) == len(steps):
        raise Fail(
            f"[ShapeInferenceError] Slice with {len(starts)} starts, {len(ends)} ends, {len(which)} axes, {len(steps)} steps"
        )
    shape = list(x.shape)
    offset: list[Dim] = [0] * x.rank
    stride: list[Dim] = [1] * x.rank
    for own, start, end, step in zip(which, starts, ends, steps, strict=True):
        n = alias(sum(c * size for c, size in zip(own, x.shape, strict=True)))
        step = shortened(step, n)
        first, count = span(n, start, end, step)
        shape = [s + c * (count - s) for s, c in zip(shape, own, strict=True)]
        offset = [o + c * first for o, c in zip(offset, own, strict=True)]
        stride = [s + c * (step - 1) for s, c in zip(stride, own, strict=True)]
    for a in range(x.rank):
        require_nonnegative(1 - sum(own[a] for own in which), "Slice names one axis twice")
    return view(x, list(map(alias, shape)), lambda *i: [j * s + o for j, s, o in zip(i, stride, offset, strict=True)])


def shortened(step: Dim, n: Dim) -> Dim:
    """Limit the magnitude of a step to the size n of the axis: a longer step also selects one element, and products with it might
    not fit in 64 bits.
    """
    if isinstance(step, Int):
        return clamp(step, -maximum(n, 1), maximum(n, 1))
    if abs(step) <= I32_MOST:
        return step
    return maximum(n, 1) if step > 0 else -maximum(n, 1)


def span(n: Dim, start: Dim, end: Dim, step: Dim) -> tuple[Dim, Dim]:
    """Return (first index, number of elements) of start:end:step in an axis of n elements. The first index is meaningless if the
    number is 0.
    """
    if isinstance(start, int) and reaches(-start, n):
        start = 0
    if isinstance(step, Int):
        return span_either_way(n, start, end, step)
    if step == 0:
        raise Fail("[ShapeInferenceError] Slice with a step of 0")
    if step < 0:
        return span_backwards(n, start, end, -step)
    last = n if reaches(end, n) else minimum(from_end(end, n), n)
    if last == n and isinstance(start, int) and start < 0:
        return maximum(n + start, 0), ceil_divide(minimum(n, -start), step)
    first = maximum(from_end(start, n), 0)
    return first, not_below_zero(ceil_divide(last - first, step))


def span_backwards(n: Dim, start: Dim, end: Dim, step: int) -> tuple[Dim, Dim]:
    """Return (first index, number of elements) of start:end:-step, for a known step > 0."""
    at_end = reaches(start, n) or (isinstance(start, int) and start == -1)
    first = n - 1 if at_end else minimum(maximum(from_end(start, n), 0), n - 1)
    last = -1 if isinstance(end, int) and reaches(-end, n) else maximum(from_end(end, n), -1)
    return first, not_below_zero(ceil_divide(first - last, step))


def span_either_way(n: Dim, start: Dim, end: Dim, step: Dim) -> tuple[Dim, Dim]:
    """Return (first index, number of elements) for a step whose sign only the run knows. The run fails for a step of 0."""
    length = maximum(step, -step)
    require_nonnegative(length - 1, "Slice with a step of 0")
    forward = minimum(maximum(step, 0), 1)
    first, last = from_end(start, n), from_end(end, n)
    low, high = clamp(first, 0, n), clamp(last, 0, n)
    top, bottom = minimum(maximum(first, 0), n - 1), clamp(last, -1, n - 1)
    count = ceil_divide(forward * (high - low) + (1 - forward) * (top - bottom), maximum(length, 1))
    return forward * low + (1 - forward) * top, alias(maximum(count, 0))


def reaches(end: Dim, n: Dim) -> bool:
    """Return whether `end` is one of the large constants by which exporters mean the end of any axis: the largest i32, the largest
    i64, or between.
    """
    if not isinstance(end, int) or end < I32_MOST:
        return False
    if end < I64_MOST:
        require_nonnegative(end - n, "Slice to {} of an axis that is longer", end)
    return True


def from_end(e: Dim, n: Dim) -> Dim:
    """Return index e counted from the start: e + n if e < 0. Large constants give n, large negative ones -1.

    If only the run knows e, it is clamped to LONGEST_AXIS, so that differences fit in 64 bits.
    """
    if isinstance(e, int) and reaches(abs(e), n):
        return n if e > 0 else -1
    if is_nonnegative(e):
        return e
    if is_nonnegative(-1 - e):
        return n + e
    e = clamp(e, -LONGEST_AXIS, LONGEST_AXIS)
    return e + n * (1 - equals(maximum(e, 0), e))


# ---- Split and Concat ---------------------------------------------------------------------------------------------------


def split_sizes(x: Tensor, axis: int, sizes: Sequence[Dim]) -> list[Tensor]:
    """Divide x along an axis into parts of these sizes. The run fails unless they add up to the size of the axis."""
    require_equal(sum(sizes), x.shape[axis], "Split of axis {} of {} into {}: the sizes do not add up", axis, x.shape, sizes)
    out: list[Tensor] = []
    start: Dim = 0
    for n in sizes:
        out.append(part_of(x, axis, start, n))
        start = start + n
    return out


def part_of(x: Tensor, axis: int, start: Dim, n: Dim) -> Tensor:
    """Return x[start : start + n] along the axis."""
    return view(x, [*x.shape[:axis], n, *x.shape[axis + 1 :]], lambda *i: [*i[:axis], i[axis] + start, *i[axis + 1 :]])


def split_equally(x: Tensor, axis: int, parts: int) -> list[Tensor]:
    """Divide x along an axis into equal parts. The run fails if the size of the axis is not divisible."""
    n = x.shape[axis]
    each = ceil_divide(n, parts)
    require_equal(each * parts, n, "Split of axis {} of {} into {} equal parts", axis, x.shape, parts)
    return split_sizes(x, axis, [each] * parts)


def split(x: Tensor, sizes: Tensor | None = None, axis: int = 0, num_outputs: int | None = None, outputs: int = 1) -> list[Tensor]:
    """Compute Split: divide x along an axis into parts of the given sizes (i64[n]), or into equal parts, the last of which may be
    smaller.

    outputs: how many outputs the node has, the number of parts if num_outputs is absent.
    """
    axis = normal_axis(axis, x.rank)
    if sizes is not None:
        return split_sizes(x, axis, listed(sizes, "lengths of Split"))
    if num_outputs is None:
        return split_equally(x, axis, outputs)
    if num_outputs != outputs:
        raise Fail(f"[ShapeInferenceError] Split into {num_outputs} parts for {outputs} outputs")
    n = x.shape[axis]
    each = ceil_divide(n, num_outputs)
    return split_sizes(x, axis, [each] * (num_outputs - 1) + [n - each * (num_outputs - 1)])


def split_2(x: Tensor, split: Sequence[int] | None = None, axis: int = 0, outputs: int = 1) -> list[Tensor]:
    """Split before opset 13, where the sizes are an attribute."""
    axis = normal_axis(axis, x.rank)
    if split is None:
        return split_equally(x, axis, outputs)
    return split_sizes(x, axis, split)


def concat(*xs: Tensor, axis: int) -> Tensor:
    """Compute Concat: join tensors along an axis. The run fails if their other sizes differ."""
    axis = normal_axis(axis, xs[0].rank)
    shape = list(xs[0].shape)
    for x in xs[1:]:
        if x.rank != len(shape):
            raise Fail(f"[ShapeInferenceError] Concat of {list(xs[0].shape)} and {list(x.shape)}: the ranks differ")
        for a, n in enumerate(x.shape):
            if a != axis:
                require_equal(n, shape[a], "Concat along axis {} of {} and {}: the other sizes differ", axis, xs[0].shape, x.shape)
                shape[a] = n if isinstance(n, int) else shape[a]
    parts: list[tuple[Tensor, list[Dim]]] = []
    start: Dim = 0
    for x in xs:
        copy = compute(x.dtype, [*shape[:axis], x.shape[axis], *shape[axis + 1 :]], lambda *i, x=x: at(x, i))
        parts.append((copy, [start if a == axis else 0 for a in range(len(shape))]))
        start = start + x.shape[axis]
    shape[axis] = start
    return assemble(xs[0].dtype, shape, parts) if len(xs) > 1 else parts[0][0]


# ---- borders ------------------------------------------------------------------------------------------------------------


def pad(x: Tensor, pads: Tensor, fill: Tensor | None = None, axes: Tensor | None = None, mode: str = "constant") -> Tensor:
    """Compute Pad: add borders before and after each axis (or each of `axes`). pads: i64[2 n], first all borders before, then all
    borders after

    Negative pads remove elements. Borders hold `fill` (T[], default zero), or elements of x by mode: reflect, edge, wrap.
    """
    given = listed(pads, "pads")
    if axes is not None and not decided(axes):
        return padded(x, *spread(given, choices(axes, x.rank), x.rank), fill, mode)
    over = known_axes(axes)
    return padded(x, *both_ends(given, range(x.rank) if over is None else normal_axes(over, x.rank), x.rank), fill, mode)


def pad_2(x: Tensor, pads: Sequence[int], value: float = 0.0, mode: str = "constant") -> Tensor:
    """Pad before opset 11, where pads and fill are attributes."""
    return padded(x, *both_ends(pads, range(x.rank), x.rank), constant(np.array(value, x.dtype.numpy)), mode)


def both_ends(pads: Sequence[Dim], axes: Sequence[int], rank: int) -> tuple[list[Dim], list[Dim]]:
    """Return the pads before and after each axis of a tensor of this rank, from pads for some axes."""
    return spread(pads, [[int(a == b) for b in range(rank)] for a in axes], rank)


def spread(pads: Sequence[Dim], which: Sequence[Sequence[Dim]], rank: int) -> tuple[list[Dim], list[Dim]]:
    """Return the pads before and after each axis. which: for each pair of pads and each axis 1 if the pair applies to the axis,
    else 0 (ops.axes.choices).
    """
    n = len(which)
    if len(pads) != 2 * n:
        raise Fail(f"[ShapeInferenceError] Pad with {len(pads)} pads for {n} axes")

    def on_axis(a: int, amounts: Sequence[Dim]) -> Dim:
        return sum(own[a] * amount for own, amount in zip(which, amounts, strict=True))

    return [on_axis(a, pads[:n]) for a in range(rank)], [on_axis(a, pads[n:]) for a in range(rank)]


def padded(x: Tensor, lo: Sequence[Dim], hi: Sequence[Dim], fill: Tensor | None, mode: str) -> Tensor:
    """Add `lo` elements before and `hi` elements after each axis; negative numbers remove elements. Raises Fail for an unknown
    mode.
    """
    x = cropped(x, lo, hi)
    lo, hi = [maximum(n, 0) for n in lo], [maximum(n, 0) for n in hi]
    if mode == "constant":
        number = constant(np.zeros((), x.dtype.numpy)) if fill is None else view(fill, (), lambda: [0] * fill.rank)
        return pad_constant(x, lo, hi, number)
    if mode not in BORDERS:
        raise Fail(f"mode must be constant, {', '.join(BORDERS)}, not {mode}")
    own, shape = BORDERS[mode], x.shape
    if mode == "reflect":
        require_mirrors(shape, lo, hi)

    def index(*i: Dim) -> list[Dim]:
        ends = zip(i, shape, lo, hi, strict=True)
        return [o if before == after == 0 else own(o - before, n, before, after) for o, n, before, after in ends]

    return view(x, [a + n + b for a, n, b in zip(lo, shape, hi, strict=True)], index)


def cropped(x: Tensor, lo: Sequence[Dim], hi: Sequence[Dim]) -> Tensor:
    """Remove the elements that negative pads cut off."""
    if all(map(is_nonnegative, (*lo, *hi))):
        return x
    cut = [-minimum(n, 0) for n in lo]
    shape = [n - c + minimum(b, 0) for n, c, b in zip(x.shape, cut, hi, strict=True)]
    return view(x, shape, lambda *i: [o + c for o, c in zip(i, cut, strict=True)])


def require_mirrors(shape: Sequence[Dim], lo: Sequence[Dim], hi: Sequence[Dim]) -> None:
    """Require that reflected borders are shorter than the axis that they mirror. Raises Fail with the axis."""
    for a, (n, before, after) in enumerate(zip(shape, lo, hi, strict=True)):
        for border, where in ((before, "pre-pad"), (after, "post-pad")):
            if border != 0:
                require_nonnegative(
                    (n - 1 - border) * minimum(border, 1),
                    "Pad reflect: {} ({}) is longer than axis {} of {} can mirror",
                    where,
                    border,
                    a,
                    shape,
                )


def reflected(i: Dim, n: Dim, lo: Dim, hi: Dim) -> Dim:
    """Mirror index i at the first and at the last of n elements, so that it lies in [0, n)."""
    distance = maximum(i, -i)
    return minimum(distance, 2 * (n - 1) - distance)


BORDERS: dict[str, Callable[[Dim, Dim, Dim, Dim], Dim]] = {
    "reflect": reflected,
    "edge": lambda i, n, lo, hi: clamp(i, 0, n - 1),
    "wrap": lambda i, n, lo, hi: i % n,
}
"""Index of the element that a border position i copies, by mode. Arguments: i, counted from the axis's first element, the axis's
size, the pads before and after.
"""


def center_crop_pad(x: Tensor, target: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Compute CenterCropPad: crop or pad `axes` (by default all) around the middle to the sizes target: i64[n]. Padding is zero."""
    over = list(range(x.rank)) if axes is None else normal_axes(axes, x.rank)
    given = listed(target, "sizes of CenterCropPad")
    if len(given) != len(over):
        raise Fail(f"[ShapeInferenceError] CenterCropPad with {len(given)} sizes for {len(over)} axes")
    wanted = dict(zip(over, given, strict=True))
    start = [maximum(n - wanted.get(a, n), 0) // 2 - maximum(wanted.get(a, n) - n, 0) // 2 for a, n in enumerate(x.shape)]

    def body(*i: Dim) -> Expr:
        place = [o + s for o, s in zip(i, start, strict=True)]
        guard: Expr = scalar.literal(True, boolean)
        for a, p in enumerate(place):
            if a in wanted:
                guard = scalar.logical_and(guard, inside(p, x.shape[a]))
        return at(x, place, guard)

    return compute(x.dtype, [wanted.get(a, n) for a, n in enumerate(x.shape)], body)


# ---- blocks of pixels and channels --------------------------------------------------------------------------------------


def depth_to_space(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    """Compute DepthToSpace: move blocks of channels into height and width. T[n, c b b, h, w] -> T[n, c, h b, w b]

    A channel of x is (row, column, c) in mode DCR, (c, row, column) in mode CRD.
    """
    require_ranks("DepthToSpace of {}, which does not have 4 axes", (x, 4))
    b = positive(blocksize)
    n, channels, h, w = x.shape
    require_equal(channels % (b * b), 0, "DepthToSpace of {} channels: not divisible by the square of blocksize {}", channels, b)
    c = channels // (b * b)

    def index(i: Dim, k: Dim, y: Dim, z: Dim) -> list[Dim]:
        place = y % b * b + z % b
        return [i, place * c + k if is_depth_first(mode) else k * (b * b) + place, y // b, z // b]

    return view(x, (n, c, h * b, w * b), index)


def space_to_depth(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    """Compute SpaceToDepth: move blocks of pixels into channels. T[n, c, h b, w b] -> T[n, c b b, h, w]

    A channel of the result is (row, column, c) in mode DCR, (c, row, column) in mode CRD.
    """
    require_ranks("SpaceToDepth of {}, which does not have 4 axes", (x, 4))
    b = positive(blocksize)
    n, c, h, w = x.shape
    require_equal(h % b, 0, "SpaceToDepth of height {}: not divisible by blocksize {}", h, b)
    require_equal(w % b, 0, "SpaceToDepth of width {}: not divisible by blocksize {}", w, b)

    def index(i: Dim, k: Dim, y: Dim, z: Dim) -> list[Dim]:
        place, channel = (k // c, k % c) if is_depth_first(mode) else (k % (b * b), k // (b * b))
        return [i, channel, y * b + place // b, z * b + place % b]

    return view(x, (n, c * b * b, h // b, w // b), index)


def positive(blocksize: int) -> int:
    """Return the block size. Raises Fail if it is not positive."""
    if blocksize < 1:
        raise Fail(f"[ShapeInferenceError] Attribute blocksize must be positive, not {blocksize}")
    return blocksize


def is_depth_first(mode: str) -> bool:
    """Return whether the mode is DCR. Raises Fail unless it is DCR or CRD."""
    if mode not in ("DCR", "CRD"):
        raise Fail(f"mode must be DCR or CRD, not {mode}")
    return mode == "DCR"


# ---- by position --------------------------------------------------------------------------------------------------------


def reverse_sequence(x: Tensor, lengths: Tensor, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Compute ReverseSequence: reverse the first lengths[b] steps of x for each b of the batch. lengths: i64[batch], at most the
    number of steps
    """
    time, batch = normal_axis(time_axis, x.rank), normal_axis(batch_axis, x.rank)
    require_same(
        lengths.shape,
        [x.shape[batch]],
        "ReverseSequence of {}: sequence_lens of shape {} do not fit the batch",
        x.shape,
        lengths.shape,
    )

    def index(*i: Dim) -> list[Dim]:
        step, n = scalar.index(i[time]), at(lengths, (i[batch],))
        back = scalar.sub(scalar.sub(n, 1), step)
        return [
            element(scalar.select(scalar.apply("lt", step, n), back, step), x.shape[time]) if a == time else o
            for a, o in enumerate(i)
        ]

    return view(x, x.shape, index)


def trilu(x: Tensor, k: Tensor | None = None, upper: int = 1) -> Tensor:
    """Compute Trilu: set elements below (upper=1) or above (upper=0) the k-th diagonal to zero. x: T[*batch, n, m], k: i64[] or
    i64[1]
    """
    if x.rank < 2:
        raise Fail(f"[ShapeInferenceError] Trilu of {list(x.shape)}, which has fewer than 2 axes")

    def body(*i: Dim) -> Expr:
        diagonal = scalar.index(i[-1] - i[-2])
        limit = scalar.literal(0, i64) if k is None else at(k, [0] * k.rank)
        return scalar.select(scalar.apply("ge" if upper else "le", diagonal, limit), at(x, i), 0)

    return compute(x.dtype, x.shape, body)


# ---- records ------------------------------------------------------------------------------------------------------------


def ints(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


X = reals(3, 4, 5)
HALF = np.array(0.5, np.float32)
SLICES = (
    Case((X, ints(1), ints(3))),
    Case((X, ints(0, 1, 1), ints(2, -1, 9))),
    Case((X, ints(-1), ints(-(2**63) + 1), ints(1), ints(-1))),
    Case((X, ints(4, -2), ints(0, 2**31 - 1), ints(2, 0), ints(-2, 1))),
    Case((X, ints(1, 0), ints(2**63 - 1, 3), ints(-1, 1), ints(3, 2))),
    Case((X, ints(3), ints(1), ints(1))),
    Case((X, ints(-9), ints(-3), ints(1))),
    Case((X, ints(2).astype(np.int32), ints(-9).astype(np.int32), ints(1).astype(np.int32), ints(-1).astype(np.int32))),
)
MANY_PADS = (
    Case((X, ints(0, 1, 2, 1, 0, 3))),
    Case((X, ints(0, 1, 2, 1, 0, 3), HALF)),
    Case((X, ints(2, 1), HALF, ints(-1))),
    Case((integers(2, 3), ints(1, 0, 0, 1))),
    *(Case((X, ints(0, 1, 2, 1, 0, 3)), {"mode": m}) for m in BORDERS),
    *(Case((X, ints(7, 9), None, ints(1)), {"mode": m}) for m in BORDERS if m != "reflect"),
    Case((X, ints(3, 2), None, ints(1)), {"mode": "reflect"}),  # a reflected border must be shorter than the axis
    Case((np.zeros((0, 2), np.float32), ints(1, 0, 2, 0), HALF)),
)
BLOCKS = reals(2, 12, 2, 3)
SQUARE = reals(2, 3, 4)

OPS = (
    Op("Slice", since=10, lower=slice_, reference=tensors.slice_, cases=SLICES),
    Op("Slice", since=1, lower=slice_1, cases=(Case((X,), {"starts": [1, -2], "ends": [9, 4], "axes": [0, 2]}),)),
    Op(
        "Split",
        since=13,
        lower=split,
        cases=(
            Case((X, ints(1, 0, 3)), {"axis": 1}, outputs=3),
            Case((X,), {"axis": -1, "num_outputs": 2}, outputs=2),
            Case((X,), {"num_outputs": 3}, outputs=3),
        ),
    ),
    Op(
        "Split",
        since=2,
        lower=split_2,
        cases=(Case((X,), {"axis": 1}, outputs=2), Case((X,), {"axis": 2, "split": [1, 4]}, outputs=2)),
    ),
    Op(
        "Concat",
        since=4,
        lower=concat,
        cases=(Case((X, X[:, :1], X[:, :0]), {"axis": 1}), Case((X,), {"axis": -1}), Case((integers(2), integers(3)), {"axis": 0})),
    ),
    Op("Pad", since=11, lower=pad, reference=tensors.pad, cases=MANY_PADS),
    Op(
        "Pad",
        since=2,
        lower=pad_2,
        cases=(Case((X,), {"pads": [0, 1, 2, 1, 0, 3], "value": 2.0}), Case((X,), {"pads": [1] * 6, "mode": "edge"})),
    ),
    Op(
        "CenterCropPad",
        since=18,
        lower=center_crop_pad,
        cases=(Case((X, ints(2, 7, 5))), Case((X, ints(8, 1)), {"axes": [-1, 0]}), Case((X, ints(6)), {"axes": [0]})),
    ),
    Op(
        "DepthToSpace",
        since=1,
        lower=depth_to_space,
        cases=tuple(Case((BLOCKS,), {"blocksize": 2, "mode": m}) for m in ("DCR", "CRD")),
    ),
    Op(
        "SpaceToDepth",
        since=1,
        lower=space_to_depth,
        cases=tuple(Case((reals(2, 3, 4, 6),), {"blocksize": 2, "mode": m}) for m in ("DCR", "CRD")),
    ),
    Op(
        "ReverseSequence",
        since=10,
        lower=reverse_sequence,
        cases=(Case((X, ints(3, 1, 2, 0))), Case((X, ints(4, 1, 2)), {"batch_axis": 0, "time_axis": 1})),
    ),
    Op(
        "Trilu",
        since=14,
        lower=trilu,
        cases=(
            *(Case((SQUARE,), {"upper": u}) for u in (0, 1)),
            *(Case((SQUARE, ints(k).reshape(())), {"upper": u}) for u in (0, 1) for k in (-1, 2, 9)),
            Case((integers(3, 0, 2),)),
        ),
    ),
)
