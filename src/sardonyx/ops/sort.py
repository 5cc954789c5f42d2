"""Operators that search elements: TopK, Unique, NonZero. TopK and Unique sort positions in heaps."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from sardonyx.base.dtypes import DType, boolean, i64
from sardonyx.base.symbolic import Dim, product, strides
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import elements, only
from sardonyx.expr.require import require_nonnegative
from sardonyx.expr.tensor import Tensor, assemble, compute, kernel_outputs
from sardonyx.loop.builder import Array, KernelBuilder, Local, as_index, trusted
from sardonyx.loop.nodes import Expr, Kernel
from sardonyx.loop.values import Value, where
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.gather import places_of_true
from sardonyx.ops.heap import Heap, comparable, larger
from sardonyx.ops.pointwise import normal_axis, pointwise, view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped


@functools.cache
def top_k_kernel(dtype: DType, largest: bool) -> Kernel:
    """Build the kernel of TopK: for each row of n elements the k first in order, equal elements by position.

    parallel for row:
      heap of the first k positions, the worst at the root
      for each other position:  if its element is better, it replaces the root
      sort the heap
    """
    b = KernelBuilder(f"top k of {dtype}")
    outer, n, inner, k = (b.size(s) for s in ("outer", "n", "inner", "k"))
    x = b.input("x", dtype, outer * n * inner)
    values, positions = b.output("values", dtype, outer * k * inner), b.output("positions", i64, outer * k * inner)
    with b.loop("row", outer * inner, kind="parallel") as row, b.if_(as_index(k) > 0):
        block, column = row // inner, row % inner

        def number(p: Value) -> Value:
            return comparable(x[(block * n + trusted(p, n)) * inner + column])

        def before(p: Value, q: Value) -> Value:
            first, second = (number(p), number(q)) if largest else (number(q), number(p))
            return larger(first, second) | (~larger(second, first) & (p < q))

        heap = Heap(b, positions, lambda j: (block * k + j) * inner + column, as_index(k), k, before)
        with b.loop("j", k) as j:
            positions[heap.place(j)] = as_index(j)
        heap.build()
        with b.loop("j", n, k) as j, b.if_(before(as_index(j), positions[heap.place(0)])):
            heap.replace_root(as_index(j))
        heap.sort()
        with b.loop("j", k) as j:
            chosen = trusted(positions[heap.place(j)], n)
            values[heap.place(j)] = x[(block * n + chosen) * inner + column]
    return b.build()


def top_k(x: Tensor, k: Tensor, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, ...]:  # noqa: A002
    """Compute TopK: the k greatest (or least) elements along the axis, in order, and their positions.

    x: T[.., n, ..], k: i64[1] -> T[.., k, ..], i64[.., k, ..]
    """
    return top(x, only(k, "k of TopK"), axis, bool(largest))


def top(x: Tensor, k: Dim, axis: int, largest: bool) -> tuple[Tensor, ...]:
    """Compute TopK for k known as a size. Raises Fail if k is negative or greater than the axis."""
    along = normal_axis(axis, x.rank)
    n = x.shape[along]
    require_nonnegative(n - k, "TopK: k = {} is larger than the axis of {} elements", k, n)
    require_nonnegative(k, "TopK: k = {} is negative", k)
    shape = [*x.shape[:along], k, *x.shape[along + 1 :]]
    sizes = [product(x.shape[:along]), n, product(x.shape[along + 1 :]), k]
    return kernel_outputs(top_k_kernel(x.dtype, largest), [x], [(x.dtype, shape), (i64, shape)], sizes)


def top_k_10(x: Tensor, k: Tensor, axis: int = -1) -> tuple[Tensor, ...]:
    """TopK of opset 10, which always returns the greatest elements."""
    return top(x, only(k, "k of TopK"), axis, largest=True)


def top_k_1(x: Tensor, *, k: int, axis: int = -1) -> tuple[Tensor, ...]:
    """TopK before opset 10, where k is an attribute."""
    return top(x, k, axis, largest=True)


# ---- Unique ----------------------------------------------------------------------------------------------------------------


@functools.cache
def unique_kernel(dtype: DType, in_order: bool) -> Kernel:
    """Build the kernel of Unique: group equal items along an axis of n items, each of outer x inner numbers.

        sort all items by heapsort, equal items by position
        for each item in order:  an item that differs from the one before begins a new group

    Outputs: each group's first item and size, each item's group, the number of groups. Groups are in the order of their numbers, or
    (in_order false) of their first items.
    """
    b = KernelBuilder(f"unique of {dtype}")
    outer, n, inner = (b.size(s) for s in ("outer", "n", "inner"))
    x = b.input("x", dtype, outer * n * inner)
    first, group, count = (b.output(s, i64, n) for s in ("first", "group", "count"))
    total = b.output("total", i64, 1)

    def number(p: Value, at: Dim) -> Value:
        """Return number `at` of item p."""
        return comparable(x[(at // inner * n + trusted(p, n)) * inner + at % inner])

    def before(p: Value, q: Value) -> Value:
        place = first_difference(b, outer * inner, lambda at: (number(p, at), number(q, at)))
        same = place.value >= as_index(outer * inner)
        at = trusted(where(same, 0, place.value), outer * inner)
        return where(same, p < q, larger(number(q, at), number(p, at)))

    order = b.scratch("order", i64, n)
    with b.loop("j", n) as j:
        order[j] = as_index(j)
    with b.if_(as_index(outer * n * inner) > 0):
        heap = Heap(b, order, lambda j: j, as_index(n), n, before)
        heap.build()
        heap.sort()
    groups = b.local(i64, -1)
    with b.loop("j", n) as j:
        new = b.local(i64, 1)
        with b.if_(as_index(j) > 0):
            pair = order[trusted(as_index(j) - 1, n)], order[j]
            place = first_difference(b, outer * inner, lambda at: (number(pair[0], at), number(pair[1], at)))
            with b.if_(place.value >= as_index(outer * inner)):
                new.set(0)
        groups.add(new.value)
        here = trusted(groups.value, n)
        with b.if_(new.value > 0):
            first[here] = order[j]
            count[here] = 0
        group[trusted(order[j], n)] = groups.value
        count[here] = count[here] + 1
    total[0] = groups.value + 1
    if not in_order:
        renumber(b, n, first, group, count, groups.value)
    return b.build()


def first_difference(b: KernelBuilder, size: Dim, numbers: Callable[[Dim], tuple[Value, Value]]) -> Local:
    """Emit a search for the first position at which two items differ, or `size`."""
    place = b.local(i64, 0)
    equal = b.local(boolean, True)
    with b.while_(equal.value & (place.value < as_index(size))):
        p, q = numbers(trusted(place.value, size))
        with b.if_(larger(p, q) | larger(q, p)):
            equal.set(False)
        with b.else_():
            place.add(1)
    return place


def renumber(b: KernelBuilder, n: Dim, first: Array, group: Array, count: Array, last: Value) -> None:
    """Emit loops that renumber the groups 0 to `last` in the order of their first items."""
    number, old_first, old_count = (b.scratch(s, i64, n) for s in ("number", "old first", "old count"))
    with b.loop("g", n) as g, b.if_(as_index(g) <= last):
        old_first[g] = first[g]
        old_count[g] = count[g]
    seen = b.local(i64, 0)
    with b.loop("p", n) as p:
        own = trusted(group[p], n)
        with b.if_(old_first[own] == as_index(p)):
            number[own] = seen.value
            first[trusted(seen.value, n)] = as_index(p)
            count[trusted(seen.value, n)] = old_count[own]
            seen.add(1)
    with b.loop("p", n) as p:
        group[p] = number[trusted(group[p], n)]


def unique(x: Tensor, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:  # noqa: A002
    """Compute Unique: the different slices along the axis, or the different elements of the flattened x if axis is None.

    Returns them: T[.., u, ..], each one's first position: i64[u], for each slice of x its index among them: i64[n], and their
    counts: i64[u].
    """
    source = reshaped(x, [product(x.shape)]) if axis is None else x
    along = 0 if axis is None else normal_axis(axis, x.rank)
    n = source.shape[along]
    sizes = [product(source.shape[:along]), n, product(source.shape[along + 1 :])]
    kernel = unique_kernel(x.dtype, bool(sorted))
    first, group, count, total = kernel_outputs(kernel, [source], [(i64, (n,)), (i64, (n,)), (i64, (n,)), (i64, (1,))], sizes)
    u = elements(total).item()
    y = view(
        source,
        [*source.shape[:along], u, *source.shape[along + 1 :]],
        lambda *i: [*i[:along], element(at(first, (i[along],)), n), *i[along + 1 :]],
    )
    return y, view(first, [u], lambda i: (i,)), group, view(count, [u], lambda i: (i,))


# ---- NonZero ---------------------------------------------------------------------------------------------------------------


def non_zero(x: Tensor) -> Tensor:
    """Compute NonZero: the indices of the elements that are not 0, in row-major order. -> i64[rank, count]; a scalar counts as a
    vector of one.
    """
    shape = x.shape or (1,)
    mask = pointwise(lambda e: scalar.cast(e, boolean), x, dtype=boolean)
    places, count = places_of_true(reshaped(mask, [product(shape)]))
    steps = strides(shape)

    def index(axis: int, k: Dim) -> Expr:
        outer = scalar.div(at(places, (k,)), scalar.index(steps[axis]))
        return scalar.apply("rem", outer, scalar.index(shape[axis]))

    rows = [compute(i64, [1, count], lambda _, k, a=axis: index(a, k)) for axis in range(len(shape))]
    if len(rows) == 1:
        return rows[0]
    return assemble(i64, [len(rows), count], [(row, [a, 0]) for a, row in enumerate(rows)])


def one(n: int) -> np.ndarray:
    return np.array([n], np.int64)


X = reals(3, 4, 5)

OPS = (
    Op(
        "TopK",
        since=11,
        kernel=top_k,
        quantised=Rule.NONE,
        cases=(
            Case((X, one(3)), {"axis": 1}, outputs=2),
            Case((X, one(5)), {"largest": 0}, "all", outputs=2),
            Case((integers(40, lo=-2, hi=2), one(7)), {"axis": 0}, "ties", outputs=2),
            Case((integers(3, 9, dtype=np.int32), one(1)), outputs=2),
            Case((X, one(0)), {"axis": 1}, "none", outputs=2),
            Case((X.astype(np.float16), one(2)), {"axis": 0}, outputs=2),
        ),
    ),
    Op("TopK", since=10, kernel=top_k_10, quantised=Rule.NONE),
    Op("TopK", since=1, kernel=top_k_1, quantised=Rule.NONE),
    Op(
        "NonZero",
        since=9,
        lower=non_zero,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((integers(3, 4, 2, lo=-1, hi=1),)),
            Case((np.array([0, np.nan, -0.0, 3], np.float32),)),
            Case((np.zeros((2, 3), bool),)),
            Case((np.zeros((0, 3), np.int32),)),
        ),
    ),
    Op(
        "Unique",
        since=11,
        kernel=unique,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((integers(4, 6, lo=-3, hi=3),), outputs=4),
            Case((np.array([2, 1, 1, 3, 4, 3], np.float32),), {"sorted": 0}, "unsorted", outputs=4),
            Case((integers(7, 3, lo=0, hi=1),), {"axis": 0}, "rows", outputs=4),
            Case((integers(2, 9, 2, lo=0, hi=2, dtype=np.int8) // 2,), {"axis": 1}, "slices", outputs=4),
            Case((np.zeros(0, np.float32),), {}, "nothing", outputs=4),
        ),
    ),
)
