"""What goes along with one run: the flag and the deadline that end it early, and the trace that it writes."""

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
    """Options of a run, as far as they are asked while it goes on. stop_word: one i64, not 0 once the run is to end."""

    @property
    def stop_word(self) -> array[int]: ...


class Event(Struct, frozen=True):
    """A span of time: what happened (`category`, `name`), when (nanoseconds of `time.perf_counter_ns`) and on which thread."""

    category: str
    name: str
    start: int
    duration: int
    thread: int
    details: dict[str, Any] = field(default_factory=dict)


class Trace:
    """A list of events that several runs may append to at once."""

    def __init__(self) -> None:
        self.start = time.perf_counter_ns()
        self.events: list[Event] = []

    def record(self, category: str, name: str, start: int, **details: Any) -> None:
        """Appends an event that began at `start` and ends now."""
        duration = time.perf_counter_ns() - start
        self.events.append(Event(category, name, start, duration, threading.get_native_id(), details))


class RunContext(Struct, frozen=True):
    """Handed to whatever executes a part of a run. deadline: when it has to end, in nanoseconds of `time.monotonic_ns`; 0: never."""

    options: Terminable | None = None
    trace: Trace | None = None
    deadline: int = 0

    def check(self) -> None:
        """Raises Fail if the run is to end. Asked between nodes and at loops' back-edges; compiled code asks by itself."""
        if self.options is not None and self.options.stop_word[0]:
            raise Fail(TERMINATED)
        if self.deadline and time.monotonic_ns() >= self.deadline:
            raise Fail(EXPIRED)


QUIET = RunContext()
