"""DLPack, the protocol by which libraries exchange tensors without a copy, for all dtypes, including those that numpy lacks.

A capsule with a dtype that numpy lacks is numpy's capsule for unsigned words of the same width, with the dtype in it
replaced.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.runtime.arrays import Array, address_of

CPU = 1
NAME = b"dltensor"
_FLOAT8 = {"f8e4m3fn": 10, "f8e4m3fnuz": 11, "f8e5m2": 12, "f8e5m2fnuz": 13, "f8e8m0": 14}
_CODES = {"bf16": 4, **_FLOAT8}
"""DLPack's type codes of dtypes that numpy lacks."""


class _Tensor(ctypes.Structure):
    """The struct DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Capsule:
    """An object from which numpy.from_dlpack takes a capsule."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


def export(array: Array) -> Any:
    """Return a capsule that shares the array's memory; the memory lives as long as the capsule or its consumer.

    Raises RuntimeError for dtypes that DLPack has no code for or stores packed, and for read-only memory.
    """
    dtype = dtypes.from_numpy(array.dtype)
    if not array.flags.writeable:
        raise RuntimeError("A read-only tensor can't be exported: DLPack has no way to say that it is.")
    if dtype.name in _CODES:
        capsule = array.view(f"u{dtype.itemsize}").__dlpack__()
        _tensor(capsule).code = _CODES[dtype.name]
        return capsule
    try:
        return array.__dlpack__()
    except (BufferError, TypeError) as error:
        raise RuntimeError(f"A tensor of {dtype.onnx_name} can't be exported: {error}") from error


def take(capsule: Any) -> Array:
    """Consume a capsule and return its tensor as a writable array, without a copy.

    Raises TypeError for an object that is no capsule or has been consumed, RuntimeError for memory of another device and for
    unsupported dtypes or strides.
    """
    if not _is_valid(capsule):
        raise TypeError("from_dlpack expected a valid DLPack capsule named 'dltensor'")
    tensor = _tensor(capsule)
    if tensor.device_type != CPU:
        raise RuntimeError(f"The tensor lies on a device of DLPack's type {tensor.device_type}, not on the CPU (1).")
    names = [name for name, code in _CODES.items() if code == tensor.code]
    dtype = next((d for name in names if (d := dtypes.BY_NAME[name]).bits == tensor.bits), None)
    if dtype is not None and tensor.lanes == 1:
        tensor.code = 1
    try:
        found: Array = np.from_dlpack(_Capsule(capsule))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise RuntimeError(
            f"The tensor's DLPack type (code {tensor.code}, {tensor.bits} bits) is not supported: {error}"
        ) from error
    if not found.flags.c_contiguous:
        raise RuntimeError("Only contiguous tensors are supported.")
    return at_address(address_of(found), found.shape, found.dtype if dtype is None else dtype.numpy, owner=found)


def at_address(address: int, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any = None) -> Array:
    """Return an array over memory that somebody else owns. owner: an object that is kept alive as long as the array."""
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    memory._owner = owner  # type: ignore[attr-defined]
    found: Array = np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)  # type: ignore[call-overload]
    return found


def _is_valid(capsule: Any) -> bool:
    is_valid = ctypes.pythonapi.PyCapsule_IsValid
    is_valid.restype, is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
    return bool(is_valid(capsule, NAME))


def _tensor(capsule: Any) -> _Tensor:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return _Tensor.from_address(get(capsule, NAME))
