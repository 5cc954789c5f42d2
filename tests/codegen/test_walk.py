"""The walk along a segment's steps: calls in order, scratch per thread, barriers, repetition, cycles."""

from __future__ import annotations

import ctypes
import threading
import time

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
from sardonyx.runtime.steps import CallStep, LoopStep, RunStep, rows, table
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


class Walk:
    """Steps over kernels, to be walked along in a context by each of so many threads."""

    def __init__(self, steps: list[RunStep], kernels: list[Kernel], slots: Array, threads: int) -> None:
        team = compile_module(emit_team(host().triple), host())
        self.image = load(link([*(compile_kernel(k, host()) for k in kernels), team]))
        numbers = {k.name: number for number, k in enumerate(kernels)}
        self.scratch, self.claims = aligned(64 * threads), aligned(abi.CLAIM_BYTES * (1 + threads))
        self.claims[:] = 0
        self.table = table(rows(steps, numbers), [self.image.address(name) for name in numbers])
        self.slots, self.threads = slots, threads
        slots[abi.SCRATCH], slots[abi.SCRATCH_BYTES] = self.scratch.ctypes.data, 64
        slots[abi.STEPS], slots[abi.CLAIMS] = self.table.ctypes.data, self.claims.ctypes.data
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self.walk = signature(self.image.address("walk"))

    def begin(self) -> None:
        """As a dispatch does: the run is not over."""
        self.slots[abi.TICKET] &= ~1

    def go(self, tid: int) -> None:
        self.walk(self.slots.ctypes.data, tid, self.threads)

    def run(self) -> None:
        """By all threads at once."""
        self.begin()
        team = [threading.Thread(target=self.go, args=(tid,)) for tid in range(self.threads)]
        for t in team:
            t.start()
        for t in team:
            t.join(60)
            assert not t.is_alive()


def run(steps: list[RunStep], kernels: list[Kernel], slots: Array, threads: int) -> None:
    Walk(steps, kernels, slots, threads).run()


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


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("strips", [0, 1, 7, 1000, 5000])
def test_much_work_is_done_in_strips(strips: int, threads: int) -> None:
    x, slots = np.zeros(1000, np.float32), context()
    slots[FREE + 7 : FREE + 11] = strips, 0, x.ctypes.data, 1000
    run([CallStep("count_up", FREE + 8, chunks=3)], [COUNT_UP], slots, threads)
    assert (x == 1).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_is_to_end_passes_over_what_is_left(threads: int) -> None:
    """Its status is set before it begins: no kernel is called, and a repetition without end is left."""
    x, slots = np.zeros(50, np.float32), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 50
    slots[FREE + 9], slots[abi.STATUS] = 1 << 62, 5
    run(
        [CallStep("count_up", FREE), LoopStep(FREE + 9, (FREE + 10,), None, (CallStep("count_up", FREE),))],
        [COUNT_UP],
        slots,
        threads,
    )
    assert (x == 0).all()
    assert slots[abi.STATUS] == 5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("repeated", [True, False], ids=["in a repetition", "in strips"])
def test_the_word_is_looked_at_between_calls(repeated: bool, threads: int) -> None:
    x, word, slots = np.zeros(50, np.float32), np.zeros(1, np.int64), context()
    slots[FREE - 1 + 1 : FREE + 4] = 0 if repeated else 1 << 62, 0, x.ctypes.data, 50 if repeated else 1 << 40
    slots[FREE + 9], slots[abi.STOP_WORD] = 1 << 62, word.ctypes.data
    call = CallStep("count_up" if repeated else "nothing", FREE + 1)
    nothing = Kernel("nothing", (X,), (N,), For(AT, 0, n, "parallel", Store(X, 0, Const(1.0, f32))))
    walk = Walk([LoopStep(FREE + 9, (FREE + 10,), None, (call,)) if repeated else call], [COUNT_UP, nothing], slots, threads)
    threading.Timer(0.1, lambda: word.__setitem__(0, 1)).start()
    start = time.monotonic()
    walk.run()
    assert 0.05 < time.monotonic() - start < 30
    assert slots[abi.STATUS] == abi.TERMINATED


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("trip", "limit", "want"), [(0, 99, 0), (5, 99, 5), (7, 3, 4)])
def test_repetition(threads: int, trip: int, limit: int, want: int) -> None:
    """Until the trip count, or until a flag that the body computes is False; nested: twice each time."""
    flag, turn = Buffer("flag", boolean), Symbol("t")
    decide = Kernel("decide", (flag,), (turn, N), Store(flag, 0, Op("lt", Index(value(turn)), Index(n))))
    again, inner, outer, address = FREE + 10, FREE + 11, FREE + 12, FREE + 13
    twice = LoopStep(again, (inner,), None, (CallStep("count_up", FREE),))
    body = (CallStep("reset", FREE + 20), twice, CallStep("decide", FREE + 4, True))
    cell = Buffer("cell", i64)
    reset = Kernel("reset", (cell,), (), Store(cell, 0, Const(0, i64)))
    x, go, slots = np.zeros(50, np.float32), np.array([True]), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 50
    slots[FREE + 4 : FREE + 8] = 1, go.ctypes.data, 0, limit
    slots[FREE + 9], slots[again], slots[address] = trip, 2, go.ctypes.data
    slots[FREE + 20 : FREE + 22] = 2, slots[inner:].ctypes.data
    run([LoopStep(FREE + 9, (outer, FREE + 6), address, body)], [COUNT_UP, decide, reset], slots, threads)
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
        again = LoopStep(FREE + 9, (FREE + 10,), None, (CallStep("count_up", FREE, True),))
        run([again, CallStep("reverse", FREE + 4, True)], [COUNT_UP, REVERSE], slots, threads)
        np.testing.assert_array_equal(y, np.arange(10)[::-1] + trip)


@pytest.mark.parametrize("threads", [1, 2])
def test_cycles_are_added_up(threads: int) -> None:
    """Of the calls that have a slot for them."""
    x, slots = np.zeros(1 << 16, np.float32), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, x.size
    for turn in (1, 2):
        before, slots[abi.TICKET] = int(slots[FREE + 8]), 0
        slots[abi.SYNC] = 0
        run([CallStep("count_up", FREE, True, FREE + 8), CallStep("count_up", FREE, True)], [COUNT_UP], slots, threads)
        assert slots[FREE + 8] > before
        np.testing.assert_array_equal(x, np.full(x.size, 2 * turn))
    assert not slots[FREE + 9 :].any()


def test_a_call_that_another_thread_runs_is_measured_to_its_end() -> None:
    """Thread 1 takes the whole call first; thread 0, which measures, waits for it: some milliseconds, not some hundred cycles."""
    x, slots = np.zeros(1 << 23, np.float32), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, x.size
    walk = Walk([CallStep("count_up", FREE, True, FREE + 8, chunks=0)], [COUNT_UP], slots, 2)
    walk.begin()
    other = threading.Thread(target=walk.go, args=(1,))
    other.start()
    while not x[0]:
        time.sleep(0)
    walk.go(0)
    other.join(60)
    assert x[-1] == 1
    assert slots[FREE + 8] > 1_000_000


# ---- threads that come late, or never ---------------------------------------------------------------------------------------


def long_walk(slots: Array, threads: int, trip: int = 3) -> tuple[Walk, Array, Array]:
    """count_up; as often as `trip`: count_up in several parts; then y = x backwards. -> (walk, x, y)"""
    x, y = np.zeros(1000, np.float32), np.zeros(1000, np.float32)
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 1000
    slots[FREE + 4 : FREE + 8] = 1, x.ctypes.data, y.ctypes.data, 1000
    slots[FREE + 9] = trip
    again = LoopStep(FREE + 9, (FREE + 10, FREE + 11), None, (CallStep("count_up", FREE, True, chunks=4),))
    steps = [CallStep("count_up", FREE, chunks=3), again, CallStep("reverse", FREE + 4, True, chunks=16)]
    return Walk(steps, [COUNT_UP, REVERSE], slots, threads), x, y


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("trip", [0, 3])
def test_one_thread_does_what_the_others_have_not_begun(threads: int, trip: int) -> None:
    slots = context()
    walk, x, y = long_walk(slots, threads, trip)
    for turn in range(1, 4):
        walk.begin()
        walk.go(0)
        np.testing.assert_array_equal(y, np.full(1000, turn * (trip + 1)))
        assert slots[FREE + 10] == slots[FREE + 11] == trip
        before = bytes(slots), bytes(walk.claims)
        for late in range(1, threads):
            walk.go(late)
        assert (bytes(slots), bytes(walk.claims)) == before
        np.testing.assert_array_equal(x, y)


def test_a_thread_that_comes_amid_the_run_of_others_catches_up() -> None:
    """Each of three threads sleeps at random; all is done once, whoever does it."""
    slots = context()
    walk, x, y = long_walk(slots, 3, trip=40)
    for turn in range(1, 60):
        walk.begin()
        pauses = np.random.default_rng(turn).random(2) / 2000

        def late(tid: int, pause: float) -> None:
            time.sleep(pause)
            walk.go(tid)

        team = [threading.Thread(target=late, args=(tid, pause)) for tid, pause in zip((1, 2), pauses, strict=True)]
        for t in team:
            t.start()
        walk.go(0)
        np.testing.assert_array_equal(y, np.full(1000, 41 * turn))
        for t in team:
            t.join(60)
            assert not t.is_alive()
        np.testing.assert_array_equal(x, y)


def test_a_run_of_one_thread_between_runs_of_two() -> None:
    slots = context()
    two, x, y = long_walk(slots, 2)
    for turn in range(1, 5):
        if turn % 2:
            two.run()
        else:
            two.walk(slots.ctypes.data, 0, 1)
        np.testing.assert_array_equal(y, np.full(1000, 4 * turn))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_that_one_thread_does_keep_their_order(threads: int) -> None:
    """Without a barrier between them: x counted up twenty times, a step at a time, and turned round twice."""
    x, y, slots = np.arange(64, dtype=np.float32), np.zeros(64, np.float32), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 64
    slots[FREE + 4 : FREE + 8] = 1, x.ctypes.data, y.ctypes.data, 64
    slots[FREE + 8 : FREE + 12] = 2, y.ctypes.data, x.ctypes.data, 64
    up, there, back = (CallStep(kernel, FREE + at, chunks=0) for kernel, at in (("count_up", 0), ("reverse", 4), ("reverse", 8)))
    dealt = CallStep("count_up", FREE, True)
    steps = [dealt, CallStep("count_up", FREE, True, chunks=0), *[up] * 18, there, back, dealt]
    walk = Walk(steps, [COUNT_UP, REVERSE], slots, threads)
    for turn in range(1, 40):
        walk.run()
        np.testing.assert_array_equal(x, np.arange(64) + 21 * turn)


@pytest.mark.parametrize("first", range(1, 12))
def test_who_comes_first_of_many_leaves_no_share_behind(first: int) -> None:
    """It goes past shares that it does not look at, to what one thread does, before anybody else has come."""
    x, y, slots = np.zeros(1000, np.float32), np.zeros(64, np.float32), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 1000
    slots[FREE + 4 : FREE + 7] = 0, y.ctypes.data, 64
    steps = [CallStep("count_up", FREE, chunks=16), CallStep("count_up", FREE + 4, chunks=0)]
    walk = Walk(steps, [COUNT_UP], slots, 12)
    for turn in range(1, 3):
        walk.begin()
        for tid in (first, *(tid for tid in range(11, 0, -1) if tid != first), 0):  # thread 0 awaits the end
            walk.go(tid)
        np.testing.assert_array_equal(x, np.full(1000, turn))
        np.testing.assert_array_equal(y, np.full(64, turn))
