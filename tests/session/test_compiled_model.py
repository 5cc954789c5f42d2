"""Plans: what runs for which outputs, the short way, and whose arrays are given out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import Fail
from sardonyx.providers.base import Executable
from sardonyx.session.compiled_model import CompiledModel, ModelStep, lifetimes
from sardonyx.session.options import RunOptions


class Recorded(Executable):
    """Calls a function and counts. again: may it take the short way?"""

    def __init__(self, function: Callable[..., list[Any]], again: bool = False) -> None:
        self.function, self.short = function, again
        self.runs = self.repeats = 0
        self.closed = False

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        self.runs += 1
        return self.function(*inputs)

    def replay(self, inputs: list[Any]) -> list[Any] | None:
        if not self.short:
            return None
        self.repeats += 1
        return self.function(*inputs)

    def describe(self) -> str:
        return "recorded"

    def close(self) -> None:
        self.closed = True


X = np.arange(3.0)


def chain(*short: bool) -> tuple[CompiledModel, list[Recorded]]:
    """a = x + 1, b = 2 x;  c = a b d;  e = -x"""
    made = [
        Recorded(lambda x: [x + 1, 2 * x], short[0]),
        Recorded(lambda a, b, d: [a * b * d], short[1]),
        Recorded(lambda x: [-x], short[2]),
    ]
    names = (("x",), ("a", "b")), (("a", "b", "d"), ("c",)), (("x",), ("e",))
    steps = tuple(ModelStep("p", e, *io) for e, io in zip(made, names, strict=True))
    return CompiledModel(("x",), ("c", "e"), {"d": np.array(10.0)}, steps), made


@pytest.mark.parametrize("short", [(False, False, False), (True, False, True), (True, True, True), (False, True, False)])
def test_steps_run_in_order_by_the_short_way_where_there_is_one(short: tuple[bool, ...]):
    program, made = chain(*short)
    plan = program.plan(("c", "e"))
    found = plan.replay({"x": X})
    assert (found is None) == (not short[0])
    if found is None:
        found = plan.run([X], QUIET)
    np.testing.assert_array_equal(found[0], (X + 1) * 2 * X * 10)
    np.testing.assert_array_equal(found[1], -X)
    assert [(e.runs, e.repeats) for e in made] == [(0, 1) if s else (1, 0) for s in short]


def test_steps_that_are_not_needed_are_left_out():
    program, made = chain(False, False, False)
    np.testing.assert_array_equal(program.plan(("e",)).run([X], QUIET)[0], -X)
    assert [e.runs for e in made] == [0, 0, 1]
    assert program.values() == {"x", "a", "b", "c", "d", "e"}
    program.close()
    assert all(e.closed for e in made)


def test_missing_and_further_feeds_are_not_taken_the_short_way():
    plan = chain(True, True, True)[0].plan(("c",))
    assert plan.replay({}) is None
    assert plan.replay({"y": X}) is None
    assert plan.replay({"x": X, "d": X}) is None


def test_a_default_is_overridden_for_one_run():
    plan = chain(False, False, False)[0].plan(("c", "d"))
    c, d = plan.run([X], QUIET, {"d": np.array(3.0)})
    np.testing.assert_array_equal(c, (X + 1) * 2 * X * 3)
    assert d == 3
    assert plan.run([X], QUIET)[1] == 10


def test_inputs_and_constants_that_are_outputs_are_copied():
    plan = chain(False, False, False)[0].plan(("x", "d", "x"))
    fed = X.copy()
    x, d, again = plan.run([fed], QUIET)
    x[:] = d[...] = 99
    np.testing.assert_array_equal(again, X)
    np.testing.assert_array_equal(fed, X)
    assert plan.run([X], QUIET)[1] == 10


def test_a_run_that_is_to_end_ends_between_steps():
    program, made = chain(False, False, False)
    options = RunOptions()
    program.steps[0].executable.function = lambda x: [setattr(options, "terminate", True) or x, x]  # type: ignore[attr-defined]
    with pytest.raises(Fail, match="terminate"):
        program.plan(("c",)).run([X], RunContext(options))
    assert made[1].runs == 0


def test_values_are_let_go_after_their_last_reader():
    program, _ = chain(False, False, False)
    assert [set(names) for names in lifetimes(program.steps, ("c", "e"))] == [set(), {"a", "b"}, set()]
