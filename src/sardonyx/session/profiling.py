"""Writes a trace of a session and its runs as ONNX Runtime does: in Chrome's format, with an event for each node of the model.

    {"cat": "Node", "name": "<node>_kernel_time", "ts": ..., "dur": ..., "args": {"op_name": "Conv", "provider": ..., ...}}

Times are whole microseconds since the trace began. The events of a run's nodes follow one another in the order of
the file and without gaps, so that they add up to the time of its kernels. Beside ONNX Runtime's, `args` has these entries:

    duration_ns   the time in nanoseconds
    computed_at   "load" for a node of constants alone, which takes no time in a run
    fused_group   the nodes that were computed together, if there are several: their times are estimated (session.node_times)
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sardonyx.base.context import Event, Trace
from sardonyx.runtime.execution import CPU

if TYPE_CHECKING:
    from sardonyx.session.node_times import NodeTime, RunTimes
    from sardonyx.session.profiled_model import ProfiledModel, Sizes


def trace_path(prefix: str) -> str:
    """Return `<prefix>_<date>_<time>.json`."""
    now = datetime.now()
    return f"{prefix}_{now:%Y-%m-%d_%H-%M-%S}_{now.microsecond // 1000:03d}.json"


def write_trace(trace: Trace, path: str) -> str:
    """Write the events so far, in the order of their start. -> the path. Raises OSError."""
    from sardonyx.session.node_times import run_times  # which needs the compiler: most sessions are not profiled

    runs = [Event("Session", run.name, run.start, run.duration, run.thread) for run in trace.runs]
    within = [Event("Session", "SequentialExecutor::Execute", run.start, run.duration, run.thread) for run in trace.runs]
    events = [event_of(trace, event) for event in (*trace.events, *runs, *within)]
    for found in run_times(trace):
        events += node_events(trace, found)
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in sorted(events, key=lambda event: event["ts"]))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"[\n{lines}\n]\n")
    return path


def write_at_the_end(trace: Trace, path: str) -> None:
    """Write the trace of a session that is freed. Nobody can catch an error then: it is printed to standard error."""
    try:
        write_trace(trace, path)
    except OSError as error:
        print(f"sardonyx: the profile of a session could not be written: {error}", file=sys.stderr)


def event_of(trace: Trace, event: Event) -> dict[str, Any]:
    """Return an event as it is written."""
    ts = (event.start - trace.start) // 1000
    return chrome_event(event.category, event.name, event.thread, ts, event.duration // 1000, event.details)


def chrome_event(category: str, name: str, thread: int, ts: int, duration: int, details: dict[str, Any]) -> dict[str, Any]:
    """Return a complete event of Chrome's trace format."""
    return {"cat": category, "pid": os.getpid(), "tid": thread, "dur": duration, "ts": ts, "ph": "X", "name": name, "args": details}


def node_events(trace: Trace, found: RunTimes) -> Iterator[dict[str, Any]]:
    """Yield the events of a run's nodes. Times are rounded so that their sum is not."""
    at = float(found.run.start - trace.start)
    for time_of in found.nodes:
        start, at = at, at + time_of.nanoseconds
        name = time_of.node.name if time_of.node is not None else "other"
        details = node_details(trace.model, time_of, found.sizes, found.run.thread)
        yield chrome_event(
            "Node", f"{name}_kernel_time", found.run.thread, int(start // 1000), int(at // 1000 - start // 1000), details
        )


def node_details(model: ProfiledModel, time_of: NodeTime, sizes: Sizes, thread: int) -> dict[str, Any]:
    """Return the `args` of a node's event."""
    node = time_of.node
    details: dict[str, Any] = {"provider": time_of.provider or CPU, "duration_ns": str(round(time_of.nanoseconds))}
    if node is None:
        return {"op_name": "Other", **details}
    details |= {"op_name": node.operator, "node_index": str(node.index)}
    weights = [name for name in node.inputs if name in model.values and model.values[name].weight]
    details["activation_size"] = str(byte_count(model, [name for name in node.inputs if name not in weights], sizes))
    details["parameter_size"] = str(byte_count(model, weights, sizes))
    details["output_size"] = str(byte_count(model, node.outputs, sizes))
    details["input_type_shape"] = types_and_shapes(model, node.inputs, sizes)
    details["output_type_shape"] = types_and_shapes(model, node.outputs, sizes)
    details["thread_scheduling_stats"] = scheduling(thread)
    if node.constant:
        details["computed_at"] = "load"
    if time_of.fused:
        details["fused_group"] = [model.nodes[index].name for index in time_of.fused]
    return details


def byte_count(model: ProfiledModel, names: Sequence[str], sizes: Sizes) -> int:
    """Return the bytes of all these values; those of unknown shape count as none."""
    return sum(model.values[name].bytes(sizes) for name in names if name in model.values)


def types_and_shapes(model: ProfiledModel, names: Sequence[str], sizes: Sizes) -> list[dict[str, list[int]]]:
    """Return {element type: shape} of each value whose shape is known, as ONNX Runtime writes it."""
    values = [model.values[name] for name in names if name in model.values]
    return [{value.element_type: shape} for value in values if (shape := value.sizes(sizes)) is not None]


def scheduling(thread: int) -> dict[str, Any]:
    """Return ONNX Runtime's statistics of a thread pool, of which here only the thread is known: work is not queued."""
    counts = dict.fromkeys(("Distribution", "DistributionEnqueue", "Run", "Wait", "WaitRevoke"), 0)
    main = {"thread_pool_name": "sardonyx", "thread_id": str(thread), "block_size": [], "core": -1, **counts}
    return {"main_thread": main, "sub_threads": {}}


def monotonic_start(trace: Trace) -> int:
    """Return when the trace began, on the clock of `time.monotonic_ns`."""
    return time.monotonic_ns() - (time.perf_counter_ns() - trace.start)
