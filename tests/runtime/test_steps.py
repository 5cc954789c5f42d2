"""Steps as rows, and as the table that is walked."""

from __future__ import annotations

from sardonyx.runtime import abi
from sardonyx.runtime.steps import CallStep, LoopStep, PlanStep, rows, table

NUMBERS = {"first": 0, "second": 1}
END = (abi.END, 0, 0, 0)
BARRIER = (abi.BARRIER, 0, 0, 0)


def test_calls():
    steps = [CallStep("second", 50), CallStep("first", 60, True, 70, 4)]
    assert rows(steps, NUMBERS) == ((1, 50, 2, 0), (0, 60, 9, 70), END)


def test_calls_that_one_thread_does_are_counted():
    alone = [CallStep("first", 50 + i, barrier=i == 3, chunks=0) for i in range(5)]
    found = rows([*alone, CallStep("second", 60), alone[0], LoopStep(51, (52,), None, (alone[0],))], NUMBERS)
    calls = [how >> abi.COUNT_BITS for what, _, how, _ in found if what == NUMBERS["first"]]
    assert calls == [3, 2, 1, 2, 1, 1, 1]


def test_a_repetition():
    repeat = LoopStep(51, (52, 53), 54, (CallStep("first", 60),))
    assert rows([repeat], NUMBERS) == (
        BARRIER,
        (abi.CLEAR, 52, 0, 0),
        (abi.CLEAR, 53, 0, 0),
        (abi.WHILE, 52, 51, 54),
        (abi.JUMP, 12, 0, 0),
        (0, 60, 2, 0),
        BARRIER,
        (abi.COUNT, 52, 0, 0),
        (abi.COUNT, 53, 0, 0),
        (abi.WHILE, 52, 51, 54),
        (abi.JUMP, 12, 0, 0),
        (abi.JUMP, 5, 0, 0),
        END,
    )


def test_a_plan_between_calls():
    """One thread calls it, apart from the calls around it; then all meet."""
    alone = CallStep("first", 60, chunks=0)
    repeat = LoopStep(51, (52,), None, (PlanStep("second"), alone))
    found = rows([repeat, alone], NUMBERS)
    assert found[4:7] == ((1, abi.NOTHING, 1 << abi.COUNT_BITS, 0), BARRIER, (0, 60, 1 << abi.COUNT_BITS, 0))


def test_a_plan_is_no_part_of_a_group():
    alone = CallStep("first", 60, chunks=0)
    found = rows([alone, PlanStep("second"), alone, alone], NUMBERS)
    assert [how >> abi.COUNT_BITS for what, _, how, _ in found if what >= 0] == [1, 1, 2, 1]


def test_the_table_has_addresses():
    made = table([(1, 50, 0, 0), (0, 60, 1, 70), END], [4096, 8192])
    assert made.tolist() == [[8192, 50, 0, 0], [4096, 60, 1, 70], [abi.END, 0, 0, 0]]
    assert made.nbytes == 3 * abi.ROW_BYTES
