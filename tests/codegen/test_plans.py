"""Plans: checked arithmetic, and long ones divided."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Symbol, equals, evaluate, maximum, minimum, value
from sardonyx.codegen.compile import compile_module
from sardonyx.codegen.features import Target, host
from sardonyx.codegen.plans import LEVEL, MOST, Expected, emit_mid_run_plan, emit_plans, instructions
from sardonyx.runtime import abi
from sardonyx.runtime.abi import OVERFLOW
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from tests.codegen.harness import aligned

FREE = abi.FIRST_SLOT
A, B = Symbol("a"), Symbol("b")
a, b = value(A), value(B)


def plan(dims: list[Dim], numbers: tuple[int, int], target: Target | None = None, work: Dim = 0) -> tuple[list[int], int]:
    """(the values of dims, the status) for a and b; the third slot is a symbol c that plans may assign. The first value is the work's
    where there is some."""
    target = target or host()
    slots = {A: FREE, B: FREE + 1, Symbol("c"): FREE + 2}
    assignments = [(FREE + 2 + k, d) for k, d in enumerate(dims)]
    assignments += [(abi.WORK, work)] if work != 0 else []
    image = load(link([compile_module(emit_plans(target, {"sizes": assignments}, slots), host(), LEVEL)]))
    memory = aligned(8 * (FREE + 32 + len(dims))).view(np.int64)
    memory[FREE : FREE + 2] = numbers
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(image.address("sizes"))(memory.ctypes.data)
    out = [int(v) for v in memory[FREE + 2 : FREE + 2 + len(dims)]]
    return [int(memory[abi.WORK]), *out] if work != 0 else out, int(memory[abi.STATUS])


def test_plans_compute_integers() -> None:
    dims: list[Dim] = [3 * a * b - 2, (a - 10) // b, (a - 10) % b, minimum(a, b), maximum(a, b), equals(a, b + 4), 7, a * a * a]
    got, status = plan(dims, (7, 3))
    assert (got, status) == ([61, -1, 0, 3, 7, 1, 7, 343], 0)


def test_an_assignment_may_use_one_before_it() -> None:
    c = value(Symbol("c"))
    assert plan([a + b, c * 2, c + a], (1 << 40, 5))[0] == [(1 << 40) + 5, (1 << 41) + 10, (1 << 41) + 5]


@pytest.mark.parametrize("padding", [0, 400], ids=["one function", "several functions"])
def test_what_is_computed_of_a_size_is_computed_again_when_the_size_has_changed(padding: int) -> None:
    """Alone and where functions that follow find it in their array."""
    slots = {A: FREE, B: FREE + 1}
    fill: list[tuple[int, Dim]] = [(FREE + 9, minimum((a + k) // (b + k), a * k)) for k in range(1, padding)]
    products: list[Dim] = [a * b + a, (a + 3) // b]
    first = [(FREE + 2 + i, d) for i, d in enumerate(products)]
    again = [(FREE + 4 + i, d) for i, d in enumerate(products)]
    assignments = [*first, *fill, (FREE, a * 10), *again]
    assert (instructions(assignments) > MOST) == (padding > 0)
    image = load(link([compile_module(emit_plans(host(), {"sizes": assignments}, slots), host(), LEVEL)]))
    memory = aligned(8 * (FREE + 32)).view(np.int64)
    memory[FREE : FREE + 2] = 6, 4
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(image.address("sizes"))(memory.ctypes.data)
    assert memory[FREE + 2 : FREE + 6].tolist() == [30, 2, 300, 15]


@pytest.mark.parametrize("dim", [a * a, a * b * 3 + 1, 3 * a - 3 * a * b, b // (a - a * b), a % (b - 2)], ids=str)
def test_overflow_and_bad_divisors_are_seen(dim: Dim) -> None:
    assert plan([dim], (1 << 62, 2))[1] == OVERFLOW
    assert plan([dim + 0 * a], (2, 3))[1] == (OVERFLOW if "//" in str(dim) else 0)


PRODUCT_EDGES = [
    0,
    1,
    -1,
    2,
    3,
    -3,
    (1 << 31) - 1,
    1 << 31,
    -(1 << 31),
    (1 << 32) - 1,
    1 << 32,
    -(1 << 32),
    1 << 62,
    (1 << 63) - 1,
    -(1 << 63),
]


@pytest.mark.parametrize("index_bits", [32, 64])
def test_products_overflow_where_they_exceed_an_index(index_bits: int) -> None:
    """Of numbers at the edges of 32 and 64 bits, and of some in between; targets of 32 bits multiply halves.
    Some products beyond 64 bits wrap to numbers that an index of 32 bits holds.
    """
    target = replace(host(), index_bits=index_bits)
    between = [int(n) for n in np.random.default_rng(3).integers(-(1 << 63), 1 << 63, 6, np.int64, endpoint=False)]
    numbers = [*PRODUCT_EDGES, *(n >> 31 for n in between), *between]
    slots = {A: FREE, B: FREE + 1}
    image = load(link([compile_module(emit_plans(target, {"sizes": [(FREE + 2, a * b)]}, slots), host(), LEVEL)]))
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(image.address("sizes"))
    memory = aligned(8 * (FREE + 32)).view(np.int64)
    for x in numbers:
        for y in numbers:
            memory[abi.STATUS], memory[FREE], memory[FREE + 1] = 0, x, y
            run(memory.ctypes.data)
            fits = -(1 << (index_bits - 1)) <= x * y < 1 << (index_bits - 1)
            assert memory[abi.STATUS] == (0 if fits else OVERFLOW), (x, y)
            assert not fits or memory[FREE + 2] == x * y, (x, y)


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


TOO_LARGE = [
    1 << 63,
    1 << 64,
    -(1 << 63) - 1,
    (1 << 64) * a,
    (1 << 65) * a * b + 1,
    a + (1 << 63),
    minimum(a * (1 << 64), b),
    (a + (1 << 70)) // b,
]


@pytest.mark.parametrize("dim", TOO_LARGE, ids=str)
def test_a_number_of_more_than_64_bits_is_refused_when_a_plan_is_made(dim: Dim) -> None:
    with pytest.raises(Fail, match="does not fit in 64 bits"):
        plan([dim], (0, 1))


EDGES = [(1 << bits) + more for bits in (31, 32, 61, 62, 63) for more in (-1, 0, 1)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 3, *EDGES, *(-n for n in EDGES)]), min_size=6, max_size=6), st.integers(0, 7), st.integers(1, 8)
)
def test_a_plan_computes_what_python_computes_or_fails(factors: list[int], x: int, y: int) -> None:
    """Sums and products with factors near the ends of 32 and 64 bits."""
    p, q, r, s, t, u = factors
    dims: list[Dim] = [p * a + q, (r * a + s * b) // b, maximum(t * a * b, u * b), (p * a + r) % (b + 3)]
    for dim in dims:
        true = evaluate(dim, {A: x, B: y}.__getitem__)
        try:
            (got,), status = plan([dim], (x, y))
        except Fail:
            continue
        assert status == OVERFLOW or got == true


def test_numbers_fit_the_indices_of_the_target() -> None:
    narrow = replace(host(), index_bits=32)
    assert plan([a * b, a - b], (1 << 15, 1 << 15), narrow) == ([1 << 30, 0], 0)
    assert plan([a * b], (1 << 16, 1 << 15), narrow)[1] == OVERFLOW
    assert plan([-1 * a * b], (1 << 16, (1 << 15) + 1), narrow)[1] == OVERFLOW


def test_an_estimate_that_overflows_is_the_largest_number() -> None:
    assert plan([a], (1 << 40, 5), work=a * a * 3) == ([(1 << 63) - 1, 1 << 40], 0)
    assert plan([a], (1 << 40, 5), work=a * 3) == ([3 << 40, 1 << 40], 0)
    assert plan([a * a], (1 << 40, 5), work=a * a)[1] == OVERFLOW


def between(
    dims: list[Dim], tests: list[tuple[int, bool, int]], numbers: tuple[int, int], status: int = 0
) -> tuple[list[int], int]:
    """(the values of dims, the status) after a plan between calls. tests: (which of the dims, zero, code)."""
    slots = {A: FREE, B: FREE + 1}
    module = emit_plans(host(), {}, slots)
    assignments = [(FREE + 2 + k, d) for k, d in enumerate(dims)]
    emit_mid_run_plan(module, host(), "again", assignments, [Expected(FREE + 2 + k, zero, code) for k, zero, code in tests], slots)
    image = load(link([compile_module(module, host(), LEVEL)]))
    memory = aligned(8 * (FREE + 32 + len(dims))).view(np.int64)
    memory[abi.STATUS] = status
    memory[FREE : FREE + 2] = numbers
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    kind(image.address("again"))(None, memory.ctypes.data, None, 0, 1)
    return [int(v) for v in memory[FREE + 2 : FREE + 2 + len(dims)]], int(memory[abi.STATUS])


def test_a_plan_between_calls_computes_and_tests() -> None:
    tests = [(0, True, 7 << 32 | 1), (1, False, 7 << 32 | 2)]
    assert between([a - b, a], tests, (3, 3)) == ([0, 3], 0)
    assert between([a - b, a], tests, (3, 4)) == ([-1, 3], 7 << 32 | 1)
    assert between([a - b, a], tests, (-3, -3)) == ([0, -3], 7 << 32 | 2)


def test_the_first_error_stays() -> None:
    tests = [(0, True, 7 << 32 | 1), (1, False, 7 << 32 | 2)]
    assert between([a - b, a], tests, (-3, 4))[1] == 7 << 32 | 1
    assert between([a - b, a], tests, (-3, 4), status=5)[1] == 5


def test_a_plan_between_calls_that_overflows() -> None:
    assert between([a * a], [(0, False, 9)], (1 << 40, 0))[1] == OVERFLOW


# ---- how long plans are -----------------------------------------------------------------------------------------------------


def lengths(dims: list[Dim]) -> tuple[list[int], int]:
    """(instructions of each function that a plan of these has, how many are expected)"""
    assignments = [(FREE + 2 + k, d) for k, d in enumerate(dims)]
    module = emit_plans(host(), {"sizes": assignments}, {A: FREE, B: FREE + 1})
    return [sum(len(block.instructions) for block in f.blocks) for f in module.functions if f.blocks], instructions(assignments)


@pytest.mark.parametrize("degree", range(2, 12))
def test_how_long_a_plan_is_expected_to_be(degree: int) -> None:
    """Of one product; and of many sums, which the estimate does not fall short of."""
    product: Dim = 1
    for k in range(degree):
        product = product * (b if k % 2 else a)
    (found,), expected = lengths([product])
    assert expected - 8 <= found <= expected + 8
    (found,), expected = lengths([product + k * a for k in range(1, 20)])
    assert found <= expected


def test_no_function_of_a_plan_is_very_long() -> None:
    dims: list[Dim] = [minimum((a + k) // (b + k), a * b) for k in range(1, 600)]
    found, expected = lengths(dims)
    assert expected > 3 * MOST
    assert len(found) > 3
    assert max(found) < 2 * MOST
