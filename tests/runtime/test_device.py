"""Buffers of a device, and values with copies in several memories. What sessions do with them is in session/test_device_plan.py."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail
from sardonyx.runtime.device import Buffer, Copies, Device, home, transfer
from tests.providers.counting import STALE, CountingDevice

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_buffer_frees_its_memory_once() -> None:
    device = CountingDevice("a")
    buffer = Buffer.of(device, X)
    piece = device.piece(buffer.memory, X.nbytes)
    assert (buffer.shape, buffer.ndim, buffer.size, buffer.nbytes, device.held()) == ((2, 3), 2, 6, 24, 24)
    np.testing.assert_array_equal(buffer.numpy(), X)
    assert home(buffer) is device
    assert home(X) is home([X]) is None
    del buffer
    gc.collect()
    assert device.held() == 0
    assert (piece == STALE).all()


def test_adopted_memory_is_not_freed() -> None:
    device = CountingDevice("a")
    owner = Buffer.of(device, X)
    adopted = Buffer(device, (3, 2), X.dtype, owner.memory)
    np.testing.assert_array_equal(adopted.numpy(), X.reshape(3, 2))
    del adopted
    gc.collect()
    np.testing.assert_array_equal(owner.numpy(), X)


def test_a_device_without_memory_and_what_it_cannot_hold() -> None:
    device = CountingDevice("a")
    device.limit = 20
    with pytest.raises(MemoryError):
        Buffer.of(device, X)
    with pytest.raises(Fail, match="the device a:0 takes no tensors of object"):
        Buffer.of(device, np.array(["text"], object))
    gc.collect()
    assert device.held() == 0


@pytest.mark.parametrize("same", [True, False])
def test_between_devices(same: bool) -> None:
    a, b = CountingDevice("a"), CountingDevice("b")
    source, target = Buffer.of(a, X), Buffer(a if same else b, X.shape, X.dtype)
    with a.counted() as here, b.counted() as there:
        transfer(source, target)
    assert (here, there) == (({"within": 1}, {}) if same else ({"out": 1}, {"in": 1}))
    np.testing.assert_array_equal(target.numpy(), X)


def test_an_empty_tensor_is_not_copied() -> None:
    device = CountingDevice("a")
    with device.counted() as counts:
        assert Buffer.of(device, np.zeros((0, 3))).numpy().shape == (0, 3)
    assert counts == {}


def test_each_memory_gets_one_copy() -> None:
    a, b = CountingDevice("a"), CountingDevice("b")
    value = Copies(Buffer.of(a, X))
    with a.counted() as here, b.counted() as there:
        assert value.on(b) is value.on(b) is value.nearest(b)
        assert value.on(None) is value.on(None)
        assert value.on(a) is value.first() is value.nearest(a)
        assert value.nearest(CountingDevice("c")) is value.on(None)
    assert (here, there) == ({"out": 1}, {"in": 1})


@pytest.mark.parametrize("value", [None, [X], {"a": 1}])
def test_what_is_no_tensor_is_where_it_is(value: object) -> None:
    assert Copies(value).on(CountingDevice("a")) is value


class Simple(Device):
    """The least that a device must do; its memory is objects without addresses."""

    name = "simple"

    def allocate(self, size: int) -> bytearray:
        return bytearray(size)

    def free(self, memory: bytearray) -> None:
        memory.clear()

    def copy_in(self, source: np.ndarray, target: bytearray) -> None:
        target[: source.nbytes] = source.tobytes()

    def copy_out(self, source: bytearray, target: np.ndarray) -> None:
        target[...] = np.frombuffer(source, target.dtype, target.size).reshape(target.shape)

    def copy(self, source: bytearray, target: bytearray, size: int) -> None:
        target[:size] = source[:size]


def test_a_device_without_addresses() -> None:
    device = Simple()
    buffer = Buffer.of(device, X)
    np.testing.assert_array_equal(buffer.numpy(), X)
    device.synchronize()
    with pytest.raises(RuntimeError, match="the device simple:0 takes no memory by its address"):
        device.adopt(64, 4)
    with pytest.raises(RuntimeError, match="the device simple:0 tells no addresses"):
        sx.OrtValue._of(buffer).data_ptr()
