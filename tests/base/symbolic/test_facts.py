"""What is claimed of an integer holds for all values of its symbols."""

from __future__ import annotations

from hypothesis import given, settings

from sardonyx.base.symbolic import (
    evaluate,
    is_below,
    is_nonnegative,
    largest,
    maximum,
    minimum,
)
from tests.base.symbolic.values import (
    EXPRESSIONS,
    SEEDS,
    M,
    N,
    Pair,
    i,
    j,
    numbers,
)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_what_is_claimed_holds(e: Pair, bound: Pair) -> None:
    """is_nonnegative, is_below and largest are certain."""
    nonnegative, top = is_nonnegative(e.dim), largest(e.dim)
    for seed in SEEDS:
        env = numbers(seed)
        number, limit = e.meaning(env), bound.meaning(env)
        assert number >= 0 or not nonnegative
        assert top is None or 0 <= number <= evaluate(top, env)
        if limit > 0:
            assert 0 <= number < limit or not is_below(e.dim, bound.dim)


def test_facts() -> None:
    assert is_below(4 * j + i, 4 * N)
    assert not is_below(4 * j + i + 1, 4 * N)
    assert not is_below(i - 1, 4)
    assert is_nonnegative(N % 3 + N // 2 + minimum(N, M) * 2)
    assert not is_nonnegative(minimum(N, M - 1))
    assert is_nonnegative(maximum(0, M - 1))
    assert largest(3 * i + 2 * N) == 9 + 2 * N
    assert largest(i - N) is None
