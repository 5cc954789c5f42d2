"""Python's C functions that compiled code calls, and the exceptions that signal handlers have raised."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from sardonyx.base.errors import FromHandler
from sardonyx.runtime import abi
from sardonyx.runtime.arrays import Array


@functools.cache
def functions() -> Array:
    """Return the addresses, i64[4], of the functions that abi.STOP_FUNCTIONS names, with which a run checks signals."""
    return np.array([address(name) for name in abi.STOP_FUNCTIONS], np.int64)


def address(name: str) -> int:
    """Return the address of a function of Python's C interface."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def raise_found(slots: memoryview[int]) -> None:
    """Raise the exception that a signal handler has left in the context's slots, if any. An Exception is raised as FromHandler."""
    first = abi.STOP_ERROR
    error = [slots[first + i] for i in range(3)]
    if error[0]:
        for i in range(3):
            slots[first + i] = 0
        restore = ctypes.pythonapi.PyErr_Restore  # steals the references; ctypes.pythonapi then raises the exception
        restore.restype, restore.argtypes = None, [ctypes.c_void_p] * 3
        try:
            restore(*error)
        except Exception as raised:
            raise FromHandler(raised) from None
