"""The interpreter's functions that compiled code calls, and exceptions that it found."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from sardonyx.base.errors import FromHandler
from sardonyx.runtime import abi
from sardonyx.runtime.arrays import Array


@functools.cache
def functions() -> Array:
    """Addresses of the functions with which a run looks at signals, i64[4], as abi.STOP_FUNCTIONS names them."""
    return np.array([address(name) for name in abi.STOP_FUNCTIONS], np.int64)


def address(name: str) -> int:
    """Where a function of Python's C interface lies."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def raise_found(slots: memoryview[int]) -> None:
    """Raises the exception that a signal's handler has left in the context's slots, if there is one: an Exception as FromHandler."""
    first = abi.STOP_ERROR
    error = [slots[first + i] for i in range(3)]
    if error[0]:
        for i in range(3):
            slots[first + i] = 0
        restore = ctypes.pythonapi.PyErr_Restore  # takes over the references; a call of pythonapi raises what is set after it
        restore.restype, restore.argtypes = None, [ctypes.c_void_p] * 3
        try:
            restore(*error)
        except Exception as raised:
            raise FromHandler(raised) from None
