"""DLPack: capsules that are taken and made, and those that are refused."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sardonyx.base import dtypes
from sardonyx.runtime import dlpack

NUMBERS = [d for d in dtypes.ALL if d.is_number and d.bits >= 8]


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)])
def test_there_and_back(dtype: dtypes.DType, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, dtype.numpy)
    taken = dlpack.take(dlpack.export(x))
    assert (taken.dtype, taken.shape) == (x.dtype, x.shape)
    assert taken.size == 0 or taken.ctypes.data == x.ctypes.data
    assert taken.flags.writeable
    assert taken.flags.c_contiguous


class Tracked(np.ndarray[Any, Any]):
    """An array that weak references may point to."""


def test_memory_is_kept_as_long_as_somebody_has_it() -> None:
    x = np.ones(1000).view(Tracked)
    there = weakref.ref(x)
    taken = dlpack.take(dlpack.export(x))
    del x
    gc.collect()
    assert there() is not None
    part = taken[3:]
    del taken
    gc.collect()
    assert part.sum() == 997
    del part
    gc.collect()
    assert there() is None


def test_a_capsule_that_nobody_takes_lets_go() -> None:
    x = np.ones(10, ml_dtypes.bfloat16).view(Tracked)
    there = weakref.ref(x)
    capsule = dlpack.export(x)
    del x
    assert there() is not None
    del capsule
    gc.collect()
    assert there() is None


@pytest.mark.parametrize("used", [None, 3, object()])
def test_no_capsules(used: Any) -> None:
    with pytest.raises(TypeError, match="valid DLPack capsule"):
        dlpack.take(used)


def test_a_capsule_that_was_used() -> None:
    capsule = dlpack.export(np.ones(3))
    dlpack.take(capsule)
    with pytest.raises(TypeError, match="valid DLPack capsule"):
        dlpack.take(capsule)


@pytest.mark.parametrize("device", [2, 3, 14])
def test_memory_of_another_device(device: int) -> None:
    capsule = dlpack.export(np.ones(3))
    dlpack._tensor(capsule).device_type = device
    with pytest.raises(RuntimeError, match=f"DLPack's type {device}, not on the CPU"):
        dlpack.take(capsule)
    dlpack._tensor(capsule).device_type = 1
    assert dlpack.take(capsule).sum() == 3, "it was not used up"


@pytest.mark.parametrize(("code", "bits", "lanes"), [(17, 4, 2), (9, 8, 1), (0, 7, 1), (2, 32, 4), (200, 8, 1), (4, 32, 1)])
def test_types_that_are_not_known(code: int, bits: int, lanes: int) -> None:
    capsule = dlpack.export(np.ones(4, np.uint8))
    tensor = dlpack._tensor(capsule)
    tensor.code, tensor.bits, tensor.lanes = code, bits, lanes
    with pytest.raises(RuntimeError, match="is not supported"):
        dlpack.take(capsule)


@pytest.mark.parametrize("array", [np.array(["a"], object), np.ones(2, ml_dtypes.int4)])
def test_what_can_not_be_exported(array: Any) -> None:
    with pytest.raises(RuntimeError, match="can't be exported"):
        dlpack.export(array)


def test_read_only_memory_is_not_exported() -> None:
    x = np.ones(3)
    x.setflags(write=False)
    with pytest.raises(RuntimeError, match="read-only"):
        dlpack.export(x)
