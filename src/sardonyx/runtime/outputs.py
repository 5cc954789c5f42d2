"""Memory of large outputs, used again once the caller has let go of them.

A new piece of memory costs a page fault for every four kilobytes: for the keys and values of a language model more than their
computation. So a large output lies in an arena, which goes back to its pool when the array and all views of it are gone.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.runtime.arrays import Array
from sardonyx.runtime.memory import Arena, ArenaPool

LARGE = 1 << 18
"""Bytes; what is smaller comes from the allocator's own store."""


class OutputMemory:
    """Where one output of a program is put, run for run."""

    def __init__(self) -> None:
        self._pool = ArenaPool()
        self._lent: dict[int, tuple[weakref.ref[Array], Arena]] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Like numpy.empty; the array may be kept, changed and passed on as any other. Raises MemoryError, ValueError for a negative size."""
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE or min(shape) < 0:
            return np.empty(shape, dtype)
        arena = self._pool.borrow(size)
        owner = arena.memory[:size]
        there = weakref.ref(owner, self._give_back)
        self._lent[id(there)] = there, arena
        return np.frombuffer(owner.data, np.uint8).view(dtype).reshape(shape)  # numpy does not look behind a memoryview

    def close(self) -> None:
        """Nothing is kept any longer; arrays that are still there stay sound."""
        self._pool.close()

    def _give_back(self, gone: weakref.ref[Array]) -> None:
        self._pool.give_back(self._lent.pop(id(gone))[1])
