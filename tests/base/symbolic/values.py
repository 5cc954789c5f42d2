"""Integer expressions that the tests draw, and what they mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from hypothesis import strategies as st

from sardonyx.base.symbolic import (
    Dim,
    Symbol,
    equals,
    evaluate,
    maximum,
    minimum,
    product,
    symbol,
    value,
)

N, M = symbol("n"), symbol("m")
I, J, K, L = Symbol("i", 4), Symbol("j", N), Symbol("k", 6), Symbol("l", N * M)  # noqa: E741
SIZES = (Symbol("n"), Symbol("m"))
LOOPS = (I, J, K, L)
ATOMS: tuple[Dim, ...] = (N, M, *map(value, LOOPS))
DIVISORS: tuple[Dim, ...] = (1, 2, 3, 4, 6, 8, N, M, N * 2, N * M, M * 4, N + 1)
i, j, k = value(I), value(J), value(K)
SEEDS = range(12)


def numbers(seed: int) -> Callable[[Symbol], int]:
    """A value for each symbol, the sizes positive and the loop variables in their range."""
    rng = random.Random(seed)
    env = {s: rng.randint(1, 7) for s in SIZES}
    for s in LOOPS:
        extent = evaluate(s.extent, env.__getitem__) if s.extent is not None else 0
        env[s] = rng.choice((0, extent - 1, rng.randrange(extent)))
    return env.__getitem__


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
SUMS = st.lists(st.tuples(st.integers(-5, 5), st.lists(st.sampled_from(ATOMS), max_size=3)), max_size=5)


def total(parts: list[tuple[int, list[Dim]]]) -> Dim:
    out: Dim = 0
    for factor, atoms in parts:
        out = out + product(atoms) * factor
    return out
