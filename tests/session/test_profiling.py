"""Traces: a file that Chrome's viewer reads, with the nodes of the model in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.context import Trace
from sardonyx.session.profiling import monotonic_start, trace_path, write_trace
from tests.session.models import relu


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
