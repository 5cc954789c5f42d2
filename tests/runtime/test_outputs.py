"""Memory of outputs: used again when nobody has it any longer, and never before."""

from __future__ import annotations

import gc
import threading

import ml_dtypes
import numpy as np
import pytest

from sardonyx.runtime.outputs import LARGE, OutputMemory

F32 = np.dtype(np.float32)
SHAPE = (LARGE // 4 // 100, 100)


def test_it_is_used_again() -> None:
    memory = OutputMemory()
    first = memory.empty((SHAPE[0] + 1, 100), F32)
    place = first.ctypes.data
    del first
    assert memory.empty((SHAPE[0] + 1, 100), F32).ctypes.data == place


@pytest.mark.parametrize(
    "keep",
    [
        lambda x: x[3:],
        lambda x: x.T,
        lambda x: x.reshape(-1)[::7],
        lambda x: x.view(np.int32),
        lambda x: memoryview(x),
        lambda x: np.asarray(x[None]),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, axis=0),
        lambda x: [x[0]],
    ],
    ids=["slice", "transpose", "flat", "view", "memoryview", "asarray", "windows", "list"],
)
def test_a_view_keeps_it(keep) -> None:  # type: ignore[no-untyped-def]
    memory = OutputMemory()
    first = memory.empty((SHAPE[0] + 1, 100), F32)
    first[:] = 7
    place, kept = first.ctypes.data, keep(first)
    del first
    gc.collect()
    second = memory.empty((SHAPE[0] + 1, 100), F32)
    second[:] = 8
    assert second.ctypes.data != place
    assert np.all(np.asarray(kept).view(F32) == 7)


@pytest.mark.parametrize(
    "dtype", [np.dtype(np.float64), np.dtype(bool), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)], ids=str
)
def test_arrays_are_like_numpys(dtype: np.dtype) -> None:
    x = OutputMemory().empty((LARGE, 1, 3), dtype)
    assert (x.shape, x.dtype) == ((LARGE, 1, 3), dtype)
    assert x.flags.carray
    x[:] = 1
    assert x.sum(dtype=np.float64) == 3 * LARGE


def test_small_and_empty_ones_are_numpys_own() -> None:
    for shape in ((), (3,), (0, LARGE), (LARGE, 0)):
        assert OutputMemory().empty(shape, F32).flags.owndata


def test_a_size_that_cannot_be() -> None:
    for shape in ((-1, 2), (-1000, -100000)):
        with pytest.raises(ValueError, match="negative"):
            OutputMemory().empty(shape, F32)
    with pytest.raises((MemoryError, ValueError)):
        OutputMemory().empty((1 << 40, 1 << 20), F32)


def test_arrays_outlive_their_memory() -> None:
    memory = OutputMemory()
    x = memory.empty(SHAPE, F32)
    x[:] = 5
    memory.close()
    del memory
    gc.collect()
    assert np.all(x == 5)


def test_threads_never_share() -> None:
    memory = OutputMemory()
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            x = memory.empty((SHAPE[0] + number, 100), F32)
            x[:] = number
            if not np.all(x == number):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
