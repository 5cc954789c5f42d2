"""Atoms of quotients and the like."""

from __future__ import annotations

from sardonyx.base.symbolic import Derived, single
from sardonyx.base.symbolic.derived import lone_quotient
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
