"""Contexts of runs that a worker has not left: not used again, not given up."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

from sardonyx.expr.tensor import Tensor
from sardonyx.ops import linalg
from sardonyx.runtime import abi
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
    np.testing.assert_array_equal(program.again([X], 1)[0], X @ W)  # type: ignore[index]
    other.slots[abi.INSIDE] = 1
    assert program.again([X], 1) is None
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
