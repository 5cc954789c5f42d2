"""Whether a run is to end: its status, its word, the clock, and signals, which the main thread alone looks at."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import FromHandler
from sardonyx.codegen.compile import compile_module
from sardonyx.codegen.features import host
from sardonyx.codegen.team import emit_team
from sardonyx.runtime import abi
from sardonyx.runtime.interpreter import functions, raise_found
from sardonyx.runtime.linker import link
from sardonyx.runtime.loader import LoadedImage, load
from tests.codegen.harness import Array, aligned


@pytest.fixture(scope="module")
def image() -> Iterator[LoadedImage]:
    loaded = load(link([compile_module(emit_team(host().triple), host())]))
    yield loaded
    loaded.close()


def new_slots() -> Array:
    return aligned(8 * abi.FIRST_SLOT).view(np.int64)


def asked(image: LoadedImage, slots: Array) -> bool:
    return bool(ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(image.address("should_stop"))(slots.ctypes.data))


def test_a_run_goes_on_until_something_ends_it(image: LoadedImage) -> None:
    slots, word = new_slots(), np.zeros(1, np.int64)
    assert not asked(image, slots)
    slots[abi.STOP_WORD] = word.ctypes.data
    slots[abi.STOP_DEADLINE] = time.monotonic_ns() + 10**12
    assert not asked(image, slots)
    word[0] = 1
    assert asked(image, slots)
    assert slots[abi.STATUS] == abi.TERMINATED


def test_the_clock_is_that_of_python(image: LoadedImage) -> None:
    slots = new_slots()
    slots[abi.STOP_DEADLINE] = start = time.monotonic_ns() + 30_000_000
    while not asked(image, slots):
        assert time.monotonic_ns() < start + 10**9
    assert time.monotonic_ns() >= start
    assert slots[abi.STATUS] == abi.EXPIRED


def test_the_first_failure_counts(image: LoadedImage) -> None:
    slots, word = new_slots(), np.ones(1, np.int64)
    slots[abi.STOP_WORD], slots[abi.STATUS] = word.ctypes.data, 77
    assert asked(image, slots)
    assert slots[abi.STATUS] == 77


# ---- signals ----------------------------------------------------------------------------------------------------------------


class Interpreter:
    """Functions in the place of Python's, which note that they were called. raises: does a handler raise something?"""

    def __init__(self) -> None:
        self.raises, self.calls = False, list[str]()
        self.functions = (
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.note("hold", 5)),
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.note("look", -1 if self.raises else 0)),
            ctypes.CFUNCTYPE(None, *[ctypes.POINTER(ctypes.c_int64)] * 3)(self.fetch),
            ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda state: self.note(f"release {state}", None)),
        )
        self.table = np.array([ctypes.cast(f, ctypes.c_void_p).value for f in self.functions], np.int64)

    def note(self, what: str, answer: int | None) -> int | None:
        self.calls.append(what)
        return answer

    def fetch(self, *places: Any) -> None:
        self.calls.append("fetch")
        for i, place in enumerate(places, 1):
            place[0] = i


@pytest.fixture
def python() -> Interpreter:
    return Interpreter()


def call(image: LoadedImage, slots: Array) -> None:
    """As a run does, of this thread."""
    control = aligned(abi.control_bytes(1))
    dispatch = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(image.address("dispatch"))
    nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(lambda *_: None)
    dispatch(control.ctypes.data, ctypes.cast(nothing, ctypes.c_void_p), slots.ctypes.data, 1)


def called(image: LoadedImage, python: Interpreter) -> Array:
    slots = new_slots()
    slots[abi.STOP_PYTHON] = python.table.ctypes.data
    call(image, slots)
    assert slots[abi.STOP_CALLER] != 0
    return slots


def test_what_a_handler_raises_ends_the_run(image: LoadedImage, python: Interpreter) -> None:
    slots = called(image, python)
    python.raises = True
    assert asked(image, slots)
    assert slots[abi.STATUS] == abi.INTERRUPTED
    assert [*slots[abi.STOP_ERROR : abi.STOP_ERROR + 3]] == [1, 2, 3]
    assert python.calls == ["hold", "look", "fetch", "release 5"]


def test_signals_are_looked_at_now_and_then(image: LoadedImage, python: Interpreter) -> None:
    slots = called(image, python)
    assert not any(asked(image, slots) for _ in range(5))
    assert python.calls == ["hold", "look", "release 5"]
    slots[abi.STOP_LOOKED] -= 1 << 40
    assert not asked(image, slots)
    assert len(python.calls) == 6
    slots[abi.STOP_LOOKED] += 1 << 40  # a counter that was set back
    assert not asked(image, slots)
    assert len(python.calls) == 9


@pytest.mark.parametrize("slot", [abi.STOP_PYTHON, abi.STOP_CALLER])
def test_no_other_thread_looks_at_signals(image: LoadedImage, python: Interpreter, slot: int) -> None:
    slots = called(image, python)
    slots[slot] = 0
    python.raises = True
    assert not asked(image, slots)
    assert python.calls == []


def test_a_run_of_another_than_the_main_thread_does_not_look(image: LoadedImage, python: Interpreter) -> None:
    found: list[bool] = []

    def ask() -> None:
        slots = called(image, python)
        found.extend([asked(image, slots), bool(slots[abi.STOP_LOOKED])])

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [False, True]
    assert python.calls == []


def test_exceptions_are_raised_as_they_were(image: LoadedImage) -> None:
    """raise_found takes what PyErr_Fetch gives."""
    slots = new_slots()
    view = slots.data.cast("B").cast("q")
    raise_found(view)
    error = ValueError("of a handler")
    for i, item in enumerate((ValueError, error)):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))
        slots[abi.STOP_ERROR + i] = id(item)
    with pytest.raises(FromHandler, match="of a handler") as raised:
        raise_found(view)
    assert raised.value.raised is error
    raise_found(view)
    assert functions().all()
