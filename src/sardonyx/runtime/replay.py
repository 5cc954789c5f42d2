"""Repeats a run by one call of a native function, for callers to whom the microseconds of Python code matter.

The function (codegen.replay) is compiled code that Python calls as a built-in. It reads array objects directly, so it is used
only where Python and numpy lay out objects as runtime.abi says, which `available` checks on objects of every kind. Elsewhere
every run takes the ordinary path.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.runtime import abi
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.interpreter import address
from sardonyx.runtime.memory import allocate

Replay = Callable[[list[Array], list[Array]], int]  # (inputs, outputs) -> abi.UNLIKE, abi.DONE or abi.FAILED

_FASTCALL = 0x80  # METH_FASTCALL: f(self, arguments, count), a calling convention of Python's stable interface


class _Method(ctypes.Structure):
    """The struct PyMethodDef."""

    _fields_ = (("name", ctypes.c_char_p), ("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


class Function:
    """The team's native function, from which each context derives its own by binding it to a request."""

    def __init__(self, address: int) -> None:
        self._method = _Method(b"replay", address, _FASTCALL, None)

    def bound(self, request: Array) -> Replay:
        """Return the function bound to this request (its `self`). The Function must outlive it."""
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        return make(ctypes.addressof(self._method), request, None)  # type: ignore[no-any-return]


def request(
    context: int, plan: int, entry: int, control: int, threads: int, inputs: Sequence[tuple[int, Array]], outputs: Sequence[int]
) -> Array:
    """Encode the request: the inputs that a replay expects, and the addresses that it needs.

    context, plan, entry, control: addresses; control is the team's control block. inputs: each slot, with an array of the
    expected dtype and shape that satisfies `is_plain`. outputs: their slots.
    """
    words = [context, plan, entry, control, threads, *_interpreter(), len(inputs), len(outputs)]
    for slot, array in inputs:
        words += [slot, *_dtype_identity(array.dtype), array.ndim, *array.shape]
    words += outputs
    made = allocate(8 * len(words))
    made.view(np.int64)[:] = words
    return made


def is_plain(value: Any) -> bool:
    """Is value an array that compiled code can read without a copy?"""
    return type(value) is np.ndarray and value.flags.c_contiguous and value.flags.aligned


def _dtype_identity(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the words that identify a dtype: not the dtype object's address, because equal dtypes may be different objects, for
    example after unpickling.
    """
    at = id(dtype)
    return _word(at + abi.DTYPE_TYPE), _word(at + abi.DTYPE_KIND) & abi.KIND_MASK


@functools.cache
def _interpreter() -> tuple[int, ...]:
    """Return the addresses of numpy.ndarray and of three functions of Python."""
    return id(np.ndarray), *map(address, ("PyLong_FromLongLong", "PyEval_SaveThread", "PyEval_RestoreThread"))


@functools.cache
def available() -> bool:
    """Are objects laid out in memory as runtime.abi says?"""
    ordinary = sys.implementation.name == "cpython" and ctypes.sizeof(ctypes.c_void_p) == 8
    return ordinary and all(map(_is_as_expected, _probes()))  # the layout differs in Python without the GIL


def _probes() -> list[Array]:
    whole = np.zeros((2, 3, 5), np.float32)
    return [whole, whole[:, 1:], whole.T, np.zeros(7, np.int64), np.zeros((), bool), np.zeros((0, 4), np.float64)]


def _is_as_expected(array: Array) -> bool:
    """Compare what the offsets of runtime.abi lead to with the array's own attributes."""
    at, items = id(array), [array]
    first = _word(_word(id(items) + abi.LIST_ITEMS))
    found = [_word(at + abi.OBJECT_TYPE), _word(at + abi.ARRAY_DATA), _word(at + abi.ARRAY_DTYPE)]
    if first != at or found != [id(np.ndarray), array.ctypes.data, id(array.dtype)]:
        return False
    kind, dtype = bytes(array.dtype.kind + array.dtype.char + array.dtype.byteorder, "ascii"), array.dtype
    if _dtype_identity(dtype) != (id(dtype.type), int.from_bytes(kind, "little") | dtype.num << 32):
        return False
    rank, flags = (ctypes.c_int.from_address(at + offset).value for offset in (abi.ARRAY_RANK, abi.ARRAY_FLAGS))
    if rank != array.ndim or (flags & abi.PLAIN == abi.PLAIN) != is_plain(array):
        return False
    dimensions = _word(at + abi.ARRAY_DIMENSIONS)
    return [_word(dimensions + 8 * axis) for axis in range(rank)] == list(array.shape)


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value
