"""Looking into integers."""

from __future__ import annotations

import math
from itertools import product as cartesian

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sardonyx.base.symbolic import (
    Dim,
    Symbol,
    coefficient,
    covering_loops,
    evaluate,
    single,
    substitute,
    symbols,
    terms,
    value,
)
from tests.base.symbolic.values import (
    EXPRESSIONS,
    LOOPS,
    I,
    J,
    K,
    N,
    Pair,
    i,
    j,
    k,
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
