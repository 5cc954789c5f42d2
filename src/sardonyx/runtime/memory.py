"""Aligned memory for weights and arenas, and the pool of arenas that a program's calls borrow from."""

from __future__ import annotations

import mmap
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Bytes: TypeAlias = "npt.NDArray[np.uint8]"

ALIGNMENT = 64
HUGE_PAGE = 2 << 20
IDLE_SECONDS = 10.0  # an arena that was idle, or less than half full, for longer is given back to the system


def allocate(size: int) -> Bytes:
    """uint8[size] of undefined content, aligned to 64 bytes; a large piece to huge pages, and asked to consist of them.

    The memory belongs to the array and its views: it goes when the last of them does. A large piece goes back to the
    system at once. Raises ValueError for a negative size, MemoryError where the system has no such piece.
    """
    if size < 0:
        raise ValueError(f"{size} bytes of memory")
    if size < HUGE_PAGE or sys.platform == "win32":
        return _align(np.empty(size + ALIGNMENT, np.uint8), size, ALIGNMENT)
    try:
        pages = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{size} bytes of memory: {error}") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        _advise(pages, mmap.MADV_HUGEPAGE)
    return _align(np.frombuffer(pages, np.uint8), size, HUGE_PAGE)


def _advise(pages: mmap.mmap, advice: int) -> None:
    """Advice only: kernels built without huge pages refuse it."""
    try:
        pages.madvise(advice)
    except OSError:
        return


def _align(memory: Bytes, size: int, alignment: int) -> Bytes:
    start = -memory.ctypes.data % alignment
    return memory[start : start + size]


@dataclass(slots=True, eq=False)
class Arena:
    """One call's working memory. `needed` is what its borrower asked for, `used` when half of it was last needed."""

    memory: Bytes
    address: int
    needed: int
    used: float

    @property
    def size(self) -> int:
        return self.memory.size


class ArenaPool:
    """Arenas of a program. Threads borrow and give back without a lock: the queue's own operations are atomic."""

    def __init__(self) -> None:
        self._idle: deque[Arena] = deque()
        self._closed = False

    def borrow(self, size: int) -> Arena:
        """An arena of at least `size` bytes, the one given back last if it is large enough. Raises MemoryError.

        A larger one than ever before leaves room to grow: sizes that rise a little from call to call find it there.
        """
        arena = self._pop()
        if arena is not None and arena.size >= size:
            arena.needed = size
            return arena
        room = 0 if arena is None else arena.size + arena.size // 2
        del arena  # two at a time would be more than the caller needs
        memory = allocate(max(size, room, ALIGNMENT))
        return Arena(memory, memory.ctypes.data, size, time.monotonic())

    def give_back(self, arena: Arena) -> None:
        """End a borrowing. What has been idle or much too large for long is freed on the way."""
        now = time.monotonic()
        if 2 * arena.needed >= arena.size:
            arena.used = now
        if not self._closed and now - arena.used <= IDLE_SECONDS:
            self._idle.append(arena)
        if self._closed:
            self._idle.clear()
        self._drop_oldest(now)

    def trim(self) -> None:
        """Give all idle arenas back to the system."""
        self._idle.clear()

    def close(self) -> None:
        """Give all back: the idle ones now, borrowed ones when they come."""
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
        """Free the arena that has been idle longest, if that is too long. Another thread may be faster."""
        try:
            if now - self._idle[0].used > IDLE_SECONDS:
                self._idle.popleft()
        except IndexError:
            return
