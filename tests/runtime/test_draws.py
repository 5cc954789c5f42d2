"""The state of random operators, as runs are given it; what operators make of it: tests/session/test_draws.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sardonyx.runtime import draws
from sardonyx.runtime.draws import Draws, mixed


@pytest.fixture(autouse=True)
def unseeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_seeded", None)


def states(count: int) -> np.ndarray:
    made = Draws()
    return np.array([made.next() for _ in range(count)])


def test_mixing() -> None:
    """SplitMix64's first numbers from 0 (Steele and others 2014), and every bit counts."""
    assert mixed(0) == 0xE220A8397B1DCDAF
    found = {mixed(1 << bit, number) for bit in range(64) for number in (0, 1, 1 << 63)}
    assert len(found) == 192
    assert mixed(1, 2) != mixed(2, 1)


def test_programs_share_the_first_word_alone() -> None:
    first, second = states(100), states(100)
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    assert len(np.unique(np.concatenate([first.ravel(), second[:, 1]]))) == 300


def test_a_seed_fixes_the_second_word_by_the_place_of_the_program() -> None:
    found = []
    for seed in (1, 1, -2):
        draws.set_seed(seed)
        found.append((states(5), states(5)))
    np.testing.assert_array_equal(found[0], found[1])
    assert not (found[0][0][:, 1] == found[0][1][:, 1]).any()
    assert not (found[0][0][:, 1] == found[2][0][:, 1]).any()


def test_runs_at_once_have_different_states() -> None:
    made = Draws()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: int(made.next()[0]), range(2000)))
    assert sorted(found) == sorted(int(n) for n in states(2000)[:, 0])
