"""Reading elements at indices that are data: Gather, GatherElements, GatherND, OneHot, Compress."""

from __future__ import annotations

from typing import Any

import numpy as np

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Int, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import elements, known, only
from sardonyx.expr.require import require_equal, require_nonnegative
from sardonyx.expr.tensor import Tensor, compute, constant, kernel_outputs
from sardonyx.loop.builder import KernelBuilder, as_index
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.movement import from_end
from sardonyx.ops.pointwise import normal_axis, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import tensors
from sardonyx.ops.shape import reshaped


def gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Compute Gather: y[*a, *m, *b] = x[*a, indices[*m], *b]. x: T[*a, n, *b], indices: i64 or i32[*m] -> T[*a, *m, *b]

    n is the size of `axis`; negative indices count from the end.
    """
    axis = normal_axis(axis, x.rank)
    n, rank = x.shape[axis], indices.rank
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    fixed = known(indices) if rank == 0 else None
    if fixed is not None:
        place = known_place(fixed.item(), n)
        return view(x, shape, lambda *i: [*i[:axis], place, *i[axis:]])
    return view(x, shape, lambda *i: [*i[:axis], element(at(indices, i[axis : axis + rank]), n), *i[axis + rank :]])


def known_place(index: Dim, n: Dim) -> Dim:
    """Return a constant index into an axis of n elements, counted from the start. The run fails if it is out of bounds."""
    place = from_end(index, n)
    require_nonnegative(place, OUT_OF_BOUNDS, index, n)
    require_nonnegative(n - 1 - place, OUT_OF_BOUNDS, index, n)
    return place


OUT_OF_BOUNDS = "index {} is out of bounds for an axis of {}"
"""Error for an index outside its axis."""


def gather_elements(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Compute GatherElements: y[i, ..., k, ...] = x[i, ..., indices[i, ..., k, ...], ...], replacing the index on `axis`.

    x: T[*d], indices: i64 or i32[*m] -> T[*m]. Except on `axis`, m may not exceed d.
    """
    axis = normal_axis(axis, x.rank)
    same_rank("GatherElements", x, indices)
    for a, (n, m) in enumerate(zip(x.shape, indices.shape, strict=True)):
        if a != axis:
            require_nonnegative(n - m, "GatherElements of {} at {}", x.shape, indices.shape)
    return view(x, indices.shape, lambda *i: [*i[:axis], element(at(indices, i), x.shape[axis]), *i[axis + 1 :]])


def same_rank(name: str, x: Tensor, indices: Tensor) -> None:
    """Require that x and indices have the same rank. Raises Fail."""
    if x.rank != indices.rank:
        raise Fail(f"[ShapeInferenceError] {name} of {list(x.shape)} at {list(indices.shape)}: the ranks differ")


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """Compute GatherND: each tuple of k indices selects a slice of x. x: T[*batch, *d, *rest], indices: i64[*batch, *m, k] ->
    T[*batch, *m, *rest]

    k is the rank of d.
    """
    k, b, m = tuple_length(indices), batch_dims, indices.rank - 1
    if not 0 <= b <= min(m, x.rank - k):
        raise Fail(f"[ShapeInferenceError] GatherND of {list(x.shape)} at {list(indices.shape)} with {b} batch axes")
    for n, o in zip(x.shape[:b], indices.shape[:b], strict=True):
        require_equal(n, o, "GatherND of {} at {} with {} batch axes", x.shape, indices.shape, b)

    def index(*i: Dim) -> list[Dim]:
        places = [element(at(indices, (*i[:m], a)), x.shape[b + a]) for a in range(k)]
        return [*i[:b], *places, *i[m:]]

    return view(x, [*indices.shape[:-1], *x.shape[b + k :]], index)


def tuple_length(indices: Tensor) -> int:
    """Return the size of the last axis, which holds tuples of indices. Raises Unsupported if it is symbolic, Fail for a scalar."""
    if indices.rank == 0:
        raise Fail("[ShapeInferenceError] tuples of indices are needed, not a scalar")
    if not isinstance(indices.shape[-1], int):
        raise Unsupported(f"tuples of indices of unknown length: {list(indices.shape)}")
    return indices.shape[-1]


def one_hot(indices: Tensor, depth: Tensor, values: Tensor, axis: int = -1) -> Tensor:
    """Compute OneHot: values[1] where the position on the new axis equals the index, else values[0].

    indices: S[*m], depth: S[] or S[1], values: T[2] -> T[*m with depth inserted at axis]. Negative indices count from the end;
    indices out of range match no position.
    """
    axis = normal_axis(axis, indices.rank + 1)
    n = only(depth if depth.dtype.is_integer else whole(depth), "depth of OneHot")

    def body(*i: Dim) -> Expr:
        index = scalar.cast(at(indices, (*i[:axis], *i[axis + 1 :])), i64)
        index = scalar.select(scalar.apply("lt", index, 0), scalar.add(index, scalar.index(n)), index)
        return scalar.select(scalar.apply("eq", scalar.index(i[axis]), index), at(values, (1,)), at(values, (0,)))

    return compute(values.dtype, [*indices.shape[:axis], n, *indices.shape[axis:]], body)


def whole(x: Tensor) -> Tensor:
    """Cast to i64. x: S[*d] -> i64[*d]"""
    return compute(i64, x.shape, lambda *i: scalar.cast(at(x, i), i64))


def compress(x: Tensor, condition: Tensor, axis: int | None = None) -> Tensor:
    """Compute Compress: the slices of `axis` where the condition is true; of the flattened x if axis is None. x: T[*d], condition:
    bool[n]
    """
    if axis is None:
        return compress(reshaped(x, [product(x.shape)]), condition, 0)
    axis = normal_axis(axis, x.rank)
    require_ranks("Compress by a condition of shape {}, which is not a vector", (condition, 1))
    places, count = places_of_true(condition)
    shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]
    return view(x, shape, lambda *i: [*i[:axis], element(at(places, (i[axis],)), x.shape[axis]), *i[axis + 1 :]])


def places_of_true(mask: Tensor) -> tuple[Tensor, Dim]:
    """Return the positions where the mask is true, in order, and how many they are. mask: bool[n] -> (i64[n], count)

    Elements of the positions from `count` on are undefined.
    """
    fixed = known(mask)
    if fixed is not None and not any(isinstance(e, Int) for e in fixed):
        places = np.flatnonzero(fixed.astype(bool))
        return constant(places), len(places)
    b = KernelBuilder("places of true")
    n = b.size("n")
    source, out, total = b.input("mask", boolean, n), b.output("places", i64, n), b.output("count", i64, 1)
    count = b.local(i64, 0)
    with b.loop("i", n) as i, b.if_(source[i]):
        out[out.at(count.value)] = as_index(i)
        count.add(1)
    total[0] = count.value
    found, number = kernel_outputs(b.build(), [mask], [(i64, mask.shape), (i64, (1,))], mask.shape)
    return found, elements(number).item()


# ---- records ------------------------------------------------------------------------------------------------------------

X = reals(3, 4, 5)
PLACES = integers(2, 3, lo=-3, hi=2)


def ints(*numbers: Any) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


OPS = (
    Op(
        "Gather",
        since=1,
        lower=gather,
        cases=(
            Case((X, PLACES)),
            Case((X, PLACES.astype(np.int32)), {"axis": 1}),
            Case((X, np.array(-1)), {"axis": 2}),
            Case((integers(5), ints(4, 0, -5))),
            Case((X, np.zeros((0, 2), np.int64)), {"axis": -1}),
        ),
    ),
    Op(
        "GatherElements",
        since=11,
        lower=gather_elements,
        reference=tensors.gather_elements,
        cases=(Case((X, integers(2, 4, 7, lo=-5, hi=4)), {"axis": 2}), Case((X, integers(6, 1, 5, lo=0, hi=2, dtype=np.int32)))),
    ),
    Op(
        "GatherND",
        since=11,
        lower=gather_nd,
        cases=(
            Case((X, ints([0, 1], [2, -1]))),
            Case((X, ints([[0, 1, 2]], [[1, -1, -2]]))),
            Case((X, integers(3, 2, 1, lo=-4, hi=3)), {"batch_dims": 1}),
            Case((X, integers(3, 4, 1, lo=0, hi=4)), {"batch_dims": 2}),
        ),
    ),
    Op(
        "OneHot",
        since=9,
        lower=one_hot,
        reference=tensors.one_hot,
        cases=(
            Case((ints([0, -1], [2, 7]), np.array(3), np.array([2.5, 5], np.float32))),
            Case((np.array([1, 0], np.float32), np.array(4.0, np.float32), ints(0, 1)), {"axis": 0}),
            Case((ints([0, -1], [2, 1]), np.array(3, np.int32), ints(7, 9)), {"axis": 1}),
        ),
        gradient=Rule.NONE,
    ),
    Op(
        "Compress",
        since=9,
        kernel=compress,
        cases=(
            Case((X, np.array([False, True, True]))),
            Case((X, np.array([True, False, True, True])), {"axis": -2}),
            Case((X, np.array([True, False])), {"axis": 2}),
            Case((X, np.array([False, True, False, True])), {"axis": 1}),
            Case((X, np.array([False])), {"axis": 1}),
        ),
    ),
)
