"""Repeated bodies: state that goes round, stacks, early ends, loops in loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sardonyx.base.dtypes import i64
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import elements
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.lower.schedule import Repeat
from sardonyx.ops import linalg, movement, pointwise, softmax
from sardonyx.ops.pointwise import add, along, mul, sub, view
from tests.lower.harness import Compiled, compiled, integers, reals

Results = tuple[list[Tensor], list[Tensor]]
TURNS = (0, 1, 2, 5)


def limited(x: Tensor) -> Tensor:
    return pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, -4), 4), x)


def everything(results: Results) -> list[Tensor]:
    return [*results[0], *results[1]]


def turn_of(x: Tensor, t: Dim) -> Tensor:
    return view(x, x.shape[1:], lambda *i: (t, *i))


def repeats(program: Compiled) -> list[Repeat]:
    return [s for segment in program.lowered.segments for s in segment.steps if isinstance(s, Repeat)]


def test_a_sum_that_goes_round() -> None:
    def totals(x: Tensor, h: Tensor) -> list[Tensor]:
        finals, stacks = scan(x.shape[0], [h], lambda t, s: ([add(s, turn_of(x, t))], [s]))
        return [*finals, *stacks]

    program = compiled(totals, "f32[t, m]", "f32[m]")
    for t in TURNS:
        for m in (0, 1, 17):
            program.check(reals(t, m), reals(m))


def test_stacks_without_state() -> None:
    def rows(x: Tensor) -> list[Tensor]:
        return scan(x.shape[0], [], lambda t: ([], [softmax.softmax_over(turn_of(x, t), [0])]))[1]

    program = compiled(rows, "f32[t, n]")
    for t in TURNS:
        program.check(reals(t, 9))


def test_states_that_change_places() -> None:
    """a, b = b, a + b: each update is what it was before any state moved on."""
    program = compiled(lambda x, y: scan(5, [x, y], lambda t, a, b: ([b, limited(add(a, b))], [a]))[0], "f32[m]", "f32[m]")
    for m in (1, 5, 40):
        program.check(reals(m), reals(m, seed=1))


def test_states_that_read_each_other_everywhere() -> None:
    """a' reads all of b, b' all of a: neither is overwritten before both are computed."""

    def step(t: Dim, a: Tensor, b: Tensor) -> Results:
        return [limited(add(a, along("add", b, [0]))), limited(sub(b, along("max", a, [0])))], []

    program = compiled(lambda a, b: scan(4, [a, b], step)[0], "f32[m]", "f32[m]")
    for m in (1, 5, 40):
        program.check(reals(m), reals(m, seed=1))


def test_nothing_is_copied_in_a_step() -> None:
    """Two states, the second made on the way to the first, and a stack: one kernel writes all three."""

    def step(t: Dim, h: Tensor, c: Tensor) -> Results:
        new = limited(add(linalg.matmul(h, w), c))
        out = limited(mul(new, h))
        return [out, new], [out]

    w = constant(reals(16, 16, seed=3), "w")
    program = compiled(lambda h, c: everything(scan(3, [h, c], step)), "f32[m, 16]", "f32[m, 16]")
    (repeat,) = repeats(program)
    assert len(repeat.steps) == 1
    for m in (0, 1, 9):
        program.check(reals(m, 16), reals(m, 16, seed=1), tolerance=1e-5)


@pytest.mark.parametrize("read", ["backwards", "rotated", "transposed"])
def test_a_state_read_elsewhere_than_where_it_is_written(read: str) -> None:
    def step(t: Dim, s: Tensor) -> Results:
        n = s.shape[0]
        moved = {
            "backwards": lambda: view(s, s.shape, lambda i, j: (n - 1 - i, j)),
            "rotated": lambda: compute(s.dtype, s.shape, lambda i, j: at(s, ((i + 1) % n, j))),
            "transposed": lambda: linalg.transpose(s),
        }[read]()
        return [limited(add(moved, s))], []

    program = compiled(lambda s: scan(3, [s], step)[0], "f32[n, n]")
    for n in (1, 2, 5, 17):
        program.check(reals(n, n))


def test_a_state_that_is_read_by_data() -> None:
    """Elimination steps read rows of the state that data choose."""

    def step(t: Dim, s: Tensor) -> Results:
        chosen = pointwise.cast(along("max", pointwise.pointwise(lambda e: scalar.apply("abs", e), s), [0]), i64)
        row = view(s, s.shape, lambda i: (element(scalar.apply("mod", at(chosen, (0,)), scalar.index(s.shape[0])), s.shape[0]),))
        return [limited(sub(s, row))], []

    program = compiled(lambda s: scan(3, [s], step)[0], "f32[n]")
    for n in (1, 4, 33):
        program.check(reals(n))


def test_a_state_that_stays_and_one_from_outside() -> None:
    program = compiled(lambda x, y, z: scan(3, [x, y], lambda t, a, b: ([a, z], [add(a, b)]))[0], "f32[m]", "f32[m]", "f32[m]")
    program.check(reals(5), reals(5, seed=1), reals(5, seed=2))


def test_recurrence_with_a_product() -> None:
    def step(x: Tensor, r: Tensor) -> Callable[[Dim, Tensor], Results]:
        return lambda t, h: ([limited(add(linalg.matmul(h, r), turn_of(x, t)))], [h])

    for b in ("b", "1"):
        program = compiled(
            lambda x, h, r: everything(scan(x.shape[0], [h], step(x, r))), f"f32[t, {b}, 24]", f"f32[{b}, 24]", reals(24, 24)
        )
        for t in TURNS:
            for rows in (1,) if b == "1" else (0, 1, 5):
                program.check(reals(t, rows, 24), reals(rows, 24))


def test_what_does_not_change_is_computed_before() -> None:
    """x w for all turns is one product outside."""

    def net(x: Tensor, w: Tensor, h: Tensor) -> list[Tensor]:
        y = linalg.matmul(x, w)
        return scan(x.shape[0], [h], lambda t, s: ([limited(add(s, turn_of(y, t)))], []))[0]

    program = compiled(net, "f32[t, b, 8]", reals(8, 20), "f32[b, 20]")
    (repeat,) = repeats(program)
    assert program.inputs[0] not in repeat.reads
    for t in TURNS:
        program.check(reals(t, 3, 8), reals(3, 20))


def test_a_loop_in_a_loop() -> None:
    def outer(x: Tensor, h: Tensor) -> list[Tensor]:
        def inner(t: Dim) -> Callable[[Dim, Tensor], Results]:
            return lambda u, s: ([limited(add(s, view(x, x.shape[2:], lambda *i: (t, u, *i))))], [s])

        def step(t: Dim, s: Tensor) -> Results:
            finals, stacks = scan(x.shape[1], [s], inner(t))
            return [limited(add(finals[0], s))], [*finals, *stacks]

        finals, stacks = scan(x.shape[0], [h], step)
        return [*finals, *stacks]

    program = compiled(outer, "f32[a, b, m]", "f32[m]")
    for a, b, m in ((1, 1, 1), (2, 3, 5), (0, 2, 2), (2, 0, 2), (3, 2, 17)):
        program.check(reals(a, b, m), reals(m))


def test_two_loops_after_each_other() -> None:
    def both(x: Tensor, h: Tensor) -> list[Tensor]:
        (first,), (stack,) = scan(x.shape[0], [h], lambda t, s: ([limited(add(s, turn_of(x, t)))], [s]))
        return scan(x.shape[0], [first], lambda t, s: ([limited(sub(s, turn_of(stack, x.shape[0] - 1 - t)))], []))[0]

    program = compiled(both, "f32[t, m]", "f32[m]")
    for t in TURNS:
        program.check(reals(t, 5), reals(5))


def test_a_number_of_turns_that_data_decide() -> None:
    def run(n: Tensor, x: Tensor) -> list[Tensor]:
        finals, stacks = scan(elements(n)[0], [x], lambda t, s: ([limited(add(s, s))], [s]))
        return [*finals, *stacks]

    program = compiled(run, "i64[1]", "f32[m]")
    for t in TURNS:
        program.check(np.array([t]), reals(5))


def test_stacks_are_read_by_what_follows() -> None:
    def net(x: Tensor, w: Tensor) -> Tensor:
        stacks = scan(x.shape[0], [], lambda t: ([], [mul(turn_of(x, t), turn_of(x, t))]))[1]
        return linalg.matmul(stacks[0], w)

    program = compiled(net, "f32[t, 8]", reals(8, 20))
    for t in TURNS:
        program.check(reals(t, 8))


def test_one_result_of_a_step_is_state_and_stack_and_output() -> None:
    def run(x: Tensor, h: Tensor) -> Sequence[Tensor]:
        def step(t: Dim, s: Tensor) -> Results:
            new = limited(add(s, turn_of(x, t)))
            return [new], [new, new]

        finals, stacks = scan(x.shape[0], [h], step)
        return [*finals, *stacks, stacks[0], linalg.transpose(stacks[1])]

    program = compiled(run, "f32[t, m]", "f32[m]")
    for t in TURNS:
        program.check(reals(t, 5), reals(5))


def test_parts_and_wholes_inside_a_step() -> None:
    def run(x: Tensor, h: Tensor) -> Sequence[Tensor]:
        def step(t: Dim, s: Tensor) -> Results:
            both = movement.concat(s, turn_of(x, t), axis=0)
            return [limited(view(both, s.shape, lambda i: (i + 1,)))], [both]

        finals, stacks = scan(x.shape[0], [h], step)
        return [*finals, *stacks]

    program = compiled(run, "f32[t, m]", "f32[m]")
    for t in TURNS:
        for m in (1, 2, 17):
            program.check(reals(t, m), reals(m))


def test_integers_and_bools_as_state() -> None:
    def step(t: Dim, n: Tensor, b: Tensor) -> Results:
        more = pointwise.pointwise(lambda e: scalar.add(e, 1), n)
        flipped = pointwise.pointwise(lambda e: scalar.apply("not", e), b)
        return [more, flipped], [pointwise.pointwise(lambda e: scalar.add(e, scalar.index(t)), n)]

    program = compiled(lambda n, b: everything(scan(4, [n, b], step)), "i64[m]", "bool[m]")
    program.check(integers(3), np.array([True, False, True]))


def test_a_state_made_of_weights() -> None:
    program = compiled(
        lambda x: scan(x.shape[0], [constant(reals(4))], lambda t, s: ([limited(add(s, turn_of(x, t)))], []))[0], "f32[t, 4]"
    )
    for t in TURNS:
        program.check(reals(t, 4))
