"""Loops that certainly have no iteration; loops that run are tested in test_control.py and test_reductions.py."""

from __future__ import annotations

import pytest

from sardonyx.base.symbolic import Dim, symbol
from sardonyx.codegen.loops import is_empty

N = symbol("n")


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (0, 0, True),
        (0, 1, False),
        (3, 3, True),
        (3, 2, True),
        (3, 4, False),
        (-2, 0, False),
        (N, N, True),
        (N, N + 1, False),
        (0, N, False),
    ],
)
def test_empty_ranges(lo: Dim, hi: Dim, expected: bool) -> None:
    assert is_empty(lo, hi) == expected
