"""Integer expressions against plain integers: whatever is simplified, every value within the symbols' ranges stays the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from itertools import product as cartesian

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sardonyx.base import symbolic
from sardonyx.base.symbolic import (
    Defined,
    Dim,
    Int,
    Symbol,
    alias,
    ceil_divide,
    coefficient,
    covering_loops,
    definitions,
    equals,
    evaluate,
    ground,
    is_below,
    is_nonnegative,
    largest,
    maximum,
    minimum,
    named,
    round_up,
    single,
    strides,
    substitute,
    symbol,
    symbols,
    terms,
    value,
)

N, M = symbol("n"), symbol("m")
I, J, K, L = Symbol("i", 4), Symbol("j", N), Symbol("k", 6), Symbol("l", N * M)  # noqa: E741
SIZES = (Symbol("n"), Symbol("m"))
LOOPS = (I, J, K, L)
ATOMS: tuple[Dim, ...] = (N, M, *map(value, LOOPS))
DIVISORS: tuple[Dim, ...] = (1, 2, 3, 4, 6, 8, N, M, N * 2, N * M, M * 4, N + 1)


def numbers(seed: int) -> Callable[[Symbol], int]:
    """A value for each symbol, the sizes positive and the loop variables in their range."""
    rng = random.Random(seed)
    env = {s: rng.randint(1, 7) for s in SIZES}
    for s in LOOPS:
        extent = evaluate(s.extent, env.__getitem__) if s.extent is not None else 0
        env[s] = rng.choice((0, extent - 1, rng.randrange(extent)))
    return env.__getitem__


SEEDS = range(12)


class Pair:
    """An expression and what it means: a function of the symbols' values."""

    def __init__(self, dim: Dim, meaning: Callable[[Callable[[Symbol], int]], int]) -> None:
        self.dim, self.meaning = dim, meaning

    def __repr__(self) -> str:
        return repr(self.dim)


def leaf(dim: Dim) -> Pair:
    return Pair(dim, lambda env: evaluate(dim, env))


BINARY: Mapping[str, tuple[Callable[[Dim, Dim], Dim], Callable[[int, int], int]]] = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "min": (minimum, min),
    "max": (maximum, max),
    "==": (equals, lambda a, b: int(a == b)),
}


def combine(op: str, a: Pair, b: Pair) -> Pair:
    make, mean = BINARY[op]
    return Pair(make(a.dim, b.dim), lambda env: mean(a.meaning(env), b.meaning(env)))


def divided(a: Pair, by: Dim, modulo: bool) -> Pair:
    dim = a.dim % by if modulo else a.dim // by
    if modulo:
        return Pair(dim, lambda env: a.meaning(env) % evaluate(by, env))
    return Pair(dim, lambda env: a.meaning(env) // evaluate(by, env))


LEAVES = st.one_of(st.sampled_from(ATOMS), st.integers(-12, 12)).map(leaf)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(combine, st.sampled_from(sorted(BINARY)), inner, inner),
        st.builds(combine, st.sampled_from("+-*"), inner, inner),
        st.builds(divided, inner, st.sampled_from(DIVISORS), st.booleans()),
    ),
    max_leaves=10,
)


@settings(max_examples=600, deadline=None)
@given(EXPRESSIONS)
def test_simplified_is_equal(e: Pair) -> None:
    for seed in SEEDS:
        env = numbers(seed)
        assert evaluate(e.dim, env) == e.meaning(env)


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


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.sampled_from(LOOPS))
def test_coefficients(e: Pair, s: Symbol) -> None:
    """e = coefficient * s + what is left at s = 0."""
    factor = coefficient(e.dim, s)
    assume(factor is not None)
    assert factor is not None
    rest = substitute(e.dim, {s: 0})
    assert s not in symbols(factor)
    assert factor * value(s) + rest == e.dim


# ---- canonical form -----------------------------------------------------------------------------------------------------

SUMS = st.lists(st.tuples(st.integers(-5, 5), st.lists(st.sampled_from(ATOMS), max_size=3)), max_size=5)


def total(parts: list[tuple[int, list[Dim]]]) -> Dim:
    out: Dim = 0
    for factor, atoms in parts:
        out = out + symbolic.product(atoms) * factor
    return out


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


@settings(deadline=None)
@given(SUMS, st.sampled_from(DIVISORS))
def test_quotient_and_remainder_belong_together(parts: list[tuple[int, list[Dim]]], by: Dim) -> None:
    e = total(parts)
    assert (e // by) * by + e % by == e


# ---- the rules of division ----------------------------------------------------------------------------------------------

i, j, k = value(I), value(J), value(K)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ((i + 4 * N) // 4, N),
        ((i + 4 * N) % 4, i),
        ((N * i + j) // N, i),
        ((N * i + j) % N, j),
        ((4 * j + i) // (4 * N), 0),
        ((6 * N * i + 6 * j + k) // 6, N * i + j),
        ((6 * N * i + 6 * j + k) % (6 * N), 6 * j + k),
        ((4 * N + i) // 8, N // 2),
        ((4 * N + i) % 8, 4 * (N % 2) + i),
        ((N * M * 2 + j) // (2 * N), M),
        ((N // 3) * 3 + N % 3, N),
        ((N // 3) * 6 * M + 2 * M * (N % 3), 2 * M * N),
        ((N + 1) // (N + 1), 1),
        (j // N, 0),
        (N // 1, N),
        (7 // 2, 3),
        (-7 % 4, 1),
        (0 // N, 0),
        (minimum(N, N + 3), N),
        (maximum(N - 2, N), N),
        (minimum(3, 5), 3),
        (equals(N, N), 1),
        (equals(N, N + 1), 0),
        (ceil_divide(N * 8, 8), N),
        (round_up(N * 16, 16), 16 * N),
    ],
)
def test_rules(got: Dim, want: Dim) -> None:
    assert got == want
    assert type(got) is type(want)


@pytest.mark.parametrize(
    "got",
    [(value(K) + 4 * N) // 4, (i + N) // N, (N - 1) // N, (i - 1) // 4, (N * i + j + 1) // N, N // 2, (N * M) // (N + 1)],
)
def test_what_does_not_divide_stays(got: Dim) -> None:
    assert isinstance(got, Int)
    assert "//" in repr(got)


# ---- facts and axes -----------------------------------------------------------------------------------------------------


def test_facts() -> None:
    assert is_below(4 * j + i, 4 * N)
    assert not is_below(4 * j + i + 1, 4 * N)
    assert not is_below(i - 1, 4)
    assert is_nonnegative(N % 3 + N // 2 + minimum(N, M) * 2)
    assert not is_nonnegative(minimum(N, M - 1))
    assert is_nonnegative(maximum(0, M - 1))
    assert largest(3 * i + 2 * N) == 9 + 2 * N
    assert largest(i - N) is None


def test_parts() -> None:
    assert single(i) is I
    assert single(i * 2) is single(i + 1) is single(i * j) is single(5) is None
    assert coefficient(3 * i + N * i + j, I) == 3 + N
    assert coefficient(i * i, I) is coefficient(i // 3, I) is coefficient(i * (i % 3), I) is None
    assert coefficient(N, I) == 0
    assert symbols(j // 3 + 2) == {J}
    assert terms(0) == {}
    assert terms(7) == {(): 7}
    with pytest.raises(TypeError, match="the truth of n"):
        bool(N)


def test_same_name_and_extent_make_a_symbol() -> None:
    assert Symbol("i", 4) == I
    assert Symbol("i", 5) != I
    assert Symbol("i") != I
    assert value(Symbol("i", 4)) * N == N * i


@pytest.mark.parametrize(
    ("shape", "order", "want"),
    [((2, 3, 4), None, [12, 4, 1]), ((N, 3, M), None, [3 * M, M, 1]), ((2, 3, 4), (2, 0, 1), [3, 1, 6]), ((), None, [])],
)
def test_strides(shape: tuple[Dim, ...], order: tuple[int, ...] | None, want: list[Dim]) -> None:
    assert strides(shape, order) == want


@pytest.mark.parametrize(
    ("index", "loops"),
    [
        (i, [I]),
        (4 * k + i, [K, I]),
        (4 * N * k + 4 * j + i, [K, J, I]),
        (N * i + j, [I, J]),
        (3 * k + i, None),
        (i + 1, None),
        (2 * i, None),
        (N, None),
        (0, []),
    ],
)
def test_covering_loops(index: Dim, loops: list[Symbol] | None) -> None:
    """Those that cover run through 0, 1, 2, ... in order."""
    found = covering_loops(index)
    assert found == loops
    if not found:
        return
    ranges = [range(evaluate(s.extent, lambda _: 3)) if s.extent is not None else range(3) for s in found]
    points = [dict(zip(found, at, strict=True)) for at in cartesian(*ranges)]
    walk = [evaluate(index, lambda s, at=at: at.get(s, 3)) for at in points]
    assert walk == list(range(math.prod(map(len, ranges))))


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
