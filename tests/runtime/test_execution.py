"""Contexts of runs that a worker has not left: not used again, not given up."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

from sardonyx.base.context import RunContext
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.expr.tensor import Tensor
from sardonyx.ops import linalg
from sardonyx.runtime import abi
from sardonyx.runtime.abi import OVERFLOW
from tests.lower.harness import Compiled, compiled, reals
from tests.runtime.objects import wait_for

X, W = reals(96, 64), reals(64, 96)


def product() -> Compiled:
    def build(x: Tensor, w: Tensor) -> Tensor:
        return linalg.matmul(x, w)

    return compiled(build, "f32[m, 64]", W)


def leave_later(slots: memoryview[int]) -> threading.Thread:
    def leave() -> None:
        time.sleep(0.1)
        slots[abi.INSIDE] = 0

    thread = threading.Thread(target=leave)
    thread.start()
    return thread


def test_a_context_is_not_used_while_a_worker_is_inside() -> None:
    program = product().program
    program.run([X], 1)
    (first,) = program.idle
    first.slots[abi.INSIDE] = 1
    for _ in range(3):
        np.testing.assert_array_equal(program.run([X], 1)[0], X @ W)
    first_again, other = sorted(program.idle, key=lambda c: c is not first)
    assert first_again is first
    np.testing.assert_array_equal(program.replay([X], 1)[0], X @ W)  # type: ignore[index]
    other.slots[abi.INSIDE] = 1
    assert program.replay([X], 1) is None
    first.slots[abi.INSIDE] = other.slots[abi.INSIDE] = 0
    program.run([X], 1)
    assert {*program.idle} == {first, other}


@pytest.mark.parametrize("end", ["closed", "collected", "without contexts"])
def test_memory_stays_until_the_last_worker_has_left(end: str) -> None:
    made = product()
    made.program.run([X], 1)
    slots = made.program.idle[0].slots
    slots[abi.INSIDE] = 1
    thread = leave_later(slots)
    if end == "closed":
        made.program.close()
    elif end == "collected":
        gone = weakref.ref(made.program)
        del made
        gc.collect()
        assert gone() is None
    else:
        made.program.idle.clear()
    assert slots[abi.INSIDE] == 0
    thread.join()


def test_a_forked_child_waits_for_nobody() -> None:
    program = product().program
    program.run([X], 2)
    program.idle[0].slots[abi.INSIDE] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            right = np.array_equal(program.run([X], 2)[0], X @ W)
            program.close()
            status = 0 if right else 2
        finally:
            os._exit(status)
    assert wait_for(child) == 0
    program.idle[0].slots[abi.INSIDE] = 0


def test_more_threads_get_words_for_what_they_take() -> None:
    program = product().program
    for threads in (2, 1, 4, 3, 2):
        np.testing.assert_array_equal(program.run([X], threads)[0], X @ W)
        program.idle[0].await_leaving()
    (context,) = program.idle
    assert context.claims.size == 5 * abi.CLAIM_BYTES
    assert context.slots[abi.CLAIMS] == context.claims.ctypes.data


def test_no_kernel_runs_after_a_plan_that_failed() -> None:
    """In a run and in a replay: the status is looked at before a kernel sees an address."""
    program = product().program
    plan, fails = program.plans[0], False
    out = np.zeros((96, 96), np.float32)

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def planned(context: int) -> None:
        plan(context)
        ctypes.c_int64.from_address(context + abi.STATUS * abi.SLOT_BYTES).value = OVERFLOW if fails else 0

    program.plans[0], program.plan_at = planned, ctypes.cast(planned, ctypes.c_void_p).value or 0
    program.empty = [lambda shape, dtype: out]
    program.run([X], 1)
    program.replay([X], 1)
    np.testing.assert_array_equal(out, X @ W)
    out[:], fails = 7, True
    for run in (program.replay, program.run):  # the second has no replay any longer
        with pytest.raises(Fail, match="overflows"):
            run([X], 1)
        assert (out == 7).all()


def test_a_run_under_way_outlives_its_program() -> None:
    """Closing takes nothing from a run: its constants and arenas go when it ends, and no run begins afterwards."""
    program = product().program
    constants = [weakref.ref(c) for c in program.constants]
    asked: list[bool] = []

    class Closing(RunContext):
        def check(self) -> None:
            program.close()
            asked.append(True)

    np.testing.assert_array_equal(program.run([X], 1, Closing())[0], X @ W)
    assert asked
    assert program.idle == []
    assert [c() for c in constants] == [None] * len(constants)
    with pytest.raises(InvalidArgument, match=r"The session is closed\."):
        program.run([X], 1)
    assert program.replay([X], 1) is None
    program.close()


def test_memory_that_is_not_there_is_a_failure() -> None:
    def build(x: Tensor) -> Tensor:
        return linalg.matmul(x, x)

    def fail(size: int) -> None:
        raise MemoryError(f"{size} bytes")

    program = compiled(build, "f32[m, m]").program
    for pool in program.arenas:
        pool.borrow = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(Fail, match=r"no memory for intermediate values of \d+ bytes"):
        program.run([reals(500, 500)], 1)
