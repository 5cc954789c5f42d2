"""`sardonyx run`: outputs, times, files that are written completely or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import sardonyx
from tests.cli.invoke import DIGITS, call


def test_run_saves_what_the_session_gives(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "feeds.npz", pictures=x)
    done = call("run", DIGITS, "--feeds", tmp_path / "feeds.npz", "--repeat", "2", "--save", tmp_path / "out.npz", "--threads", "1")
    assert done.exit_code == 0
    assert done.stdout.startswith("probabilities: float32[3, 10], from ")
    expected = sardonyx.InferenceSession(DIGITS).run(None, {"pictures": x})[0]
    assert np.array_equal(np.load(tmp_path / "out.npz")["probabilities"], expected)


def test_run_writes_nothing_that_it_can_not_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: object, **values: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    (tmp_path / "out.npz").write_bytes(b"before")
    monkeypatch.setattr(np, "savez", broken)
    done = call("run", DIGITS, "--save", tmp_path / "out.npz")
    assert done.exit_code == 2
    assert "disk full" in done.stderr
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("out.npz", b"before")]


def test_run_shows_percentiles_and_nodes() -> None:
    done = call("run", DIGITS, "--warmup", "1", "--iterations", "4", "--nodes")
    assert re.search(r"ms: min [\d.]+, p50 [\d.]+, p90 [\d.]+, p99 [\d.]+, max [\d.]+; [\d.]+ runs per second", done.stdout)
    assert re.search(r"^/0/Conv +Conv +[\d.]+", done.stdout, re.MULTILINE)


def test_run_as_json() -> None:
    found = json.loads(call("run", DIGITS, "--iterations", "3", "--nodes", "--size", "batch=5", "--json").stdout)
    assert found["runs"] == 3
    assert found["ms"]["min"] <= found["ms"]["p50"] <= found["ms"]["max"]
    assert found["outputs"]["probabilities"]["shape"] == [5, 10]
    assert [node["op_name"] for node in found["nodes"]][:3] == ["Conv", "Relu", "MaxPool"]
