"""Memory of large outputs, which is reused once the caller has dropped the output.

New memory costs a page fault per 4 KiB, which for the keys and values of a language model is more than their computation. So
a large output lies in an arena, which returns to its pool when the array and all views of it are gone.
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
"""Bytes from which an output lies in an arena; smaller ones come from numpy's allocator."""


class OutputMemory:
    """Allocates the memory of one output for run after run of a program, reusing what callers have dropped."""

    def __init__(self) -> None:
        self._pool = ArenaPool()
        self._lent: dict[int, tuple[weakref.ref[Array], Arena]] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Return an array like numpy.empty. The caller may keep, change and pass on the array. Raises MemoryError, or ValueError
        for a negative size.
        """
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE or min(shape) < 0:
            return np.empty(shape, dtype)
        arena = self._pool.borrow(size)
        owner = arena.memory[:size]
        there = weakref.ref(owner, self._give_back)
        self._lent[id(there)] = there, arena
        # through a memoryview, so that every view of the result keeps `owner` alive
        return np.frombuffer(owner.data, np.uint8).view(dtype).reshape(shape)

    def close(self) -> None:
        """Free the pool. Arrays that callers still hold stay valid."""
        self._pool.close()

    def _give_back(self, gone: weakref.ref[Array]) -> None:
        self._pool.give_back(self._lent.pop(id(gone))[1])
