"""Memory between two pages that nobody may touch: what reads or writes past it dies at once."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
LINE = 64
_FORBIDDEN = 0  # PROT_NONE


def guarded(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8[size], aligned to 64 bytes; less than 64 bytes after it a page begins that nobody may touch. Raises MemoryError, ValueError."""
    if size < 0:
        raise ValueError(f"{size} bytes of memory")
    room = -(-size // PAGE) * PAGE
    try:
        pages = mmap.mmap(-1, room + 2 * PAGE)
    except (OSError, OverflowError) as error:
        raise MemoryError(str(error)) from None
    whole = np.frombuffer(pages, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for start in (0, PAGE + room):
        assert protect(ctypes.c_void_p(whole.ctypes.data + start), PAGE, _FORBIDDEN) == 0
    start = PAGE + room - -(-size // LINE) * LINE
    return whole[start : start + size]


def guarded_copy(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array in such memory."""
    made = guarded_empty(array.shape, array.dtype)
    made[...] = array
    return made


def guarded_empty(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Like numpy.empty, in such memory."""
    size = dtype.itemsize
    for n in shape:
        if n < 0:
            raise ValueError("a negative size")
        size *= n
    return guarded(size).view(dtype).reshape(shape)
