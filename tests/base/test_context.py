"""What goes along with a run: the flag that ends it, and the trace that several runs write to."""

from __future__ import annotations

import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor

import pytest

from sardonyx.base.context import QUIET, RunContext, Trace
from sardonyx.base.errors import Fail


class Options:
    """What a run is told of its options: one word, which is set from outside."""

    def __init__(self) -> None:
        self.stop_word = array("q", [0])


def test_a_run_without_options_never_ends_early() -> None:
    QUIET.check()
    RunContext(Options()).check()


def test_the_flag_is_looked_at_on_each_check() -> None:
    options = Options()
    context = RunContext(options)
    context.check()
    options.stop_word[0] = 1
    with pytest.raises(Fail, match="Exiting due to terminate flag being set to true"):
        context.check()
    options.stop_word[0] = 0
    context.check()


def test_a_run_ends_at_its_deadline() -> None:
    RunContext(deadline=time.monotonic_ns() + 10**12).check()
    with pytest.raises(Fail, match="has taken longer than its timeout"):
        RunContext(deadline=time.monotonic_ns() - 1).check()


def test_an_event_lasts_from_its_start_until_it_is_recorded() -> None:
    trace = Trace()
    trace.record("Node", "relu", trace.start, op_name="Relu")
    (event,) = trace.events
    assert (event.category, event.name, event.details) == ("Node", "relu", {"op_name": "Relu"})
    assert event.start == trace.start
    assert event.duration >= 0
    assert event.thread == threading.get_native_id()


def test_threads_append_to_one_trace() -> None:
    trace = Trace()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: trace.record("Node", str(n), 0), range(800)))
    assert sorted(int(e.name) for e in trace.events) == list(range(800))
