"""The rules of division, minima, maxima and comparisons."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.base.symbolic import (
    Dim,
    Int,
    ceil_divide,
    equals,
    maximum,
    minimum,
    round_up,
    value,
)
from tests.base.symbolic.values import (
    DIVISORS,
    SUMS,
    K,
    M,
    N,
    i,
    j,
    k,
    total,
)


@settings(deadline=None)
@given(SUMS, st.sampled_from(DIVISORS))
def test_quotient_and_remainder_belong_together(parts: list[tuple[int, list[Dim]]], by: Dim) -> None:
    e = total(parts)
    assert (e // by) * by + e % by == e


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
