"""Programs: calls in order, scratch per thread, barriers, repetition; plans and their checked arithmetic."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, f32, i64
from sardonyx.base.symbolic import Dim, Symbol, equals, evaluate, maximum, minimum, value
from sardonyx.codegen.compile import compile_kernel, compile_module
from sardonyx.codegen.features import host
from sardonyx.codegen.plans import MOST, instructions
from sardonyx.codegen.program import OVERFLOW, CallStep, RepeatStep, RunStep, emit_program
from sardonyx.loop.nodes import Alloc, Buffer, Const, For, Index, Kernel, Load, Op, Seq, Store
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import LoadedImage, load
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


def program(runs: list[list[RunStep]], kernels: list[Kernel]) -> LoadedImage:
    objects = [compile_kernel(k, host()) for k in kernels]
    return load(link([*objects, compile_module(emit_program(host(), runs, {}, {}), host())]))


def run(image: LoadedImage, slots: Array, threads: int) -> None:
    """run_0 on so many threads."""
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(image.address("run_0"))
    scratch = aligned(64 * threads)
    slots[abi.SCRATCH], slots[abi.SCRATCH_BYTES] = scratch.ctypes.data, 64
    team = [threading.Thread(target=entry, args=(slots.ctypes.data, tid, threads)) for tid in range(threads)]
    for t in team:
        t.start()
    for t in team:
        t.join()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_calls_and_barriers(threads: int) -> None:
    """Forwards, backwards, forwards: each call reads what other threads have written in the one before."""
    steps = [CallStep("count_up", FREE), CallStep("reverse", FREE + 4, True), CallStep("reverse", FREE + 8, True)]
    image = program([steps], [REVERSE, COUNT_UP])
    x, y, z = (np.arange(1000, dtype=np.float32) for _ in range(3))
    slots = context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 1000
    slots[FREE + 4 : FREE + 8] = 1, x.ctypes.data, y.ctypes.data, 1000
    slots[FREE + 8 : FREE + 12] = 2, y.ctypes.data, z.ctypes.data, 1000
    run(image, slots, threads)
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
    image = program([[RepeatStep(FREE + 9, (outer, FREE + 6), address, body)]], [COUNT_UP, decide, reset])
    x, go, slots = np.zeros(50, np.float32), np.array([True]), context()
    slots[FREE : FREE + 3] = 0, x.ctypes.data, 50
    slots[FREE + 4 : FREE + 8] = 1, go.ctypes.data, 0, limit
    slots[FREE + 9], slots[again], slots[address] = trip, 2, go.ctypes.data
    slots[FREE + 20 : FREE + 22] = 2, slots[inner:].ctypes.data
    run(image, slots, threads)
    np.testing.assert_array_equal(x, np.full(50, 2 * want))
    assert slots[outer] == slots[FREE + 6] == want


# ---- plans --------------------------------------------------------------------------------------------------------------

A, B = Symbol("a"), Symbol("b")
a, b = value(A), value(B)


def plan(dims: list[Dim], numbers: tuple[int, int]) -> tuple[list[int], int]:
    """(the values of dims, the status) for a and b; the third slot is a symbol c that plans may assign."""
    slots = {A: FREE, B: FREE + 1, Symbol("c"): FREE + 2}
    assignments = [(FREE + 2 + k, d) for k, d in enumerate(dims)]
    image = load(link([compile_module(emit_program(host(), [], {"sizes": assignments}, slots), host())]))
    memory = context(32 + len(dims))
    memory[FREE : FREE + 2] = numbers
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(image.address("sizes"))(memory.ctypes.data)
    return [int(v) for v in memory[FREE + 2 : FREE + 2 + len(dims)]], int(memory[abi.STATUS])


def test_plans_compute_integers() -> None:
    dims: list[Dim] = [3 * a * b - 2, (a - 10) // b, (a - 10) % b, minimum(a, b), maximum(a, b), equals(a, b + 4), 7, a * a * a]
    got, status = plan(dims, (7, 3))
    assert (got, status) == ([61, -1, 0, 3, 7, 1, 7, 343], 0)


def test_an_assignment_may_use_one_before_it() -> None:
    c = value(Symbol("c"))
    assert plan([a + b, c * 2, c + a], (1 << 40, 5))[0] == [(1 << 40) + 5, (1 << 41) + 10, (1 << 41) + 5]


@pytest.mark.parametrize("dim", [a * a, a * b * 3 + 1, 3 * a - 3 * a * b, b // (a - a * b), a % (b - 2)], ids=str)
def test_overflow_and_bad_divisors_are_seen(dim: Dim) -> None:
    assert plan([dim], (1 << 62, 2))[1] == OVERFLOW
    assert plan([dim + 0 * a], (2, 3))[1] == (OVERFLOW if "//" in str(dim) else 0)


def test_an_earlier_failure_stays() -> None:
    got, status = plan([a + 1], ((1 << 63) - 1, 0))
    assert (status, len(got)) == (OVERFLOW, 1)


def test_a_long_plan_is_divided_and_computes_the_same() -> None:
    """What one function has computed the others find."""
    c = value(Symbol("c"))
    dims: list[Dim] = [a + b]
    for k in range(1, 60):
        dims += [minimum((c + k) // (b + k), a * k), c * (a + 1) % (b + 2) + maximum(a, k) * (c // (b + 1))]
    assignments = [(FREE + 2 + i, d) for i, d in enumerate(dims)]
    assert instructions(assignments) > 3 * MOST
    known = {A: 11, B: 4, Symbol("c"): 15}
    assert plan(dims, (11, 4)) == ([evaluate(d, known.__getitem__) for d in dims], 0)
    assert plan([*dims, a * a], (1 << 40, 4))[1] == OVERFLOW
