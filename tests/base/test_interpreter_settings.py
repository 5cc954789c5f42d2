"""Settings that are held at a value."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest

from sardonyx.base.interpreter_settings import TemporarySetting, rare_collections, short_switch_interval


class Box:
    def __init__(self) -> None:
        self.value = 1

    def get(self) -> int:
        return self.value

    def put(self, value: int) -> None:
        self.value = value


def test_the_last_holder_restores_it():
    box = Box()
    setting = TemporarySetting(box.get, box.put, 2)
    with setting.applied():
        with setting.applied():
            assert box.value == 2
        assert box.value == 2
    assert box.value == 1


def test_what_the_program_sets_meanwhile_stays():
    box = Box()
    with TemporarySetting(box.get, box.put, 2).applied():
        box.value = 5
    assert box.value == 5


def test_an_error_restores_it_too():
    box = Box()
    with pytest.raises(KeyError), TemporarySetting(box.get, box.put, 2).applied():
        raise KeyError
    assert box.value == 1


def test_the_interpreters_own():
    before = gc.get_threshold(), sys.getswitchinterval()
    with rare_collections(), short_switch_interval():
        assert gc.get_threshold()[2] > 1 << 20
        assert sys.getswitchinterval() < 0.001
    assert (gc.get_threshold(), sys.getswitchinterval()) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_wait_for_holders_in_other_threads():
    box = Box()
    setting = TemporarySetting(box.get, box.put, 2)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with setting.applied():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(box.value)
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 1
    assert box.value == 1
