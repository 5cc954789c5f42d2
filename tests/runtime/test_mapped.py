"""Memory that is there, that can't be written, and that is gone."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import numpy as np
import pytest

from sardonyx.runtime import mapped
from sardonyx.runtime.mapped import is_mapped

pytestmark = pytest.mark.skipif(not mapped._can_tell(), reason="the kernel can't be asked (before Linux 5.14)")


def test_memory_that_is_there() -> None:
    for size in (1, 100, 5 * mmap.PAGESIZE):
        memory = np.full(size, 3, np.uint8)
        assert is_mapped(memory.ctypes.data, size, write=False)
        assert is_mapped(memory.ctypes.data, size, write=True)
        assert (memory == 3).all()


def test_read_only_memory(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    with open(tmp_path / "f", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as page:
        array = np.frombuffer(page, np.uint8)
        assert is_mapped(array.ctypes.data, 100, write=False)
        assert not is_mapped(array.ctypes.data, 100, write=True)
        del array


def test_memory_that_is_gone() -> None:
    page = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    held = ctypes.c_char.from_buffer(page)
    address = ctypes.addressof(held)
    assert is_mapped(address, 2 * mmap.PAGESIZE, write=True)
    del held
    page.close()
    assert not is_mapped(address, 1, write=False)
    assert not is_mapped(address, 1, write=True)


@pytest.mark.parametrize("address", [0, -8, 1 << 63, 1 << 80, 16])
def test_addresses_that_can_not_be(address: int) -> None:
    assert not is_mapped(address, 8, write=False)


def test_nothing_needs_no_memory() -> None:
    assert is_mapped(8, 0, write=True)
