"""Places an image in memory. Its pages are writable while they are filled, then executable or read-only, never both."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys

from sardonyx.runtime.image import Image, ImageError


class LoadedImage:
    """Machine code in memory, which stays until `close` is called or the last reference is gone."""

    def __init__(self, image: Image, memory: mmap.mmap, address: int) -> None:
        self._symbols, self._text_size, self._arch = image.symbols, image.text_size, image.arch
        self._memory = memory
        self._address = address

    def address(self, symbol: str) -> int:
        """Return the address of a symbol. Raises ImageError if the image has no such symbol, or is closed."""
        if self._memory.closed:
            raise ImageError(f"symbol {symbol!r} can't be found: the image is closed")
        try:
            return self._address + self._symbols[symbol]
        except KeyError:
            raise ImageError(f"the image has no symbol {symbol!r}") from None

    def copy(self) -> Image:
        """Return the image that was placed."""
        return Image(self._memory[:], self._text_size, self._symbols, self._arch)

    def close(self) -> None:
        """Free the memory. The caller makes sure that no thread runs in it."""
        self._memory.close()


def load(image: Image) -> LoadedImage:
    """Place an image in memory. Raises ImageError if it is for another processor, or if the system has no way to run it or
    forbids it.
    """
    machine = host_architecture()
    if image.arch != machine:
        raise ImageError(f"machine code for {image.arch} does not run on {machine}")
    if image.text_size % mmap.PAGESIZE:
        raise ImageError(f"the {image.text_size} bytes of text are no multiple of the page size, {mmap.PAGESIZE}")
    if sys.platform != "linux":
        raise ImageError(f"machine code can be placed on Linux only so far, not on {sys.platform}")
    memory = mmap.mmap(-1, len(image.code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(image.code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # The kernel synchronises the instruction cache when it makes pages executable for the first time.
    _protect(address, image.text_size, mmap.PROT_READ | mmap.PROT_EXEC)
    if len(image.code) > image.text_size:
        _protect(address + image.text_size, len(image.code) - image.text_size, mmap.PROT_READ)
    return LoadedImage(image, memory, address)


def host_architecture() -> str:
    """Return this processor's architecture, named as in target triples."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def _protect(address: int, size: int, protection: int) -> None:
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if mprotect(address, size, protection):
        reason = os.strerror(ctypes.get_errno())
        raise ImageError(f"the system does not let memory be made executable: {reason}")
