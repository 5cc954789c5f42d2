"""Writes a trace of a session and its runs in Chrome's trace format, which chrome://tracing and Perfetto show."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime

from sardonyx.base.context import Trace


def trace_path(prefix: str) -> str:
    """Return `<prefix>_<date>_<time>.json`."""
    now = datetime.now()
    return f"{prefix}_{now:%Y-%m-%d_%H-%M-%S}_{now.microsecond // 1000:03d}.json"


def write_trace(trace: Trace, path: str) -> str:
    """Write the events so far, in the order of their start, with times in microseconds since the trace began. -> the path"""
    events = [
        {
            "cat": event.category,
            "pid": os.getpid(),
            "tid": event.thread,
            "dur": event.duration // 1000,
            "ts": (event.start - trace.start) // 1000,
            "ph": "X",
            "name": event.name,
            "args": event.details,
        }
        for event in sorted(trace.events, key=lambda event: event.start)
    ]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(events, file, separators=(",", ":"))
    return path


def monotonic_start(trace: Trace) -> int:
    """Return when the trace began, on the clock of `time.monotonic_ns`."""
    return time.monotonic_ns() - (time.perf_counter_ns() - trace.start)
