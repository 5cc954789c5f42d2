"""The state of random operators: two words that each run of a program gets after its other inputs.

    state[0]    for nodes with a seed: depends on the number of the run alone, so a new session repeats the sequence
    state[1]    for other nodes: depends also on the program's seed, from `set_seed`, or else from the operating system

Runs are numbered by an atomic counter when they begin.
"""

from __future__ import annotations

import itertools
import os

import numpy as np

from sardonyx.runtime.arrays import Array

STATE = "@draws"
"""Name of the input that holds the state; no value of a model has this name."""
WORD, LONG = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF

_seeded: tuple[int, itertools.count[int]] | None = None


def set_seed(seed: int) -> None:
    """Fix what nodes without a seed draw in sessions that are made from now on; each session's seed follows from its number.
    Raises TypeError unless `seed` is an int.
    """
    global _seeded
    if not isinstance(seed, int):
        raise TypeError(f"the seed must be an int, not {type(seed).__name__}")
    _seeded = seed, itertools.count()


def mixed(*numbers: int) -> int:
    """Hash the numbers to 64 bits (SplitMix64)."""
    total = 0
    for number in numbers:
        total = (total + number + 0x9E3779B97F4A7C15) & LONG
        total = (total ^ total >> 30) * 0xBF58476D1CE4E5B9 & LONG
        total = (total ^ total >> 27) * 0x94D049BB133111EB & LONG
        total ^= total >> 31
    return total


class Draws:
    """Provides the random state of a program's runs."""

    def __init__(self) -> None:
        seeded = _seeded
        self._own = int.from_bytes(os.urandom(8), "little") if seeded is None else mixed(seeded[0] & LONG, next(seeded[1]))
        self._runs = itertools.count()

    def next(self) -> Array:
        """Return the state, u32[2], of the run that begins now."""
        run = next(self._runs)
        return np.array([mixed(run) & WORD, mixed(self._own, run) & WORD], np.uint32)
