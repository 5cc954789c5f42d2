"""Atoms of quotients and the like."""

from __future__ import annotations

import pytest

from sardonyx.base.budget import OverBudget
from sardonyx.base.symbolic import Derived, Dim, minimum, single, weight
from sardonyx.base.symbolic.derived import MOST_WEIGHT, lone_quotient
from tests.base.symbolic.values import N, i


def test_what_they_are_made_of() -> None:
    atom = Derived("%", N + i, 3)
    assert atom.operands == (N + i, 3)
    assert atom.is_remainder
    assert atom.extent == 3
    assert not Derived("//", N + i, 3).is_remainder


def test_a_quotient_alone() -> None:
    found = lone_quotient(N // 2)
    assert found is not None
    assert (found.op, found.left, found.right) == ("//", N, 2)
    assert lone_quotient(N // 2 + 1) is lone_quotient(N % 2) is lone_quotient(N) is lone_quotient(3) is None
    assert single(N // 2) is None


def test_a_formula_has_a_longest_length() -> None:
    """Each one holds the one before twice: a hundred of them would not fit into memory."""
    assert weight(N) == weight(2 * N) == 1
    assert weight(N * i // 3 + N) == 4

    def doubled(size: Dim, times: int) -> Dim:
        for n in range(times):
            size = minimum(size * 3 - n, size + i)
        return size

    assert 1000 < weight(doubled(N, 10)) <= MOST_WEIGHT
    with pytest.raises(OverBudget, match="too long"):
        doubled(N, 100)
