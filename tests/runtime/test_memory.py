"""Aligned memory and the pool of arenas."""

from __future__ import annotations

import gc
import mmap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sardonyx.runtime import memory
from sardonyx.runtime.memory import ALIGNMENT, HUGE_PAGE, IDLE_SECONDS, ArenaPool, allocate


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(memory, "time", made)
    return made


@pytest.mark.parametrize("size", [1, 63, 64, 4097, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 5 * HUGE_PAGE])
def test_memory_is_aligned_and_usable(size: int):
    piece = allocate(size)
    assert piece.shape == (size,)
    assert piece.ctypes.data % (HUGE_PAGE if size >= HUGE_PAGE else ALIGNMENT) == 0
    piece[:] = 7
    assert int(piece.sum(dtype=np.int64)) == 7 * size


def test_no_memory_is_an_empty_array():
    assert allocate(0).shape == (0,)


def test_views_keep_memory_alive():
    view = allocate(4 * HUGE_PAGE).view(np.float32)[-1000:]
    view[:] = 3
    gc.collect()
    assert view.sum() == 3000


def test_large_memory_goes_back_to_the_system():
    address = allocate(64 * HUGE_PAGE).ctypes.data
    with open("/proc/self/maps", encoding="utf-8") as maps:
        spans = [[int(part, 16) for part in line.split()[0].split("-")] for line in maps]
    assert not any(start <= address and address + 64 * HUGE_PAGE <= end for start, end in spans)


def test_memory_that_cannot_be_had():
    with pytest.raises(ValueError, match="-1 bytes"):
        allocate(-1)
    for size in (1 << 60, 1 << 70):
        with pytest.raises(MemoryError, match=f"{size} bytes of memory"):
            allocate(size)


def test_a_kernel_without_huge_pages_will_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345, raising=False)
    assert allocate(HUGE_PAGE).size == HUGE_PAGE


def test_an_arena_is_lent_again():
    pool = ArenaPool()
    first = pool.borrow(1000)
    second = pool.borrow(500)
    assert first.address != second.address
    pool.give_back(second)
    pool.give_back(first)
    assert pool.borrow(900) is first
    assert pool.borrow(0) is second
    assert pool.borrow(0).address % ALIGNMENT == 0


def test_an_arena_that_is_too_small_is_replaced_by_one_with_room_to_grow():
    pool = ArenaPool()
    pool.give_back(pool.borrow(1000))
    grown = pool.borrow(1001)
    assert grown.size == 1500
    assert grown.address % ALIGNMENT == 0
    pool.give_back(grown)
    assert pool.borrow(1400) is grown
    assert pool.borrow(10_000).size == 10_000


def test_arenas_that_stay_idle_are_freed(clock: Clock):
    pool = ArenaPool()
    first, second = pool.borrow(1000), pool.borrow(1000)
    pool.give_back(first)
    pool.give_back(second)
    assert pool.idle_bytes == 2000
    for _ in range(3):
        clock.now += IDLE_SECONDS - 1
        pool.give_back(pool.borrow(1000))
    assert pool.idle_bytes == 1000
    assert pool.borrow(1000) is second


def test_an_arena_that_is_much_too_large_for_long_is_freed(clock: Clock):
    pool = ArenaPool()
    pool.give_back(pool.borrow(10_000))
    clock.now += IDLE_SECONDS - 1
    pool.give_back(pool.borrow(100))
    assert pool.idle_bytes == 10_000
    clock.now += 2
    pool.give_back(pool.borrow(100))
    assert pool.idle_bytes == 0


def test_a_long_run_keeps_its_arena(clock: Clock):
    pool = ArenaPool()
    arena = pool.borrow(1000)
    clock.now += 10 * IDLE_SECONDS
    pool.give_back(arena)
    assert pool.borrow(1000) is arena


def test_trim_and_close_free_what_is_idle():
    pool = ArenaPool()
    lent = pool.borrow(1000)
    pool.give_back(pool.borrow(500))
    pool.trim()
    assert pool.idle_bytes == 0
    pool.give_back(pool.borrow(500))
    pool.close()
    assert pool.idle_bytes == 0
    pool.give_back(lent)
    assert pool.idle_bytes == 0


def test_no_two_threads_share_an_arena():
    pool, lent, guard = ArenaPool(), set(), threading.Lock()

    def work(seed: int) -> None:
        for step in range(300):
            arena = pool.borrow(64 + (seed * step) % 5000)
            with guard:
                assert arena.address not in lent
                lent.add(arena.address)
            arena.memory[:64] = seed
            assert (arena.memory[:64] == seed).all()
            with guard:
                lent.remove(arena.address)
            pool.give_back(arena)

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(work, range(8)))
