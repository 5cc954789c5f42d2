"""Placing machine code: it runs, its pages have the right to be either written or executed, and it goes away."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys

import pytest
from msgspec.structs import replace

from sardonyx.runtime import loader
from sardonyx.runtime.image import Image, ImageError
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import load
from tests.runtime.objects import compile_module
from tests.runtime.test_linker import TABLE, lookup_module

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")


@pytest.fixture(scope="module")
def image() -> Image:
    return link([compile_module(lookup_module())])


def rights(address: int) -> str | None:
    """Access rights of the page at an address; None if there is none."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            span, access = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= address < end:
                return access
    return None


def test_code_runs_and_reads_its_constants(image: Image):
    loaded = load(image)
    lookup = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(loaded.address("lookup"))
    assert [lookup(index) for index in range(8)] == [4 * value for value in TABLE]


@linux
def test_pages_are_never_writable_and_executable(image: Image):
    loaded = load(image)
    start = loaded.address("lookup") - image.symbols["lookup"]
    assert rights(start) == "r-xp"
    assert rights(start + image.text_size) == "r--p"


@linux
def test_memory_goes_with_close_or_the_last_reference(image: Image):
    closed, dropped = load(image), load(image)
    addresses = [loaded.address("lookup") for loaded in (closed, dropped)]
    assert [rights(address) for address in addresses] == ["r-xp", "r-xp"]
    closed.close()
    del dropped
    gc.collect()
    assert all("x" not in (rights(address) or "") for address in addresses)
    with pytest.raises(ImageError, match="the image is closed"):
        closed.address("lookup")


def test_a_missing_symbol_is_named(image: Image):
    with pytest.raises(ImageError, match="no symbol 'nowhere'"):
        load(image).address("nowhere")


def test_another_processors_code_is_refused(image: Image):
    with pytest.raises(ImageError, match="machine code for sparc does not run on"):
        load(replace(image, arch="sparc"))


def test_text_of_broken_pages_is_refused(image: Image):
    with pytest.raises(ImageError, match="100 bytes of text are no multiple of the page size"):
        load(replace(image, text_size=100))


def test_a_system_without_a_way_is_named(image: Image, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(ImageError, match="not on plan9"):
        load(image)


def test_a_system_that_forbids_it_is_an_error(image: Image, monkeypatch: pytest.MonkeyPatch):
    class Refusing:
        def __init__(self, *_: object, **__: object) -> None:
            self.mprotect = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)(lambda *_: -1)

    monkeypatch.setattr(loader.ctypes, "CDLL", Refusing)
    with pytest.raises(ImageError, match="does not let memory be made executable"):
        load(image)


@pytest.mark.parametrize(("machine", "name"), [("AMD64", "x86_64"), ("arm64", "aarch64"), ("riscv64", "riscv64")])
def test_processors_have_one_name(machine: str, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert loader.host_architecture() == name
