"""Budgets end what takes too long, or becomes too much; sessions say so."""

from __future__ import annotations

import time

import numpy as np
import pytest
from onnx import helper

import sardonyx
from sardonyx.base import budget
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, symbol


def work(seconds: float) -> None:
    """Uses the processor for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_time_is_the_threads_own() -> None:
    with budget.seconds(0.05):
        time.sleep(0.2)
        budget.check("sleeping")
        work(0.1)
        with pytest.raises(budget.OverBudget, match="while working"):
            budget.check("working")
    budget.check("outside")


def test_the_tighter_of_two_holds() -> None:
    with budget.seconds(0.0), budget.seconds(60.0):
        work(0.01)
        with pytest.raises(budget.OverBudget):
            budget.check("inside")


def test_work_looks_at_the_clock() -> None:
    """Not at each unit, but after a bounded number of them, however large the pieces are."""

    def add(units: int) -> None:
        for _ in range(budget.UNITS_PER_CHECK // units + 2):
            budget.work(units, "adding")

    for units in (1, 100, 10**9):
        with budget.seconds(-1.0), pytest.raises(budget.OverBudget, match="while adding"):
            add(units)
        add(units)


def test_long_formulas_are_ended() -> None:
    """By the functions of formulas themselves: nobody else looks at the clock in between."""

    def square(x: Dim, times: int) -> None:
        for _ in range(times):
            x = x * x

    start = time.thread_time()
    with budget.seconds(0.2), pytest.raises(budget.OverBudget):
        square(sum((symbol(f"d{n}") for n in range(30)), start=symbol("d")), 30)
    assert time.thread_time() - start < 5.0


def test_values_are_counted() -> None:
    budget.spend(10**9)
    with budget.values(3):
        budget.spend(3)
        with pytest.raises(Unsupported):
            budget.spend()


def test_loading_a_session_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only a later stage is slow; nothing is left to another provider then."""
    node = helper.make_node("Exp", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, 1, ["n"]) for name in "xy")
    data = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    monkeypatch.setattr(budget, "LOAD_SECONDS", -1.0)
    with pytest.raises(Fail, match="takes too long"):
        sardonyx.InferenceSession(data.SerializeToString())
    monkeypatch.undo()
    assert sardonyx.InferenceSession(data.SerializeToString()).run(None, {"x": np.zeros(2, np.float32)})[0].shape == (2,)
