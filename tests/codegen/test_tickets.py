"""Taking turns: parts are taken once, late threads take nothing, waiting threads sleep and wake."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sardonyx.codegen.llvm_types import I64, PTR, VOID
from sardonyx.codegen.stop import emit_should_stop
from sardonyx.codegen.tickets import CLAIM_BITS, emit_await, emit_finish, emit_take
from sardonyx.runtime import abi
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import LoadedImage, load
from tests.runtime.objects import compile_module, function, new_module

POINTER, NUMBER = ctypes.c_void_p, ctypes.c_int64


@pytest.fixture(scope="module")
def image() -> Iterator[LoadedImage]:
    """take(word, turn, parts), finish(sync, count), await(sync, turn), to be called from here."""
    module = new_module()
    for name, emit, result, arguments in (
        ("take", emit_take, I64, (PTR, I64, I64)),
        ("finish", emit_finish, VOID, (PTR, I64)),
        ("await", lambda module: emit_await(module, emit_should_stop(module)), VOID, (PTR, I64, PTR)),
    ):
        inner = emit(module)
        made, builder = function(module, f"{name}_", result, *arguments)
        found = builder.call(inner, made.args)
        builder.ret(found) if result is I64 else builder.ret_void()
    loaded = load(link([compile_module(module)]))
    yield loaded
    loaded.close()


def new_sync() -> np.ndarray:
    return np.zeros(2 * abi.SYNC_SLOTS, np.int32)


def word_of(sync: np.ndarray, offset: int) -> int:
    return int(sync[offset // 4])


def test_parts_are_taken_one_after_the_other(image: LoadedImage) -> None:
    take = ctypes.CFUNCTYPE(NUMBER, POINTER, NUMBER, NUMBER)(image.address("take_"))
    word = np.zeros(1, np.int64)
    at = word.ctypes.data
    assert [take(at, 5, 3) for _ in range(5)] == [0, 1, 2, -1, -1]
    assert word[0] == 5 << CLAIM_BITS | 3
    assert take(at, 4, 3) == take(at, 0, 1) == -1, "late"
    assert [take(at, 8, 1) for _ in range(2)] == [0, -1]
    assert [take(at, 8 + abi.MOST_CHUNKS, abi.MOST_CHUNKS) for _ in range(17)] == [*range(16), -1]
    assert word[0] == (8 + 16) << CLAIM_BITS | 16


def test_each_part_is_taken_by_one_thread(image: LoadedImage) -> None:
    take = ctypes.CFUNCTYPE(NUMBER, POINTER, NUMBER, NUMBER)(image.address("take_"))
    word, turns = np.zeros(1, np.int64), range(0, 4000, 4)

    def taker(_: int) -> list[tuple[int, int]]:
        return [(turn, part) for turn in turns for _ in range(4) if (part := take(word.ctypes.data, turn, 4)) >= 0]

    with ThreadPoolExecutor(3) as pool:
        found = [pair for taken in pool.map(taker, range(3)) for pair in taken]
    assert len(found) == len(set(found))
    assert len(found) <= 4 * len(turns)
    assert {(turns[-1], part) for part in range(4)} <= set(found)


@pytest.mark.parametrize("start", [0, 2**32 - 2, 2**40 + 2**31 - 1], ids=["first", "wraps", "signed"])
def test_waiting_until_enough_is_done(image: LoadedImage, start: int) -> None:
    finish = ctypes.CFUNCTYPE(None, POINTER, NUMBER)(image.address("finish_"))
    await_ = ctypes.CFUNCTYPE(None, POINTER, NUMBER, POINTER)(image.address("await_"))
    sync = new_sync()
    sync[:1].view(np.uint32)[0] = start % 2**32
    await_(sync.ctypes.data, start, None)
    await_(sync.ctypes.data, start - 3, None)  # a thread that comes late
    waiting = [threading.Thread(target=await_, args=(sync.ctypes.data, start + 3, None)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    until(lambda: word_of(sync, abi.SYNC_SLEEPERS) == 2)
    finish(sync.ctypes.data, 0)
    finish(sync.ctypes.data, 2)
    time.sleep(0.02)
    assert all(thread.is_alive() for thread in waiting)
    finish(sync.ctypes.data, 2)
    for thread in waiting:
        thread.join(30)
        assert not thread.is_alive()
    assert word_of(sync, abi.SYNC_SLEEPERS) == 0
    assert word_of(sync, abi.SYNC_DONE) % 2**32 == (start + 4) % 2**32


def test_threads_that_may_not_spin_sleep_at_once(image: LoadedImage) -> None:
    finish = ctypes.CFUNCTYPE(None, POINTER, NUMBER)(image.address("finish_"))
    await_ = ctypes.CFUNCTYPE(None, POINTER, NUMBER, POINTER)(image.address("await_"))
    sync = new_sync()
    sync[abi.SYNC_FLAGS // 4] = abi.NO_SPIN
    thread = threading.Thread(target=await_, args=(sync.ctypes.data, 1, None))
    thread.start()
    until(lambda: word_of(sync, abi.SYNC_SLEEPERS) == 1)
    finish(sync.ctypes.data, 1)
    thread.join(30)
    assert not thread.is_alive()


def until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
