"""Traces: a file that Chrome's viewer reads, with the nodes of the model in it."""

from __future__ import annotations

import gc
import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import sardonyx as sx
from sardonyx.base.context import Span, Trace
from sardonyx.session.node_times import without_inner
from sardonyx.session.profiling import monotonic_start, trace_path, write_trace
from tests.session.models import model, relu


def test_the_name_has_the_time_in_it() -> None:
    assert re.fullmatch(r"p_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{3}\.json", trace_path("p"))


def test_events_are_written_in_the_order_of_their_start(tmp_path: Path) -> None:
    trace = Trace()
    late, early = trace.start + 5_000_000, trace.start + 2_000_999
    trace.record("Node", "late", late, op_name="Relu")
    trace.record("Session", "early", early)
    events = json.loads(Path(write_trace(trace, str(tmp_path / "t.json"))).read_text())
    assert [(e["name"], e["cat"], e["ts"]) for e in events] == [("early", "Session", 2000), ("late", "Node", 5000)]
    assert events[1]["args"] == {"op_name": "Relu"}
    assert all(e["ph"] == "X" and isinstance(e["dur"], int) for e in events)


def test_the_start_is_on_the_monotonic_clock() -> None:
    import time

    before = time.monotonic_ns()
    start = monotonic_start(Trace())
    assert before - 50_000_000 < start <= time.monotonic_ns()


CONTROL = """g (float[n,4] x, float[4,4] w, int64 trips) => (float[n,4] y) {
    [product] a = MatMul (x, w)
    [loop] y = Loop (trips, , a) <body = body (int64 i, bool c, float[n,4] s) => (bool d, float[n,4] t) {
        [same] d = Identity (c)
        [double] t = Add (s, s)
    }>
}"""
LATE = "g (float[rows,columns] x) => (float[] y) { [squeeze] q = Squeeze (x) [sum] y = ReduceSum <keepdims = 0> (q) }"
FUSED = """g (float[n,64] x) => (float[n,32] y)
    <float[64,32] w = {WEIGHT}, float[32] b = {BIAS}, float[2] one = {1, 1}, float[2] two = {2, 2}> {
    [product] p = MatMul (x, w)
    [bias] q = Add (p, b)
    [relu] r = Relu (q)
    [folded] unused = Add (one, two)
    [softmax] y = Softmax (r)
}""".replace("WEIGHT", ", ".join(["0.1"] * 2048)).replace("BIAS", ", ".join(["1"] * 32))


def events_of(source: bytes, feeds: dict[str, Any], tmp_path: Path, runs: int = 2, threads: int = 0) -> list[dict[str, Any]]:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = threads
    options.profile_file_prefix = str(tmp_path / "profile")
    session = sx.InferenceSession(source, options)
    for _ in range(runs):
        session.run(None, feeds)
    loaded: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    assert session.end_profiling() == ""
    return loaded


def of_nodes(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["cat"] == "Node"]


def onnxruntime_events(source: bytes, feeds: dict[str, Any], tmp_path: Path) -> list[dict[str, Any]]:
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "theirs")
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    loaded: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return loaded


def test_events_have_the_keys_of_onnxruntimes(tmp_path: Path) -> None:
    """All but those of its memory arena."""
    feeds = {"x": np.ones((5, 64), np.float32)}
    ours, theirs = events_of(model(FUSED), feeds, tmp_path), onnxruntime_events(model(FUSED), feeds, tmp_path)
    assert set(theirs[0]) == set(ours[0])
    assert {event["name"] for event in theirs if event["cat"] == "Session"} == {e["name"] for e in ours if e["cat"] == "Session"}
    their_softmax, our_softmax = (
        next(e for e in of_nodes(found) if e["name"] == "softmax_kernel_time") for found in (theirs, ours)
    )
    assert {key for key in their_softmax["args"] if not key.startswith("mem_")} <= set(our_softmax["args"])
    for key in ("op_name", "provider", "activation_size", "parameter_size", "output_size", "input_type_shape", "output_type_shape"):
        assert their_softmax["args"][key] == our_softmax["args"][key], key
    stats = [found["args"]["thread_scheduling_stats"]["main_thread"] for found in (their_softmax, our_softmax)]
    assert set(stats[0]) == set(stats[1])


def test_each_node_of_the_file_has_an_event_in_each_run(tmp_path: Path) -> None:
    events = of_nodes(events_of(model(FUSED), {"x": np.ones((500, 64), np.float32)}, tmp_path))
    names = [event["name"] for event in events]
    for node in ("product", "bias", "relu", "folded", "softmax"):
        assert names.count(f"{node}_kernel_time") == 2
    last = {event["name"].removesuffix("_kernel_time"): event["args"] for event in events[5:]}
    assert {"product", "bias"} <= set(last["product"]["fused_group"])
    assert last["folded"]["computed_at"] == "load"
    assert last["folded"]["duration_ns"] == "0"
    spent = {name: int(args["duration_ns"]) for name, args in last.items()}
    assert spent["product"] > spent["bias"] > 0
    assert last["product"]["input_type_shape"] == [{"float": [500, 64]}, {"float": [64, 32]}]


def test_a_script_of_onnxruntime_reads_the_profile(tmp_path: Path) -> None:
    """The one that `onnxruntime.transformers.profiler` prints its tables with."""
    place = Path(onnxruntime.__file__).parent / "transformers" / "profile_result_processor.py"
    processor = runpy.run_path(str(place))
    events = events_of(model(FUSED), {"x": np.ones((500, 64), np.float32)}, tmp_path, runs=3)
    rows = [line.split("\t") for line in processor["parse_node_results"](events) if line.count("\t") == 6]
    found = [(cells[6], cells[4].strip()) for cells in rows[1:6]]  # those in the original order, after the head
    assert found == [(name, "3") for name in ("product", "bias", "relu", "folded", "softmax")]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_times_of_nodes_add_up_to_no_more_than_the_run(threads: int, tmp_path: Path) -> None:
    events = events_of(model(FUSED), {"x": np.ones((20_000, 64), np.float32)}, tmp_path, threads=threads)
    runs = [event for event in events if event["name"] == "model_run"]
    for run in runs:
        inside = [e for e in of_nodes(events) if run["ts"] <= e["ts"] < run["ts"] + run["dur"]]
        total = sum(int(e["args"]["duration_ns"]) for e in inside)
        assert 0.2 * run["dur"] < total / 1000 < run["dur"] + 1
        assert abs(sum(e["dur"] for e in inside) - total / 1000) < 2  # rounded as a whole, not one by one


def test_nodes_of_bodies_late_nodes_and_nodes_on_the_host_take_time(tmp_path: Path) -> None:
    looped = of_nodes(
        events_of(model(CONTROL), {"x": np.ones((9, 4), "f"), "w": np.eye(4, dtype="f"), "trips": np.int64(7)}, tmp_path)
    )
    assert {e["name"] for e in looped} == {f"{name}_kernel_time" for name in ("product", "loop", "same", "double")}
    assert int(next(e for e in looped if e["name"].startswith("double"))["args"]["duration_ns"]) > 0
    late = of_nodes(events_of(model(LATE), {"x": np.ones((1, 50), "f")}, tmp_path))
    assert int(next(e for e in late if e["name"].startswith("sum"))["args"]["duration_ns"]) > 0
    strings = "g (string[n] s) => (string[n] t) { t = StringConcat (s, s) }"
    host = of_nodes(events_of(model(strings), {"s": np.array(["a", "b"], object)}, tmp_path))
    assert [(e["name"], e["args"]["op_name"]) for e in host] == [("t_kernel_time", "StringConcat")] * 2
    assert int(host[-1]["args"]["duration_ns"]) > 0
    assert host[-1]["args"]["output_type_shape"] == [{"string": [2]}]


def test_an_interpreted_loop_does_not_count_its_body_again(tmp_path: Path) -> None:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = sx.InferenceSession(model(CONTROL), options, ["ReferenceExecutionProvider"])
    session.run(None, {"x": np.ones((9, 4), "f"), "w": np.eye(4, dtype="f"), "trips": np.int64(200)})
    events = json.loads(Path(session.end_profiling()).read_text())
    times = {e["name"]: int(e["args"]["duration_ns"]) for e in of_nodes(events)}
    (run,) = [e["dur"] for e in events if e["name"] == "model_run"]
    assert 0 < times["double_kernel_time"] < sum(times.values()) <= 1000 * (run + 1)


def test_spans_inside_others_are_subtracted() -> None:
    times = {"a": (0, 100), "b": (10, 30), "c": (15, 5), "d": (50, 20), "e": (200, 7)}
    spans = [Span("p", start, duration, 1, [((name,), 1)]) for name, (start, duration) in times.items()]
    assert [span.duration for span in without_inner(spans, times)] == [50, 25, 5, 20, 7]
    assert [span.duration for span in without_inner(spans, "abd")] == [50, 30, 20, 7]  # c is a part of b; e stands alone


def test_interpreted_nodes_name_their_provider(tmp_path: Path) -> None:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = sx.InferenceSession(relu(), options, ["ReferenceExecutionProvider"])
    session.run(None, {"x": np.ones((2, 3), np.float32)})
    (event,) = of_nodes(json.loads(Path(session.end_profiling()).read_text()))
    assert (event["args"]["op_name"], event["args"]["provider"]) == ("Relu", "ReferenceExecutionProvider")


def test_values_fused_away_are_profiled_when_they_are_asked_for(tmp_path: Path) -> None:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = sx.InferenceSession(model(FUSED), options)
    session.run(["q"], {"x": np.ones((2000, 64), np.float32)})
    events = of_nodes(json.loads(Path(session.end_profiling()).read_text()))
    assert int(next(e for e in events if e["name"].startswith("product"))["args"]["duration_ns"]) > 0


def test_a_session_that_is_freed_writes_its_trace(tmp_path: Path) -> None:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = sx.InferenceSession(relu(), options)
    session.run(None, {"x": np.ones((2, 3), np.float32)})
    del session
    gc.collect()
    (path,) = tmp_path.iterdir()
    assert [e["name"] for e in of_nodes(json.loads(path.read_text()))] == ["y_kernel_time"]


def test_a_trace_that_can_not_be_written_at_the_end_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "gone" / "profile")
    session = sx.InferenceSession(relu(), options)
    del session
    gc.collect()
    assert "sardonyx: the profile of a session could not be written: " in capfd.readouterr().err


def profiled(tmp_path: Path) -> list[dict[str, Any]]:
    options = sx.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = sx.InferenceSession(relu(), options)
    for _ in range(2):
        session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert session.get_profiling_start_time_ns() > 0
    path = session.end_profiling()
    assert Path(path).parent == tmp_path
    loaded: list[dict[str, Any]] = json.loads(Path(path).read_text())
    return loaded


def test_a_sessions_trace_has_its_loading_and_its_runs(tmp_path: Path) -> None:
    events = profiled(tmp_path)
    names = [e["name"] for e in events if e["cat"] == "Session"]
    assert names.count("model_run") == 2
    assert {"model_loading_array", "session_initialization"} <= {*names}
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)


def test_without_profiling_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = sx.InferenceSession(relu())
    session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert list(tmp_path.iterdir()) == []
