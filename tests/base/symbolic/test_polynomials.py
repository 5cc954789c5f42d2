"""Integer expressions against plain integers: whatever is simplified, every value within the symbols' ranges stays the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.base.symbolic import (
    Dim,
    Symbol,
    evaluate,
    substitute,
    value,
)
from tests.base.symbolic.values import (
    EXPRESSIONS,
    SEEDS,
    SUMS,
    I,
    K,
    N,
    Pair,
    i,
    numbers,
    total,
)


@settings(max_examples=600, deadline=None)
@given(EXPRESSIONS)
def test_simplified_is_equal(e: Pair) -> None:
    for seed in SEEDS:
        env = numbers(seed)
        assert evaluate(e.dim, env) == e.meaning(env)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.lists(EXPRESSIONS, min_size=2, max_size=2))
def test_substitution_commutes_with_evaluation(e: Pair, values: list[Pair]) -> None:
    """Of the loop variables i and k, by anything in their range."""
    env_of = {I: values[0].dim % 4, K: values[1].dim % 6}
    for seed in SEEDS:
        env = numbers(seed)
        inside = {s: evaluate(d, env) for s, d in env_of.items()}
        replaced = substitute(e.dim, env_of)
        assert evaluate(replaced, env) == evaluate(
            e.dim, lambda s, env=env, inside=inside: inside.get(s, 0) if s in inside else env(s)
        )


@settings(deadline=None)
@given(SUMS, st.randoms())
def test_equal_sums_are_equal(parts: list[tuple[int, list[Dim]]], rng: random.Random) -> None:
    """In any order of terms and factors, and taken apart and put together again."""
    first = total(parts)
    shuffled = [(f, rng.sample(atoms, len(atoms))) for f, atoms in rng.sample(parts, len(parts))]
    second = total(shuffled)
    assert first == second
    assert hash(first) == hash(second)
    assert repr(first) == repr(second)
    assert first - second == 0
    assert isinstance(first - second, int)


@settings(deadline=None)
@given(SUMS, SUMS, SUMS)
def test_ring(a: list[tuple[int, list[Dim]]], b: list[tuple[int, list[Dim]]], c: list[tuple[int, list[Dim]]]) -> None:
    x, y, z = total(a), total(b), total(c)
    assert (x + y) * z == x * z + y * z
    assert (x * y) * z == x * (y * z)
    assert x + (y + z) == (x + y) + z
    assert -(x - y) == y - x


def test_same_name_and_extent_make_a_symbol() -> None:
    assert Symbol("i", 4) == I
    assert Symbol("i", 5) != I
    assert Symbol("i") != I
    assert value(Symbol("i", 4)) * N == N * i
