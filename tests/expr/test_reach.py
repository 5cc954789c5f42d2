"""Reads stay inside their tensors: what is proved, what is required, what is refused at once."""

from __future__ import annotations

import pytest

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Defined, Dim, Symbol, evaluate, maximum, minimum, symbol
from sardonyx.expr import scalar
from sardonyx.expr.index import at, broadcast, element, inside
from sardonyx.expr.require import Requirement, collect, require_equal
from sardonyx.expr.tensor import Read, Tensor, compute, input_tensor, kernel_outputs, reduction
from sardonyx.loop.builder import KernelBuilder

N, M, K = symbol("n"), symbol("m"), symbol("k")


def tensor(*shape: Dim) -> Tensor:
    return input_tensor("x", f32, shape)


def holds(requirements: list[Requirement], **sizes: int) -> bool:
    def size(s: Symbol) -> int:
        return evaluate(s.definition, size) if isinstance(s, Defined) else sizes[s.name]

    numbers = [(r.relation, evaluate(r.dim, size)) for r in requirements]
    return all(n == 0 if relation == "zero" else n >= 0 for relation, n in numbers)


def test_a_whole_axis_requires_nothing() -> None:
    with collect() as found:
        compute(f32, [N, 3], lambda i, j: Read(tensor(N, 3), (i, j)))
        compute(f32, [N, 3], lambda i, j: Read(tensor(3, N), (2 - j, i)))
        compute(f32, [N * M], lambda i: Read(tensor(N, M), (i // M, i % M)))
        reduction("add", f32, [N], [M], lambda i, r: Read(tensor(N * M), (i * M + r,)))
    assert not found


def test_a_short_axis_of_numbers_is_refused_at_once() -> None:
    with collect(), pytest.raises(Fail, match=r"axis 0 of x, of shape \[4\], is too short: 5"):
        compute(f32, [5], lambda i: Read(tensor(4), (i,)))
    with collect(), pytest.raises(Fail, match="too short: 9"):
        reduction("add", f32, [3], [3], lambda i, r: Read(tensor(8), (3 * i + r,)))
    with collect(), pytest.raises(Fail, match="read at -1"):
        compute(f32, [5], lambda i: Read(tensor(5), (i - 1,)))


def test_nothing_is_read_in_an_empty_loop() -> None:
    with collect() as found:
        compute(f32, [0, 5], lambda i, j: Read(tensor(3), (j,)))
        compute(f32, [N, M], lambda i, j: Read(tensor(4, 0), (2 * i, j)))
    assert holds(found, n=0, m=0)
    assert not holds(found, n=1, m=1)


def test_an_empty_loop_divides_nothing() -> None:
    with collect() as found:
        compute(f32, [N], lambda i: Read(tensor(5, M), (i // M, i % M)))
    assert holds(found, n=0, m=0)
    assert holds(found, n=10, m=2)
    assert not holds(found, n=11, m=2)


def test_a_loop_that_is_entered_divides_by_something() -> None:
    """Also where no bound of the index depends on the divisor."""
    with collect() as found:
        compute(f32, [N], lambda i: Read(tensor(M), (i % M,)))
    assert not holds(found, n=1, m=0)
    assert holds(found, n=0, m=0)
    assert holds(found, n=7, m=2)


@pytest.mark.parametrize(("before", "after", "fits"), [(0, 0, True), (4, 4, True), (8, 4, True), (9, 0, False), (0, 5, False)])
def test_an_index_that_is_mirrored(before: int, after: int, fits: bool) -> None:
    """It turns at the first and at the last element: of 5 elements 4 are behind the first, and 8 before it come back to the first."""

    def index(i: Dim) -> Dim:
        way = maximum(i - before, before - i)
        return minimum(way, 2 * (N - 1) - way)

    with collect() as found:
        compute(f32, [N + before + after], lambda i: Read(tensor(N), (index(i),)))
    assert holds(found, n=5) is fits


def test_an_axis_of_one_element_is_read_at_it() -> None:
    with collect() as found:
        compute(f32, [2 * M], lambda i: at(tensor(N), (i // 2,)))
    assert holds(found, n=1, m=7)
    assert holds(found, n=4, m=4)
    assert not holds(found, n=3, m=4)


def test_a_guard_that_compares_parts_of_the_index() -> None:
    """The columns of a picture whose rows and columns begin before it: y m + x for y < n and x < m."""

    def body(i: Dim, j: Dim, r: Dim) -> Read:
        y, x = i - r, (j + r) // 2
        return Read(tensor(N * M), (y * M + x,), scalar.logical_and(inside(y, N), inside(x, M)))

    with collect() as found:
        compute(f32, [9, 9, 3], body)
    assert not found
    with collect() as found:
        compute(f32, [9, 9, 3], lambda i, j, r: Read(tensor(K), body(i, j, r).indices, body(i, j, r).guard))
    assert holds(found, n=2, m=3, k=6)
    assert not holds(found, n=2, m=3, k=5)


def test_what_is_required_to_be_equal_is_as_long() -> None:
    with collect() as found:
        require_equal(N, 3 * M, "{} is not three times {}", N, M)
        compute(f32, [3 * M], lambda i: Read(tensor(N), (i,)))
    assert len(found) == 1


def test_a_read_without_bounds_is_refused() -> None:
    """i (4 - i) lies in [0, 4], which nothing here finds out."""
    with collect(), pytest.raises(Unsupported, match="may lie outside"):
        compute(f32, [5], lambda i: Read(tensor(5), (i * (4 - i),)))
    guard = inside(2 * symbol("k"), 5)
    with collect(), pytest.raises(Unsupported, match="may lie outside"):  # what the guard says of i + j is not understood
        compute(f32, [5, 5], lambda i, j: Read(tensor(5), (i + 2 * j,), scalar.logical_and(guard, inside(i + j, 3))))


@pytest.mark.parametrize(("n", "m", "fits"), [(4, 4, True), (5, 4, True), (3, 4, False), (0, 0, True), (0, 1, False)])
def test_sizes_of_a_run_are_compared(n: int, m: int, fits: bool) -> None:
    with collect() as found:
        compute(f32, [M], lambda i: Read(tensor(N), (i,)))
    assert holds(found, n=n, m=m) is fits


@pytest.mark.parametrize(("n", "m", "fits"), [(4, 4, True), (1, 4, True), (4, 1, True), (3, 4, False), (1, 0, True), (0, 1, True)])
def test_broadcasting(n: int, m: int, fits: bool) -> None:
    with collect() as found:
        x, y = tensor(N), tensor(M)
        compute(f32, broadcast(x.shape, y.shape), lambda i: scalar.add(at(x, (i,)), at(y, (i,))))
    assert holds(found, n=n, m=m) is fits


def test_a_guard_keeps_the_index_inside() -> None:
    with collect() as found:
        compute(f32, [9], lambda i: Read(tensor(4), (i - 2,), inside(i - 2, 4)))
        compute(f32, [N], lambda i: Read(tensor(M), (i,), inside(i, M)))
    assert not found
    with collect(), pytest.raises(Fail, match="too short: 6"):
        compute(f32, [9], lambda i: Read(tensor(4), (i,), inside(i, 6)))
    with collect(), pytest.raises(Fail, match="axis 1"):  # the guard is about another axis
        compute(f32, [9, 9], lambda i, j: Read(tensor(4, 4), (i, j), inside(i, 4)))


def test_numbers_from_data_index_no_empty_axis() -> None:
    places = input_tensor("places", i64, [M])

    def taken(n: Dim) -> Tensor:
        return compute(f32, [M], lambda i: Read(tensor(n), (element(at(places, (i,)), n),)))

    with collect() as found:
        taken(N)
    assert holds(found, n=1, m=7)
    assert holds(found, n=0, m=0)
    assert not holds(found, n=0, m=7)
    with collect() as found, pytest.raises(Fail, match="too short"):
        compute(f32, [2], lambda i: Read(tensor(3), (element(at(places, (i,)), 4),)))


def test_a_kernel_gets_the_elements_that_it_touches() -> None:
    b = KernelBuilder("copy")
    n = b.size("n")
    x, y = b.input("x", f32, n), b.output("y", f32, n)
    with b.loop("i", n) as i:
        y[i] = x[i]
    kernel = b.build()
    with collect() as found:
        kernel_outputs(kernel, [tensor(M)], [(f32, [N])], [N])
    assert holds(found, n=3, m=3)
    assert not holds(found, n=4, m=3)
    with collect(), pytest.raises(Fail, match="too small: 3 of its elements"):
        kernel_outputs(kernel, [tensor(2)], [(f32, [3])], [3])


def test_outside_of_the_making_of_a_model_nothing_is_compared() -> None:
    assert compute(f32, [5], lambda i: Read(tensor(4), (i,))).shape == (5,)
