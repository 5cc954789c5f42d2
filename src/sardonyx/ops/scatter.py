"""Writing elements at indices that are data: ScatterElements, ScatterND, Scatter, TensorScatter, Col2Im.

Updates are applied in their order, so that the last of several updates of one element wins (or all are combined by the reduction).
Threads divide the work where no two of them can write to one element: along lines in ScatterElements, along columns in ScatterND.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType, boolean, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, ceil_divide, maximum, minimum, product, strides
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element, inside
from sardonyx.expr.known import listed
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute, kernel_outputs
from sardonyx.loop.builder import KernelBuilder, as_index
from sardonyx.loop.nodes import Expr, Kernel, Kind
from sardonyx.loop.values import Value
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.gather import same_rank, tuple_length
from sardonyx.ops.pointwise import normal_axis, reduce
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op
from sardonyx.ops.reference import tensors
from sardonyx.ops.windows import windows

OUT_OF_BOUNDS = ("indices element out of data bounds, idx={0} for an axis of {1}",)
"""Error of a run whose indices are out of bounds."""
COLUMNS = 64
"""Number of neighbouring columns that a thread of ScatterND processes at a time."""
COMBINE = {"add": "add", "mul": "mul", "min": "min", "max": "max"}
"""Function of the loop IR for each reduction."""
COMBINE_BOOL = {"add": "or", "mul": "and", "min": "and", "max": "or"}
"""Function of the loop IR for each reduction of bools."""


def combination(reduction: str, dtype: DType) -> Callable[[Value, Value], Value]:
    """Return the function (old element, update) -> new element. Raises Fail for an unknown reduction."""
    if reduction == "none":
        return lambda old, new: new
    table = COMBINE_BOOL if dtype is boolean else COMBINE
    if reduction not in table:
        raise Fail(f"reduction must be none, {', '.join(table)}, not {reduction}")
    fn = table[reduction]
    return lambda old, new: Value(scalar.apply(fn, old.expr, new.expr))


@contextlib.contextmanager
def slice_of(b: KernelBuilder, sizes: Sequence[Dim], shared: int | None, q: Dim, kind: Kind) -> Iterator[list[Dim]]:
    """Emit loops over all indices that have q on the axis `shared` (over all indices if it is None). The innermost loop has this
    kind.
    """
    inner = [a for a in range(len(sizes)) if a != shared]
    with contextlib.ExitStack() as loops:
        out = {a: loops.enter_context(b.loop(f"i{a}", sizes[a], kind=kind if a == inner[-1] else "serial")) for a in inner}
        yield [out.get(a, q) for a in range(len(sizes))]


def offset(indices: Sequence[Dim], steps: Sequence[Dim]) -> Dim:
    """Return the offset of an element in a buffer with these strides."""
    out: Dim = 0
    for i, step in zip(indices, steps, strict=True):
        out = out + i * step
    return out


# ---- ScatterElements ----------------------------------------------------------------------------------------------------


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none") -> Tensor:
    """Compute ScatterElements: a copy y of x where y[i, ..., indices[i, ..., k], ...] = updates[i, ..., k], or is combined with it
    by the reduction.

    x: T[*d], indices, updates: [*m]; the index replaced is that of `axis`. The run fails for indices out of bounds.
    """
    axis = normal_axis(axis, x.rank)
    same_rank("ScatterElements", x, indices)
    same_rank("ScatterElements", x, updates)
    for a, (n, m, u) in enumerate(zip(x.shape, indices.shape, updates.shape, strict=True)):
        clash = "updates of {} at indices {} into {}", updates.shape, indices.shape, x.shape
        require_equal(m, u, *clash)
        if a != axis:
            require_nonnegative(n - m, *clash)
    require_element("ScatterElements", x.shape[axis], product(updates.shape), x)
    kernel = elements_kernel(x.rank, axis, x.dtype, indices.dtype, reduction)
    (y,) = kernel_outputs(kernel, [x, indices, updates], [(x.dtype, x.shape)], [*x.shape, *indices.shape], OUT_OF_BOUNDS)
    return y


def require_element(name: str, n: Dim, count: Dim, x: Tensor) -> None:
    """Require that an axis of n elements is not empty if there are updates (count > 0). Raises Fail."""
    require_nonnegative(n - minimum(count, 1), name + " into an empty axis of {}", x.shape)


def scatter(x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0) -> Tensor:
    """Scatter: the name of ScatterElements before opset 11, without reductions."""
    return scatter_elements(x, indices, updates, axis)


def elements_kernel(rank: int, axis: int, dtype: DType, index: DType, reduction: str) -> Kernel:
    """Build the kernel of ScatterElements. For each index of the first axis other than `axis`, in parallel: copy the slice of x,
    then apply its updates.
    """
    merge = combination(reduction, dtype)
    b = KernelBuilder(f"scatter elements {reduction}")
    ns, ms = [b.size(f"n{a}") for a in range(rank)], [b.size(f"m{a}") for a in range(rank)]
    x = b.input("x", dtype, product(ns))
    indices, updates = b.input("indices", index, product(ms)), b.input("updates", dtype, product(ms))
    y = b.output("y", dtype, product(ns))
    shared = next((a for a in range(rank) if a != axis), None)
    here, there = strides(ns), strides(ms)
    with b.loop("slice", 1 if shared is None else ns[shared], kind="parallel") as q:
        with slice_of(b, ns, shared, q, "vector") as i:
            y[offset(i, here)] = x[offset(i, here)]
        some = b.if_(as_index(q) < as_index(ms[shared])) if shared is not None else contextlib.nullcontext()
        with some, slice_of(b, ms, shared, q, "serial") as i:
            source = offset(i, there)
            target = offset([*i[:axis], y.checked(indices[source], ns[axis], 0), *i[axis + 1 :]], here)
            y[target] = merge(y[target], updates[source])
    return b.build()


# ---- ScatterND ----------------------------------------------------------------------------------------------------------


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    """Compute ScatterND: a copy y of x where y[indices[i]] = updates[i], or is combined with it by the reduction.

    x: T[*d, *rest], indices: i64[*m, k], updates: T[*m, *rest] -> T[*d, *rest], where k is the rank of d. Raises Fail for other
    shapes.
    """
    k = tuple_length(indices)
    if k > x.rank or updates.rank != indices.rank - 1 + x.rank - k:
        raise Fail(f"[ShapeInferenceError] ScatterND of {list(updates.shape)} at {list(indices.shape)} into {list(x.shape)}")
    for n, m in zip(updates.shape, (*indices.shape[:-1], *x.shape[k:]), strict=True):
        require_equal(n, m, "ScatterND of {} at {} into {}", updates.shape, indices.shape, x.shape)
    for n in x.shape[:k]:
        require_element("ScatterND", n, product(updates.shape), x)
    kernel = rows_kernel(k, x.dtype, indices.dtype, reduction)
    sizes = [*x.shape[:k], product(indices.shape[:-1]), product(x.shape[k:])]
    (y,) = kernel_outputs(kernel, [x, indices, updates], [(x.dtype, x.shape)], sizes, OUT_OF_BOUNDS)
    return y


def rows_kernel(k: int, dtype: DType, index: DType, reduction: str) -> Kernel:
    """Build the kernel of ScatterND, which treats the slices that updates write as rows.

    x: [*n, width], where n holds k sizes, indices: [count, k], updates: [count, width]. Each thread processes COLUMNS columns at a
    time.
    """
    merge = combination(reduction, dtype)
    b = KernelBuilder(f"scatter rows {reduction}")
    ns, count, width = [b.size(f"n{a}") for a in range(k)], b.size("count"), b.size("width")
    x = b.input("x", dtype, product(ns) * width)
    indices, updates = b.input("indices", index, count * k), b.input("updates", dtype, count * width)
    y = b.output("y", dtype, product(ns) * width)
    with b.loop("columns", ceil_divide(width, COLUMNS), kind="parallel") as c:
        lo, hi = c * COLUMNS, minimum(width, (c + 1) * COLUMNS)
        with b.loop("row", product(ns)) as r, b.loop("column", hi, lo, "vector") as j:
            y[r * width + j] = x[r * width + j]
        with b.loop("update", count) as u:
            row = offset([y.checked(indices[u * k + a], n, 0) for a, n in enumerate(ns)], strides(ns))
            with b.loop("column", hi, lo, "vector") as j:
                y[row * width + j] = merge(y[row * width + j], updates[u * width + j])
    return b.build()


# ---- by expressions -----------------------------------------------------------------------------------------------------


def tensor_scatter(past: Tensor, update: Tensor, starts: Tensor | None = None, axis: int = -2, mode: str = "linear") -> Tensor:
    """Compute TensorScatter: past with `update` written along the axis from starts[batch] on (from 0 without starts).

    past: T[batch, *a, n, *b], update: T[batch, *a, m, *b], starts: i64[batch] -> T[batch, *a, n, *b]. In mode circular, writing
    continues at 0 after the end. Raises Fail for other modes and shapes.
    """
    axis = normal_axis(axis, past.rank)
    if mode not in ("linear", "circular") or axis == 0:
        raise Fail(f"TensorScatter with mode {mode} and axis {axis}")
    n, m = past.shape[axis], update.shape[axis]
    around = [t.shape[:axis] + t.shape[axis + 1 :] for t in (past, update)]
    require_same(around[0], around[1], "TensorScatter of {} into {}: the other sizes differ", update.shape, past.shape)
    if starts is not None:
        require_same(
            starts.shape,
            past.shape[:1],
            "TensorScatter with write_indices of shape {} into {}: one is needed for each batch",
            starts.shape,
            past.shape,
        )

    def body(*i: Dim) -> Expr:
        start = scalar.literal(0, i64) if starts is None else scalar.cast(at(starts, (i[0],)), i64)
        place = scalar.sub(scalar.index(i[axis]), start)
        if mode == "circular":
            place = scalar.apply("mod", place, scalar.index(n))
        new = scalar.logical_and(scalar.apply("ge", place, 0), scalar.apply("lt", place, scalar.index(m)))
        written = at(update, [*i[:axis], element(place, m), *i[axis + 1 :]], new)
        return scalar.select(new, written, at(past, i))

    return compute(past.dtype, past.shape, body)


def col2im(
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Compute Col2Im: each pixel is the sum of its elements in all windows that cover it.

    x: T[n, c product(block), windows], image_shape, block_shape: i64[d] -> T[n, c, *image]. Raises Fail for sizes that don't fit.
    """
    image, block = listed(image_shape, "image_shape"), listed(block_shape, "block_shape")
    require_ranks("Col2Im of {}, not [n, channels, windows]", (x, 3))
    for n in block:
        require_nonnegative(n - 1, "Col2Im with blocks of {}", block)
    block = [maximum(n, 1) for n in block]
    axis_windows = windows(image, block, strides, dilations, pads)
    channels = x.shape[1] // product(block)
    require_equal(
        channels * product(block), x.shape[1], "Col2Im of {}: the channels are not divisible by the block {}", x.shape, block
    )
    require_equal(
        product(w.out for w in axis_windows), x.shape[2], "Col2Im of {}: the windows do not fit an image of {}", x.shape, image
    )
    rank = len(axis_windows)

    def body(*i: Dim) -> Expr:
        row: Dim = i[1]
        column: Dim = 0
        valid: Expr = scalar.literal(True, boolean)
        for own, pixel, tap in zip(axis_windows, i[2 : 2 + rank], i[2 + rank :], strict=True):
            distance = pixel + own.lo - tap * own.dilation
            window = distance // own.stride
            aligned = scalar.apply("eq", scalar.index(distance % own.stride), 0)
            valid = functools.reduce(scalar.logical_and, (valid, aligned, inside(window, own.out)))
            row, column = row * own.size + tap, column * own.out + window
        return at(x, (i[0], row, column), valid)

    return reduce("add", x.dtype, [x.shape[0], channels, *image], block, body)


# ---- records ------------------------------------------------------------------------------------------------------------

X = reals(4, 3, 5)
ROWS = np.array([[3], [0], [-1]])
LINES = integers(2, 3, 4, lo=-5, hi=4)
REDUCTIONS = ("none", "add", "mul", "min", "max")
CACHE, NEW = reals(2, 3, 6, 2), reals(2, 3, 2, 2) + 9


def distinct(*shape: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Make indices of which no two on a line of the last axis are equal."""
    return (np.arange(shape[-1]) * 2 + np.zeros(shape, np.int64)) % 5


ELEMENTS = tuple(
    [Case((X, distinct(4, 3, 3), reals(4, 3, 3) + 3), {"axis": 2, "reduction": w}) for w in REDUCTIONS]
    + [Case((X, LINES, reals(2, 3, 4) + 3), {"axis": 2, "reduction": w}) for w in REDUCTIONS[1:]]
    + [Case((X[:, 0, 0].copy(), np.array([1, -1]), reals(2)), {})]
    + [Case((integers(3, 3), np.array([[0, 2, 1]], np.int32), integers(1, 3) + 40), {"axis": 0})]
    + [Case((X.astype(np.float16), LINES % 5, reals(2, 3, 4, dtype=np.float16)), {"axis": -1, "reduction": "add"})]
)
TUPLES = tuple(
    [Case((X, ROWS, reals(3, 3, 5) + 3), {"reduction": w}) for w in REDUCTIONS]
    + [Case((X, np.array([[0, 1], [3, -1], [0, 1]]), reals(3, 5) + 3), {"reduction": w}) for w in REDUCTIONS[1:]]
    + [Case((X, np.array([[[0, 1, 4]], [[3, -1, 0]]]), reals(2, 1) + 3))]
    + [Case((integers(3, 130), np.array([[2]]), integers(1, 130)), {"reduction": "add"})]
)

OPS = (
    Op("ScatterElements", since=11, kernel=scatter_elements, cases=ELEMENTS),
    Op("Scatter", since=9, kernel=scatter, reference=tensors.scatter),
    Op("ScatterND", since=11, kernel=scatter_nd, cases=TUPLES),
    Op(
        "TensorScatter",
        since=24,
        lower=tensor_scatter,
        cases=(
            Case((CACHE, NEW)),
            Case((CACHE, NEW, np.array([1, 4]))),
            Case((CACHE, NEW, np.array([5, 3])), {"mode": "circular"}),
            Case((CACHE.transpose(0, 2, 1, 3).copy(), NEW.transpose(0, 2, 1, 3).copy(), np.array([1, 4])), {"axis": 1}),
        ),
    ),
    Op(
        "Col2Im",
        since=18,
        lower=col2im,
        cases=(
            Case((reals(1, 5, 5), np.array([5, 5]), np.array([1, 5]))),
            Case((reals(2, 12, 9), np.array([5, 5]), np.array([2, 2])), {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
            Case((reals(1, 12, 9), np.array([5, 5]), np.array([2, 3])), {"dilations": [2, 1]}),
        ),
    ),
)
