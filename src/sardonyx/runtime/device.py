"""Memory that belongs to a device, such as a GPU: the device, tensors in its memory, and values with copies in several memories."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from sardonyx.base.errors import Fail
from sardonyx.runtime.arrays import Array


class Device(abc.ABC):
    """A device with memory that numpy can't see. Several threads may use it at once.

    Sardonyx asks for memory, copies between it and the CPU's memory, and tells when memory is no longer used. What stands for a
    piece of memory is the device's own affair: an address, a handle, or an object.

    There is one object for each device in a process: a provider returns the same one each time, and tensors of two objects are
    in two memories. name: as users write it in `OrtValue` and `IOBinding`, such as "npu"; number: among devices of this name.
    kind: the number of the type as `OrtDevice` has it, 1 for a GPU and 3 for an NPU. vendor_id: see OrtDeviceVendorId.
    """

    name: str
    number: int = 0
    kind: ClassVar[int] = 1
    vendor_id: ClassVar[int] = 0

    @abc.abstractmethod
    def allocate(self, size: int) -> Any:
        """Allocate memory for `size` bytes, at least 1, and return what stands for it. Raises MemoryError if there is none."""

    @abc.abstractmethod
    def free(self, memory: Any) -> None:
        """Free what `allocate` returned; nothing uses it any more."""

    @abc.abstractmethod
    def copy_in(self, source: Array, target: Any) -> None:
        """Copy a C-contiguous array to the beginning of a piece of memory. The array may change as soon as this returns."""

    @abc.abstractmethod
    def copy_out(self, source: Any, target: Array) -> None:
        """Copy the beginning of a piece of memory to a C-contiguous array, when all earlier work on it is done."""

    @abc.abstractmethod
    def copy(self, source: Any, target: Any, size: int) -> None:
        """Copy `size` bytes from the beginning of one piece of memory to that of another."""

    def synchronize(self) -> None:
        """Wait until all work given to the device is done. By default, nothing is waited for."""
        return

    def adopt(self, address: int, size: int) -> Any:
        """Return what stands for memory at an address that a user allocated, and frees. Raises RuntimeError if the device has no
        addresses, or if no such memory is there.
        """
        raise RuntimeError(f"{self} takes no memory by its address.")

    def address(self, memory: Any) -> int:
        """Return the address of a piece of memory. Raises RuntimeError if the device has no addresses."""
        raise RuntimeError(f"{self} tells no addresses of its memory.")

    def __str__(self) -> str:
        return f"the device {self.name}:{self.number}"


class Buffer:
    """A tensor in a device's memory, which is freed with it.

    memory: what stands for the memory on the device.
    """

    __slots__ = ("__weakref__", "_owned", "device", "dtype", "memory", "shape")

    def __init__(self, device: Device, shape: Sequence[int], dtype: np.dtype[Any], adopted: Any = None) -> None:
        """Allocate a tensor with undefined elements. adopted: memory that somebody else frees, to use instead. Raises MemoryError
        if there is no memory, Fail for elements that have no fixed size.
        """
        self._owned = False  # until there is something to free
        self.device, self.shape, self.dtype = device, tuple(shape), np.dtype(dtype)
        if self.dtype.hasobject:
            raise Fail(f"{device} takes no tensors of {self.dtype}: only numbers can be copied there")
        self.memory = adopted if adopted is not None else device.allocate(max(self.nbytes, 1))
        self._owned = adopted is None

    @classmethod
    def of(cls, device: Device, array: Array) -> Buffer:
        """Copy an array to a device. Raises as the constructor does."""
        made = cls(device, array.shape, array.dtype)
        transfer(array, made)
        return made

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.size * self.dtype.itemsize

    def numpy(self) -> Array:
        """Copy the tensor to a new array."""
        made = np.empty(self.shape, self.dtype)
        transfer(self, made)
        return made

    def __del__(self) -> None:
        if self._owned:
            self._owned = False
            self.device.free(self.memory)


Tensor: TypeAlias = "Array | Buffer"  # a tensor in the CPU's memory or in a device's
Target: TypeAlias = "Array | Buffer | Device | None"
"""Where an output goes: into a given tensor, into new memory on a device, or, for None, into new memory wherever it is computed."""


def home(value: Any) -> Device | None:
    """Return the device in whose memory a value is; None for the CPU's."""
    return value.device if type(value) is Buffer else None


def transfer(source: Tensor, target: Tensor) -> None:
    """Copy a tensor into another with the same shape and dtype, in any memory. Between two devices it is copied through the CPU's
    memory.
    """
    if not source.nbytes:
        return
    if not isinstance(source, Buffer):
        if isinstance(target, Buffer):
            target.device.copy_in(np.ascontiguousarray(source), target.memory)
        else:
            np.copyto(target, source)
    elif not isinstance(target, Buffer):
        source.device.copy_out(source.memory, target)
    elif source.device is target.device:
        source.device.copy(source.memory, target.memory, source.nbytes)
    else:
        target.device.copy_in(source.numpy(), target.memory)


def duplicate(value: Any, device: Device | None) -> Any:
    """Copy a value to new memory of a device, or of the CPU."""
    if not isinstance(value, np.ndarray | Buffer):
        return value.copy() if isinstance(value, list | dict) else value
    if device is None:
        return value.numpy() if isinstance(value, Buffer) else value.copy()
    made = Buffer(device, value.shape, value.dtype)
    transfer(value, made)
    return made


class Copies:
    """A value in a run, with a copy in each memory where it has been needed. Sequences, maps and absent values have none.

    lent: does the value belong to somebody else (it is fed, or a constant), so that the caller of a run may not get it itself?
    """

    __slots__ = ("_first", "_there", "lent")

    def __init__(self, value: Any, lent: bool = False) -> None:
        self.lent = lent
        self._first = value
        self._there: dict[Device | None, Any] = {home(value): value}

    def on(self, device: Device | None) -> Any:
        """Return the value in this memory, copying it there if no run has needed it there yet."""
        found = self._there.get(device)
        if found is None:
            found = self._there[device] = self._moved(device)
        return found

    def _moved(self, device: Device | None) -> Any:
        if device is None:
            return self._first.numpy() if type(self._first) is Buffer else self._first
        source = self.on(None)
        return Buffer.of(device, source) if isinstance(source, np.ndarray) else source

    def owned(self, device: Device | None) -> Any:
        """Return the value in this memory for a caller, who may change it: once itself, if it isn't lent, then copies of it."""
        if not self.lent:
            self.lent = True
            return self.on(device)
        return duplicate(self.nearest(device), device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the value in the CPU's memory, for numpy's functions."""
        return np.asarray(self.on(None), dtype)

    def first(self) -> Any:
        """Return the value where it was computed."""
        return self._first

    def nearest(self, device: Device | None) -> Any:
        """Return the copy in this memory, or, if there is none, one elsewhere: in the CPU's memory, or where it was computed."""
        return self._there.get(device, self._there.get(None, self._first))
