"""The walk along a segment's steps: calls in order, scratch per thread, barriers, repetition, cycles."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, f32, i64
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen.compile import compile_kernel, compile_module
from sardonyx.codegen.features import host
from sardonyx.codegen.team import emit_team
from sardonyx.loop.nodes import Alloc, Buffer, Const, For, Index, Kernel, Load, Op, Seq, Store
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from sardonyx.runtime.steps import CallStep, RepeatStep, RunStep, rows, table
from tests.codegen.harness import Array, aligned

FREE = abi.FIRST_SLOT
N = Symbol("n")
n = value(N)
AT = Symbol("i", n)
i = value(AT)
X, Y = Buffer("x", f32), Buffer("y", f32)
SCRATCH = Buffer("s", f32, "scratch")

# y = x, backwards; x += 1 through scratch
REVERSE = Kernel("reverse", (X, Y), (N,), For(AT, 0, n, "parallel", Store(Y, i, Load(X, n - 1 - i))))
MORE = Alloc(SCRATCH, 4, Seq((Store(SCRATCH, 3, Load(X, i)), Store(X, i, Op("add", Load(SCRATCH, 3), Const(1.0, f32))))))
COUNT_UP = Kernel("count_up", (X,), (N,), For(AT, 0, n, "parallel", MORE))


def context(slots: int = 32) -> Array:
    return aligned(8 * (FREE + slots)).view(np.int64)


def run(steps: list[RunStep], kernels: list[Kernel], slots: Array, threads: int) -> None:
    """Walks along the steps on so many threads."""
    image = load(link([*(compile_kernel(k, host()) for k in kernels), compile_module(emit_team(host().triple), host())]))
    walk = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(image.address("walk"))
    numbers = {k.name: number for number, k in enumerate(kernels)}
    scratch, walked = aligned(64 * threads), table(rows(steps, numbers), [image.address(name) for name in numbers])
    slots[abi.SCRATCH], slots[abi.SCRATCH_BYTES], slots[abi.STEPS] = scratch.ctypes.data, 64, walked.ctypes.data
    team = [threading.Thread(target=walk, args=(slots.ctypes.data, tid, threads)) for tid in range(threads)]
    for t in team:
        t.start()
    for t in team:
        t.join()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_and_barriers(threads: int) -> None:
    """Forwards, backwards, forwards: each call reads what other threads have written in the one before."""
    steps: list[RunStep] = [CallStep("count_up", FREE), CallStep("reverse", FREE + 4, True), CallStep("reverse", FREE + 8, True)]
    x, y, z = (np.arange(1000, dtype=np.float32) for _ in range(3))
    slots = context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 1000
    slots[FREE + 4 : FREE + 8] = 1, x.ctypes.data, y.ctypes.data, 1000
    slots[FREE + 8 : FREE + 12] = 2, y.ctypes.data, z.ctypes.data, 1000
    run(steps, [REVERSE, COUNT_UP], slots, threads)
    np.testing.assert_array_equal(y, np.arange(1000)[::-1] + 1)
    np.testing.assert_array_equal(z, np.arange(1000) + 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("trip", "limit", "want"), [(0, 99, 0), (5, 99, 5), (7, 3, 4)])
def test_repetition(threads: int, trip: int, limit: int, want: int) -> None:
    """Until the trip count, or until a flag that the body computes is False; nested: twice each time."""
    flag, turn = Buffer("flag", boolean), Symbol("t")
    decide = Kernel("decide", (flag,), (turn, N), Store(flag, 0, Op("lt", Index(value(turn)), Index(n))))
    again, inner, outer, address = FREE + 10, FREE + 11, FREE + 12, FREE + 13
    twice = RepeatStep(again, (inner,), None, (CallStep("count_up", FREE),))
    body = (CallStep("reset", FREE + 20), twice, CallStep("decide", FREE + 4, True))
    cell = Buffer("cell", i64)
    reset = Kernel("reset", (cell,), (), Store(cell, 0, Const(0, i64)))
    x, go, slots = np.zeros(50, np.float32), np.array([True]), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 50
    slots[FREE + 4 : FREE + 8] = 1, go.ctypes.data, 0, limit
    slots[FREE + 9], slots[again], slots[address] = trip, 2, go.ctypes.data
    slots[FREE + 20 : FREE + 22] = 2, slots[inner:].ctypes.data
    run([RepeatStep(FREE + 9, (outer, FREE + 6), address, body)], [COUNT_UP, decide, reset], slots, threads)
    np.testing.assert_array_equal(x, np.full(50, 2 * want))
    assert slots[outer] == slots[FREE + 6] == want


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_after_a_repetition(threads: int) -> None:
    """What follows a part that is done no times, or several, is done once."""
    for trip in (0, 3):
        x, y, slots = np.arange(10, dtype=np.float32), np.zeros(10, np.float32), context()
        slots[FREE : FREE + 3] = 0, x.ctypes.data, 10
        slots[FREE + 4 : FREE + 8] = 1, x.ctypes.data, y.ctypes.data, 10
        slots[FREE + 9] = trip
        again = RepeatStep(FREE + 9, (FREE + 10,), None, (CallStep("count_up", FREE, True),))
        run([again, CallStep("reverse", FREE + 4, True)], [COUNT_UP, REVERSE], slots, threads)
        np.testing.assert_array_equal(y, np.arange(10)[::-1] + trip)


@pytest.mark.parametrize("threads", [1, 2])
def test_cycles_are_added_up(threads: int) -> None:
    """Of the calls that have a slot for them."""
    x, slots = np.zeros(1 << 16, np.float32), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, x.size
    for turn in (1, 2):
        before = int(slots[FREE + 8])
        run([CallStep("count_up", FREE, True, FREE + 8), CallStep("count_up", FREE, True)], [COUNT_UP], slots, threads)
        assert slots[FREE + 8] > before
        np.testing.assert_array_equal(x, np.full(x.size, 2 * turn))
    assert not slots[FREE + 9 :].any()
