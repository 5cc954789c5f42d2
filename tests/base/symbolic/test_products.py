"""Products of sizes."""

from __future__ import annotations

import pytest

from sardonyx.base.symbolic import Alias, Dim, Symbol, evaluate, product, single, strides, symbol, symbols, weight
from sardonyx.base.symbolic.names import LONG, definitions
from tests.base.symbolic.values import M, N


@pytest.mark.parametrize(
    ("shape", "order", "want"),
    [
        ((2, 3, 4), None, [12, 4, 1]),
        ((N, 3, M), None, [3 * M, M, 1]),
        ((2, 3, 4), (2, 0, 1), [3, 1, 6]),
        ((), None, []),
        ((2, 0, 4), None, [4, 4, 1]),
        ((0, 5), (1, 0), [1, 1]),
    ],
)
def test_strides(shape: tuple[Dim, ...], order: tuple[int, ...] | None, want: list[Dim]) -> None:
    assert strides(shape, order) == want


def number(e: Dim, size: int) -> int:
    """e where all sizes without a definition are `size`."""
    found: dict[Symbol, int] = {}
    for s in definitions(symbols(e)):
        found[s] = evaluate(s.definition, lambda inner: found.get(inner, size))
    return evaluate(e, lambda inner: found.get(inner, size))


def test_products_of_many_sums_stay_short() -> None:
    """64 factors of two terms each would be 2^64 terms. Their value stays the same, and so does the name of equal products."""
    shape = [symbol(f"d{a}") + 1 for a in range(64)]
    whole = product(shape)
    assert weight(whole) <= 3 * LONG
    assert whole == product(shape)
    assert number(whole, 1) == 2**64
    assert all(weight(step) <= 3 * LONG for step in strides(shape))
    assert number(strides(shape)[0], 1) == 2**63


def test_short_products_have_no_names() -> None:
    assert single(product([N, M])) is None
    assert not any(isinstance(s, Alias) for s in symbols(product([N, M + 1, N + 2])))
