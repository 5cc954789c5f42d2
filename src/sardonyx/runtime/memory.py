"""Aligned memory for weights and arenas, and the pool of arenas that the runs of a program borrow from."""

from __future__ import annotations

import mmap
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec import Struct

if TYPE_CHECKING:
    import numpy.typing as npt

Bytes: TypeAlias = "npt.NDArray[np.uint8]"

ALIGNMENT = 64
HUGE_PAGE = 2 << 20
IDLE_SECONDS = 10.0
"""Seconds after which an arena that was idle, or less than half used, is freed."""


def allocate(size: int) -> Bytes:
    """Allocate uint8[size] of undefined content, aligned to 64 bytes; a large piece is aligned to huge pages, and huge pages are
    requested.

    The memory lives as long as the array and its views. Large pieces are returned to the system at once when they are freed.
    Raises ValueError for a negative size, MemoryError if the system has no such memory.
    """
    if size < 0:
        raise ValueError(f"can't allocate {size} bytes of memory")
    if size < HUGE_PAGE or sys.platform == "win32":
        return _align(np.empty(size + ALIGNMENT, np.uint8), size, ALIGNMENT)
    try:
        pages = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"can't allocate {size} bytes of memory: {error}") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        _advise(pages, mmap.MADV_HUGEPAGE)
    return _align(np.frombuffer(pages, np.uint8), size, HUGE_PAGE)


def _advise(pages: mmap.mmap, advice: int) -> None:
    """Advise the kernel; kernels without huge pages refuse, which is ignored."""
    try:
        pages.madvise(advice)
    except OSError:
        return


def _align(memory: Bytes, size: int, alignment: int) -> Bytes:
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]


class Arena(Struct, eq=False):
    """Working memory of one run. needed: the bytes that its borrower asked for. used: the time when at least half of it was last
    needed.
    """

    memory: Bytes
    address: int
    needed: int
    used: float

    @property
    def size(self) -> int:
        return self.memory.size


class ArenaPool:
    """The arenas of a program. Threads borrow and return them without a lock, because the queue's operations are atomic."""

    def __init__(self) -> None:
        self._idle: deque[Arena] = deque()
        self._closed = False

    def borrow(self, size: int) -> Arena:
        """Borrow an arena of at least `size` bytes: the one returned last if it is large enough, else a new one. Raises
        MemoryError.

        A new arena is at least half as large again as the one it replaces, so that sizes which grow a little from run to run
        fit.
        """
        arena = self._pop()
        if arena is not None and arena.size >= size:
            arena.needed = size
            return arena
        room = 0 if arena is None else arena.size + arena.size // 2
        del arena  # free it before the larger one is allocated
        memory = allocate(max(size, room, ALIGNMENT))
        return Arena(memory, memory.ctypes.data, size, time.monotonic())

    def give_back(self, arena: Arena) -> None:
        """Return a borrowed arena. Arenas that have been idle or much too large for long are freed."""
        now = time.monotonic()
        if 2 * arena.needed >= arena.size:
            arena.used = now
        if not self._closed and now - arena.used <= IDLE_SECONDS:
            self._idle.append(arena)
        if self._closed:
            self._idle.clear()
        self._drop_oldest(now)

    def trim(self) -> None:
        """Free all idle arenas."""
        self._idle.clear()

    def close(self) -> None:
        """Free the idle arenas now, and borrowed ones when they are returned."""
        self._closed = True
        self._idle.clear()

    @property
    def idle_bytes(self) -> int:
        return sum(arena.size for arena in tuple(self._idle))

    def _pop(self) -> Arena | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _drop_oldest(self, now: float) -> None:
        """Free the arena that has been idle longest, if it is older than IDLE_SECONDS. Another thread may take it first."""
        try:
            if now - self._idle[0].used > IDLE_SECONDS:
                self._idle.popleft()
        except IndexError:
            return
