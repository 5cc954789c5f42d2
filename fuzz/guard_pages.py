"""Memory between two inaccessible pages: an access before or after it raises a signal at once."""

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
    """Return uint8[size], aligned to 64 bytes, which ends less than 64 bytes before an inaccessible page. Raises MemoryError,
    ValueError.
    """
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
    """Copy the array into memory between inaccessible pages."""
    made = guarded_empty(array.shape, array.dtype)
    made[...] = array
    return made


def guarded_empty(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Allocate an uninitialised array, as numpy.empty does, between inaccessible pages."""
    size = dtype.itemsize
    for n in shape:
        if n < 0:
            raise ValueError("a negative size")
        size *= n
    return guarded(size).view(dtype).reshape(shape)
