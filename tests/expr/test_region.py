"""Repeated bodies as tensors: what they refuse, what they require, in which order things stand; and what they mean in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, f32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Symbol, minimum, symbol, value
from sardonyx.expr import require
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.region import ENDLESS, choose, scan, while_loop
from sardonyx.expr.require import require_equal
from sardonyx.expr.scalar import apply, cast, index
from sardonyx.expr.tensor import Read, Tensor, compute, constant, input_tensor, operands
from sardonyx.ops.pointwise import add, view

N = symbol("n")
X = input_tensor("x", f32, [N])
FLAG = input_tensor("flag", boolean, [])
NUMBERS = np.array([3, -1, 2], np.float32)


def below(t: Dim, limit: int) -> Tensor:
    return compute(boolean, (), lambda: apply("lt", index(t + 1), index(limit)))


def filled(n: Dim) -> Tensor:
    return compute(f32, [n], lambda i: cast(index(1), f32))


def test_scan_means_state_that_goes_round_and_rows_that_stay() -> None:
    (final,), (rows,) = scan(4, [X], lambda t, s: ([add(s, s)], [s]))
    got = evaluate([final, rows], {X: NUMBERS}, {Symbol("n"): 3})
    np.testing.assert_array_equal(got[0], NUMBERS * 16)
    np.testing.assert_array_equal(got[1], NUMBERS * np.array([[1], [2], [4], [8]], np.float32))


@pytest.mark.parametrize("flag", [True, False])
def test_while_means_as_long_as_its_condition_holds(flag: bool) -> None:
    (final,), _, count = while_loop(9, FLAG, [X], lambda t, s: ([below(t, 3), add(s, s)], []))
    got = evaluate([final, count], {X: NUMBERS, FLAG: np.array(flag)}, {Symbol("n"): 3})
    np.testing.assert_array_equal(got[0], NUMBERS * (8 if flag else 1))
    assert got[1] == (3 if flag else 0)


@pytest.mark.parametrize("flag", [True, False])
def test_choose_means_one_of_two(flag: bool) -> None:
    (y,) = choose(FLAG, lambda: [add(X, X)], lambda: [view(X, [N], lambda i: (N - 1 - i,))], lambda x, _: x.shape)
    (got,) = evaluate([y], {X: NUMBERS, FLAG: np.array(flag)}, {Symbol("n"): 3})
    np.testing.assert_array_equal(got, NUMBERS * 2 if flag else NUMBERS[::-1])


def test_a_state_of_another_dtype_is_wrong() -> None:
    with pytest.raises(Fail, match="begins as x"):
        scan(3, [X], lambda t, s: ([compute(i64, [N], lambda i: index(i))], []))


def test_a_state_of_another_shape_has_no_compiled_form() -> None:
    with pytest.raises(Unsupported, match="begins as x"):
        scan(3, [X], lambda t, s: ([filled(N + 1)], []))


def test_nor_has_a_part_of_the_state_itself() -> None:
    """Its first elements, at their own indices: as many as there are iterations so far, or always two."""
    for size in (lambda t: minimum(t + 1, N), lambda t: minimum(N, 2)):
        with pytest.raises(Unsupported, match="begins as x"):
            scan(3, [X], lambda t, s: ([compute(f32, [size(t)], lambda i: Read(s, (i,)))], []))  # noqa: B023


@pytest.mark.parametrize("condition", [X, input_tensor("flags", boolean, [1])])
def test_conditions_are_bool_scalars(condition: Tensor) -> None:
    with pytest.raises(Fail, match="a condition must be a bool scalar, not"):
        while_loop(3, condition, [], lambda t: ([FLAG], []))
    with pytest.raises(Fail, match="a condition must be a bool scalar, not"):
        while_loop(3, FLAG, [], lambda t: ([condition], []))
    with pytest.raises(Fail, match="a condition must be a bool scalar, not"):
        choose(condition, lambda: [X], lambda: [X], lambda x, _: x.shape)


def test_rows_must_have_the_shape_of_the_first() -> None:
    with require.collect() as requirements:
        _, (rows,) = scan(3, [], lambda t: ([], [filled(minimum(t + 2, N))]))
    assert rows.shape == (3, minimum(2, N))
    (required,) = [r for r in requirements if r.relation == "zero"]
    assert any(s.extent == 3 for s in required.dim.symbols)  # type: ignore[union-attr]


def test_a_tensor_that_grows_for_ever_has_no_compiled_form() -> None:
    def step(size: Dim):
        return lambda t, s: ([FLAG, add(s, view(filled(t + 1), s.shape, lambda i: (0,)))], []) if size is None else ([FLAG, s], [])

    with pytest.raises(Unsupported, match="grows with the iterations"):
        while_loop(ENDLESS, FLAG, [X], step(None))  # type: ignore[arg-type]
    while_loop(5, FLAG, [X], step(None))  # type: ignore[arg-type]
    while_loop(ENDLESS, FLAG, [X], lambda t, s: ([FLAG, add(s, view(filled(minimum(t + 1, N)), s.shape, lambda i: (0,)))], []))


def test_what_a_branch_requires_holds_for_it_alone() -> None:
    def then() -> list[Tensor]:
        require_equal(N, 4, "four")
        return [X]

    with require.collect() as requirements:
        (y,) = choose(FLAG, then, lambda: [X], lambda x, _: x.shape)
    assert y.region is not None
    (found,) = [r for r in requirements if r.text == "four"]
    first, second = y.region.both
    assert found.branch == first.step != second.step


def test_a_branch_can_rely_on_what_it_requires_itself_and_no_other_can() -> None:
    relied: list[bool] = []

    def branch(states: bool):
        def body() -> list[Tensor]:
            if states:
                require.require_nonnegative(N - 4, "at least four")
            relied.append(require.is_required_nonnegative(N - 4))
            return [X]

        return body

    with require.collect():
        choose(FLAG, branch(True), branch(False), lambda x, _: x.shape)
        relied.append(require.is_required_nonnegative(N - 4))
    assert relied == [True, False, False]


def test_a_region_stands_after_its_body_and_before_its_results() -> None:
    made: list[Tensor] = []

    def step(t: Dim, s: Tensor):
        made.append(add(s, s))
        return [made[-1]], [s]

    (final,), (rows,) = scan(3, [X], step)
    region = final.region
    assert region is not None
    assert region.made is not None
    assert region.made[0] < region.carried[0].state.id < made[0].id < region.at < min(final.id, rows.id)


def test_results_are_made_of_both_branches_and_their_condition() -> None:
    one, other = add(X, X), view(X, [N], lambda i: (N - 1 - i,))
    (y,) = choose(FLAG, lambda: [one], lambda: [other], lambda x, _: x.shape)
    assert {one, other, FLAG} <= set(operands(y))


def test_inside_a_loop_a_branch_is_evaluated_at_each_iteration() -> None:
    """Even iterations add x, odd ones take the sum away."""

    def step(t: Dim, s: Tensor):
        even = compute(boolean, (), lambda: apply("eq", index(t % 2), index(0)))
        return choose(even, lambda: [add(s, X)], lambda: [add(s, constant(np.float32(-1).reshape(1)))], lambda x, _: s.shape), []

    (final,), _ = scan(5, [X], step)
    (got,) = evaluate([final], {X: NUMBERS}, {Symbol("n"): 3})
    np.testing.assert_array_equal(got, NUMBERS * 4 - 2)
    assert value(Symbol("n")) == N


# ---- states that no iteration changes ---------------------------------------------------------------------------------------


def named_anew(x: Tensor) -> Tensor:
    return compute(x.dtype, x.shape, lambda *i: Read(x, i))


def test_a_state_that_no_iteration_changes_is_not_carried() -> None:
    """As tf2onnx writes loops, which hand weights on from iteration to iteration."""
    x, w = input_tensor("x", f32, (3,)), input_tensor("w", f32, (3,))
    finals, (rows,) = scan(5, [x, w], lambda t, h, k: ([add(h, k), named_anew(named_anew(k))], [k]))
    assert rows.region is not None
    assert len(rows.region.carried) == 1
    assert finals[1] is w
    feeds = {x: np.arange(3, dtype=np.float32), w: np.ones(3, np.float32)}
    got = evaluate([*finals, rows], feeds, {})
    np.testing.assert_array_equal(got[0], [5, 6, 7])
    np.testing.assert_array_equal(got[1], np.ones(3))
    np.testing.assert_array_equal(got[2], np.ones((5, 3)))


def test_so_is_one_that_an_inner_loop_hands_back() -> None:
    w = input_tensor("w", f32, (3,))

    def outer(t: Dim, h: Tensor, k: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        (inner_h, inner_k), _ = scan(2, [h, k], lambda u, a, b: ([add(a, b), b], []))
        return [inner_h, inner_k], []

    finals, _ = scan(3, [w, w], outer)
    assert finals[1] is w
    np.testing.assert_array_equal(evaluate(finals[:1], {w: np.ones(3, np.float32)}, {})[0], np.full(3, 7))


@pytest.mark.parametrize(
    "change",
    [
        lambda a, b: [b, a],  # two that change places
        lambda a, b: [a, compute(b.dtype, b.shape, lambda i: Read(b, (2 - i,)))],  # one that is turned round
        lambda a, b: [a, compute(b.dtype, b.shape, lambda i: Read(b, (0,)))],  # its first element everywhere
    ],
)
def test_others_are_carried(change: object) -> None:
    x, y = input_tensor("x", f32, (3,)), input_tensor("y", f32, (3,))
    finals, _ = scan(3, [x, y], lambda t, a, b: (change(a, b), []))  # type: ignore[operator]
    assert any(f.region is not None for f in finals)
    feeds = {x: np.array([1, 2, 3], np.float32), y: np.array([4, 5, 6], np.float32)}
    a, b = feeds[x], feeds[y]
    for _ in range(3):
        old = input_tensor("a", f32, (3,)), input_tensor("b", f32, (3,))
        a, b = evaluate(change(*old), dict(zip(old, (a, b), strict=True)), {})  # type: ignore[operator]
    for got, expected in zip(evaluate([named_anew(f) for f in finals], feeds, {}), (a, b), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_while_loop_does_not_carry_it_either() -> None:
    x, w = input_tensor("x", f32, ()), input_tensor("w", f32, ())
    finals, _, count = while_loop(9, FLAG, [x, w], lambda t, h, k: ([below(t, 3), add(h, k), k], []))
    assert finals[1] is w
    got = evaluate([finals[0], count], {x: np.array(0, np.float32), w: np.array(2, np.float32), FLAG: np.array(True)}, {})
    assert [float(g) for g in got] == [6.0, 3.0]
