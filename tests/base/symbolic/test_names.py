"""Sizes with a name that stand for a formula."""

from __future__ import annotations

from sardonyx.base.symbolic import (
    Defined,
    Dim,
    alias,
    definitions,
    ground,
    named,
    single,
    symbols,
)
from tests.base.symbolic.values import (
    SIZES,
    M,
    N,
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
