"""Plans: checked arithmetic, and long ones divided."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from sardonyx.base.symbolic import Dim, Symbol, equals, evaluate, maximum, minimum, value
from sardonyx.codegen.compile import compile_module
from sardonyx.codegen.features import host
from sardonyx.codegen.plans import LEVEL, MOST, OVERFLOW, emit_plans, instructions
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from tests.codegen.harness import aligned

FREE = abi.FIRST_SLOT
A, B = Symbol("a"), Symbol("b")
a, b = value(A), value(B)


def plan(dims: list[Dim], numbers: tuple[int, int]) -> tuple[list[int], int]:
    """(the values of dims, the status) for a and b; the third slot is a symbol c that plans may assign."""
    slots = {A: FREE, B: FREE + 1, Symbol("c"): FREE + 2}
    assignments = [(FREE + 2 + k, d) for k, d in enumerate(dims)]
    image = load(link([compile_module(emit_plans(host(), {"sizes": assignments}, slots), host(), LEVEL)]))
    memory = aligned(8 * (FREE + 32 + len(dims))).view(np.int64)
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
    for k in range(1, 600):
        dims += [minimum((c + k) // (b + k), a * k), c * (a + 1) % (b + 2) + maximum(a, k) * (c // (b + 1))]
    assignments = [(FREE + 2 + i, d) for i, d in enumerate(dims)]
    assert instructions(assignments) > 3 * MOST
    known = {A: 11, B: 4, Symbol("c"): 15}
    assert plan(dims, (11, 4)) == ([evaluate(d, known.__getitem__) for d in dims], 0)
    assert plan([*dims, a * a], (1 << 40, 4))[1] == OVERFLOW
