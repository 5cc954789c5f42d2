"""The context of one run: the flag and the deadline that can end it early, and the trace that records it."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Mapping, Sequence
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


class Span(Struct, frozen=True):
    """A span of a run in which calls of kernels ran one after the other.

    calls: for each call the names of the nodes that it computes, and its share of the span, in any unit. start, duration,
    thread: as in Event. provider: name of the provider that ran the calls.
    """

    provider: str
    start: int
    duration: int
    thread: int
    calls: Sequence[tuple[tuple[str, ...], int]]


class Trace:
    """What has been recorded of a session. Several runs may append to it concurrently.

    runs: the `model_run` events, each with the shapes of the inputs by name as its details. model: what
    `session.profiled_model` knows of the model's nodes; None until the model is loaded.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter_ns()
        self.events: list[Event] = []
        self.spans: list[Span] = []
        self.runs: list[Event] = []
        self.model: Any = None

    def record(self, category: str, name: str, start: int, **details: Any) -> None:
        """Append an event that began at `start` and ends now."""
        duration = time.perf_counter_ns() - start
        self.events.append(Event(category, name, start, duration, threading.get_native_id(), details))

    def record_run(self, start: int, shapes: Mapping[str, Sequence[int]]) -> None:
        """Append a run that began at `start` and ends now. shapes: of its inputs."""
        duration = time.perf_counter_ns() - start
        self.runs.append(Event("Session", "model_run", start, duration, threading.get_native_id(), dict(shapes)))

    def record_calls(self, provider: str, start: int, calls: Sequence[tuple[tuple[str, ...], int]]) -> None:
        """Append a span that began at `start` and ends now; see Span."""
        duration = time.perf_counter_ns() - start
        self.spans.append(Span(provider, start, duration, threading.get_native_id(), calls))


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
