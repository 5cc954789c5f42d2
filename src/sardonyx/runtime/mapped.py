"""Asks the system whether memory at an address that a caller gives is mapped, before it is read or written.

It asks Linux to populate the first and the last page (madvise). The kernel refuses if a page isn't mapped, or can't be read
or written. It can't tell more: memory that an allocator has freed but still holds counts as mapped.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys

_READ, _WRITE = 22, 23  # MADV_POPULATE_READ, MADV_POPULATE_WRITE; since Linux 5.14


def is_mapped(address: int, size: int, write: bool) -> bool:
    """May these bytes be read, or written? True also if the system can't tell."""
    if address <= 0 or address + size >= 1 << 63:
        return False
    if size == 0 or not _can_tell():
        return True
    advice = _WRITE if write else _READ
    first, last = (at // mmap.PAGESIZE * mmap.PAGESIZE for at in (address, address + size - 1))
    return _advise(first, advice) and (first == last or _advise(last, advice))


def _advise(page: int, advice: int) -> bool:
    return bool(_libc().madvise(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), advice) == 0)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _can_tell() -> bool:
    """Does the kernel support this use of madvise?"""
    if sys.platform != "linux":
        return False
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        there = ctypes.c_char.from_buffer(page)
        known = all(_advise(ctypes.addressof(there), advice) for advice in (_READ, _WRITE))
        del there
    return known
