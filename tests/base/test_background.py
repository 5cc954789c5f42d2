"""Work for a thread beside this one: order, errors, and an end."""

from __future__ import annotations

import threading

import pytest

from sardonyx.base.background import Background


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_urgent_work_comes_first_and_the_rest_in_order():
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go_on.wait(10)

    with Background("order") as background:
        background.submit(first)
        begun.wait(10)
        for name, urgent in (("a", False), ("b", True), ("c", False), ("d", True)):
            background.submit(lambda name=name: done.append(name), urgent)
        go_on.set()
    assert done == ["b", "d", "a", "c"]


def test_an_exception_keeps_its_type_and_stops_nothing():
    class Own(Exception):
        pass

    def fail() -> int:
        raise Own("told")

    with Background("errors") as background:
        failed, fine = background.submit(fail), background.submit(lambda: 3)
        with pytest.raises(Own, match="told"):
            failed.result(10)
        assert fine.result(10) == 3


def test_no_thread_is_left_and_none_begun_without_work():
    with Background("unused"):
        assert not threads("unused")
    with Background("used") as background:
        background.submit(lambda: None).result(10)
        assert len(threads("used")) == 1
    assert not threads("used")


def test_what_is_not_begun_is_dropped_on_failure():
    done: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go_on.wait(10)

    def give_up() -> None:
        with Background("failing") as background:
            background.submit(first)
            for i in range(3):
                background.submit(lambda i=i: done.append(i))
            begun.wait(10)
            threading.Timer(0.05, go_on.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        give_up()
    assert not done
    assert not threads("failing")
