"""Sizes with a name that stand for a formula."""

from __future__ import annotations

from sardonyx.base.symbolic import (
    MANY_TERMS,
    Alias,
    Defined,
    Dim,
    Int,
    alias,
    coefficient,
    collected,
    definitions,
    evaluate,
    ground,
    is_nonnegative,
    minimum,
    named,
    short,
    single,
    symbol,
    symbols,
    value,
    weight,
)
from sardonyx.base.symbolic.names import LONG
from tests.base.symbolic.values import (
    SIZES,
    I,
    J,
    M,
    N,
    i,
    j,
)


def test_defined_sizes() -> None:
    """A quotient gets a name; its definition is found again."""
    windows = (N - 3) // 2 + 1
    first = named(windows)
    second = named((first - 1) // 2)
    assert named(N + 1) == N + 1
    assert single(first) is not None
    assert named(windows) == first
    assert ground(second * M) == set(SIZES)
    assert [d.definition for d in definitions(symbols(second))] == [windows, (first - 1) // 2]
    assert all(isinstance(d, Defined) for d in definitions(symbols(second * M)))


def test_names_for_names_may_be_deep() -> None:
    size: Dim = N
    made = []
    for _ in range(5000):
        size = alias(size + 1)
        made.append(single(size))
    assert definitions(symbols(size)) == made


def test_ground_of_names_that_share_names() -> None:
    """Each name stands twice in the next one: a walk over all occurrences would take 2^60 steps."""
    size: Dim = N
    for _ in range(60):
        size = alias(size * size + M)
    assert ground(size) == set(SIZES)


def test_short() -> None:
    """Long formulas of sizes get a name, with a sign if they may be negative; those over loop variables don't."""
    sizes = [symbol(f"d{n}") for n in range(LONG + 1)]
    total = sum(sizes[1:], start=sizes[0])
    assert short(N + M) == N + M
    found = single(short(total))
    assert isinstance(found, Alias)
    assert found.definition == total
    assert is_nonnegative(short(total))
    assert not is_nonnegative(short(total - 2 * N))
    assert is_nonnegative(short(total - 2 * N, is_size=True))
    assert short(total + i) == total + i


def test_doubling_formulas_stay_short() -> None:
    """Each formula holds the one before twice."""
    size: Dim = N
    for _ in range(200):
        size = short(minimum(size * 3 - M, size + 2))
    assert weight(size) <= 3 * LONG


def test_collected() -> None:
    """An index of many terms has one term for each loop variable afterwards, and the same value."""
    sizes = [symbol(f"d{n}") for n in range(6)]
    row = sum((a * b for a in sizes for b in sizes), start=sizes[0])
    index = row * i + (row - 3 * N) * j + row // 2 - 5
    few = collected(index)
    assert isinstance(few, Int)
    assert isinstance(index, Int)
    assert len(few.terms) == 3 < MANY_TERMS < len(index.terms)
    moved = coefficient(few, J)
    assert moved is not None
    still = coefficient(few, I)
    assert still is not None
    assert is_nonnegative(still)
    assert not is_nonnegative(moved)

    def number(e: Dim) -> int:
        numbers = {s: n + 2 for n, s in enumerate(sorted(symbols(index)))}
        for s in definitions(symbols(e)):
            numbers[s] = evaluate(s.definition, numbers.__getitem__)
        return evaluate(e, numbers.__getitem__)

    assert number(few) == number(index)
    assert collected(few) == few
    assert collected(value(I) * N + j) == i * N + j
