"""The context of one run: the flag and the deadline that can end it early, and the trace that records it."""

from __future__ import annotations

import threading
import time
from array import array
from typing import Any, Protocol

from msgspec import Struct, field

from sardonyx.base.errors import Fail

TERMINATED = "Exiting due to terminate flag being set to true."
EXPIRED = "Exiting because the run has taken longer than its timeout."


class Terminable(Protocol):
    """Options of a run that are read while it runs. stop_word: an i64 that is not 0 once the run must end."""

    @property
    def stop_word(self) -> array[int]: ...


class Event(Struct, frozen=True):
    """A recorded span of time: what happened (`category`, `name`), when (nanoseconds of `time.perf_counter_ns`), and on which
    thread."""

    category: str
    name: str
    start: int
    duration: int
    thread: int
    details: dict[str, Any] = field(default_factory=dict)


class Trace:
    """A list of events to which several runs may append concurrently."""

    def __init__(self) -> None:
        self.start = time.perf_counter_ns()
        self.events: list[Event] = []

    def record(self, category: str, name: str, start: int, **details: Any) -> None:
        """Append an event that began at `start` and ends now."""
        duration = time.perf_counter_ns() - start
        self.events.append(Event(category, name, start, duration, threading.get_native_id(), details))


class RunContext(Struct, frozen=True):
    """Passed to everything that executes a part of a run. deadline: in nanoseconds of `time.monotonic_ns`; 0 for none."""

    options: Terminable | None = None
    trace: Trace | None = None
    deadline: int = 0

    def check(self) -> None:
        """Raise Fail if the run must end. Called between nodes and at loops' back-edges; compiled code has its own checks."""
        if self.options is not None and self.options.stop_word[0]:
            raise Fail(TERMINATED)
        if self.deadline and time.monotonic_ns() >= self.deadline:
            raise Fail(EXPIRED)


QUIET = RunContext()
