"""Bounds hold for all values of what moves, and are reached where nothing occurs twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.base.bounds import bounds, greatest
from sardonyx.base.symbolic import Defined, Dim, Int, Symbol, equals, evaluate, maximum, minimum, symbol, value

T, N = Symbol("t", 7), Symbol("n")
t, n = value(T), value(N)

leaves = st.one_of(st.integers(-9, 9), st.just(t), st.just(n))


def combined(inner: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]),
        pairs.map(lambda p: p[0] - p[1]),
        pairs.map(lambda p: p[0] * p[1]),
        pairs.map(lambda p: minimum(*p)),
        pairs.map(lambda p: maximum(*p)),
        pairs.map(lambda p: equals(*p)),
        pairs.map(lambda p: p[0] // maximum(p[1], 1)),
        pairs.map(lambda p: p[0] % maximum(p[1], 1)),
        inner.map(lambda e: value(Defined(n)) if isinstance(n := maximum(e, 0), Int) else n),  # what is defined is a size
    )


def number(e: Dim, at: int, size: int) -> int:
    return evaluate(e, lambda s: number(s.definition, at, size) if isinstance(s, Defined) else {T: at, N: size}[s])


@settings(max_examples=400, deadline=None)
@given(st.recursive(leaves, combined, max_leaves=8), st.integers(0, 12), st.integers(-3, 5), st.integers(0, 6))
def test_no_value_lies_outside(e: Dim, size: int, low: int, width: int) -> None:
    least, most = bounds(e, {T: (low, low + width)})
    for at in range(low, low + width + 1):
        assert number(least, 0, size) <= number(e, at, size) <= number(most, 0, size), (e, at)


def test_what_does_not_move_stays_as_it_is() -> None:
    e = n * n // 3 + minimum(n, 4)
    assert bounds(e, {T: (0, 5)}) == (e, e)


def test_the_greatest_of_a_slice() -> None:
    """What x[:t + 1], x[t:] and x[a:b] of it have at most, for t in [0, n)"""
    assert greatest(t + 1, T, 0, n - 1) == n
    assert greatest(n - t, T, 0, n - 1) == n
    assert greatest(minimum(t + 1, 5), T, 0, 2) == 3
    assert greatest(maximum(minimum(t, n), 0), T, 0, 1 << 62) == minimum(1 << 62, n)


def test_a_product_of_what_may_be_negative() -> None:
    assert bounds((t - 2) * (t - 3), {T: (0, 5)})[1] >= 6


def test_defined_sizes_are_looked_into() -> None:
    half = value(Defined(t // 2 + symbol("m")))
    assert greatest(half, T, 0, 9) == 4 + symbol("m")
