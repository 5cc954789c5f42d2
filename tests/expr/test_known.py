"""Shape arithmetic, also where only some elements are known."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import f32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Int, Symbol, single, symbol, symbols, value
from sardonyx.expr.decide import Undecided, answering
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.index import at, element
from sardonyx.expr.known import DataSymbol, elements, inside_body, known, listed, only, size_or_none
from sardonyx.expr.tensor import Read, Tensor, compute, constant, input_tensor, next_id
from sardonyx.loop.nodes import Index, Op
from sardonyx.ops.gather import gather
from sardonyx.ops.math import binary
from sardonyx.ops.movement import concat, slice_
from sardonyx.ops.pointwise import along
from sardonyx.ops.shape import shape, sizes

N, M = symbol("n"), symbol("m")
add, mul = binary("add"), binary("mul")


def ints(*numbers: int) -> Tensor:
    return constant(np.array(numbers, np.int64))


def fed(*dims: int | Int) -> Tensor:
    return input_tensor("x", f32, dims)


def test_arithmetic_of_sizes() -> None:
    whole = shape(fed(N, M, 8))
    product = mul(gather(whole, constant(np.array(0))), gather(whole, constant(np.array(-1))))
    target = concat(slice_(whole, ints(1), ints(2)), ints(-1, 2), axis=0)
    assert known(product).item() == 8 * N
    assert known(target).tolist() == [M, -1, 2]


def test_what_data_decide_is_not_known() -> None:
    count = input_tensor("count", i64, (1,))
    target = concat(count, shape(fed(N, 4)), ints(7), axis=0)
    assert known(target) is None
    first, *rest = elements(target)
    assert rest == [N, 4, 7]
    assert isinstance(single(first), DataSymbol)


def test_reads_of_the_known_part() -> None:
    target = concat(input_tensor("count", i64, (1,)), shape(fed(N, 4)), axis=0)
    assert known(gather(target, constant(np.array(1)))).item() == N
    assert known(slice_(target, ints(1), ints(3))).tolist() == [N, 4]
    assert known(gather(target, constant(np.array(0)))) is None


def test_shared_operands_are_evaluated_once() -> None:
    total = gather(shape(fed(N)), constant(np.array(0)))
    for _ in range(60):
        total = add(total, total)
    assert known(total).item() == N * 2**60


def test_chains_may_be_long() -> None:
    total, unknown = gather(shape(fed(N)), constant(np.array(0))), input_tensor("data", i64, ())
    for _ in range(3000):
        total, unknown = add(total, constant(np.array(1))), add(unknown, constant(np.array(1)))
    assert known(total).item() == N + 3000
    assert known(unknown) is None
    assert known(concat(elements_of(unknown), elements_of(total), axis=0)) is None


def elements_of(x: Tensor) -> Tensor:
    return compute(i64, (1,), lambda i: at(x, ()))


def test_sums_of_more_terms_than_sizes_have_are_left_to_the_run() -> None:
    table = ints(1)
    assert known(along("add", compute(i64, (1000,), lambda i: at(table, (0,))), [0])).item() == 1000
    assert known(along("add", compute(i64, (1 << 40,), lambda i: at(table, (0,))), [0])) is None


def test_symbols_from_data_are_bound_to_their_element() -> None:
    count = input_tensor("count", i64, (2,))
    n, m = sizes(count)
    one = ints(1)
    y = compute(i64, (n, m), lambda i, j: at(count, (element(at(one, (0,)), 2),)))
    np.testing.assert_array_equal(evaluate([y], {count: np.array([2, 3])}, {})[0], np.full((2, 3), 3))


def test_sizes_from_data_of_each_iteration_are_none() -> None:
    """What a body is given, or makes of that, of its iteration, or by what may fail, is there at each iteration alone."""
    outside = input_tensor("outside", i64, (1,))
    with inside_body("inside a loop", next_id()):
        state, t = input_tensor("state", i64, (1,)), value(Symbol("t", 5))
        counted = compute(i64, (1,), lambda i: Op("add", Read(outside, (i,)), Index(t)))
        failing = compute(i64, (1,), lambda i: Read(outside, (element(Read(outside, (0,)), 1),)))
        for inside in (state, add(state, outside), counted, add(counted, outside), failing):
            with pytest.raises(Unsupported, match="depends on data inside a loop"):
                elements(inside)
            assert size_or_none(inside) is None
        assert elements(ints(3)).tolist() == [3]


@pytest.mark.parametrize("pinned", [False, True])
def test_sizes_from_data_that_are_there_before_a_body(pinned: bool) -> None:
    """What is made of values from outside is computed before the body too, unless that may not run at all."""
    outside = input_tensor("outside", i64, (1,))
    with inside_body("a branch", next_id(), pinned), inside_body("inside a loop", next_id()):
        assert elements(outside).tolist() == [value(DataSymbol(outside, 0))]
        assert size_or_none(outside) == value(DataSymbol(outside, 0))
        twice = add(outside, outside)
        assert size_or_none(twice) == (None if pinned else value(DataSymbol(twice, 0)))


def test_elements_of_unknown_number() -> None:
    """How many sizes there are is asked of the run that the program is made for."""
    with pytest.raises(Undecided, match="the number of elements of x"):
        elements(input_tensor("x", i64, (N,)))
    with answering(dict.fromkeys(symbols(N), 3), {}) as answers:
        assert len(elements(input_tensor("x", i64, (N,)))) == 3
    assert [answers.hold(dict.fromkeys(symbols(N), k), {}) for k in (2, 3)] == [False, True]


def test_large_tensors_are_not_shape_arithmetic() -> None:
    assert known(constant(np.zeros(1025, np.int64))) is None


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 0)])
def test_numbers_in_a_list_have_one_axis(shape: tuple[int, ...]) -> None:
    assert listed(ints(3, 4), "pads") == [3, 4]
    for t in (constant(np.ones(shape, np.int64)), input_tensor("x", i64, shape)):
        with pytest.raises(Fail, match="pads must be in a tensor of one axis"):
            listed(t, "pads")


@pytest.mark.parametrize("shape", [(0,), (2,), (1, 3)])
def test_one_number_is_in_a_tensor_of_one_element(shape: tuple[int, ...]) -> None:
    assert [only(constant(np.full(s, 5)), "k") for s in ((), (1,), (1, 1))] == [5] * 3
    assert isinstance(only(input_tensor("x", i64, (1,)), "k"), Int)
    for t in (constant(np.ones(shape, np.int64)), input_tensor("x", i64, shape)):
        with pytest.raises(Fail, match="k must be one number"):
            only(t, "k")
