"""`sardonyx bench`: peers that are installed, that are not, and that refuse the model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.cli.invoke import DIGITS, call


def test_bench_beside_onnxruntime() -> None:
    found = json.loads(call("bench", DIGITS, "--peer", "onnxruntime", "--iterations", "2", "--json").stdout)
    assert list(found) == ["sardonyx", "onnxruntime"]
    assert all(row["ms"]["p50"] > 0 for row in found.values())
    lines = call("bench", DIGITS, "--peer", "onnxruntime", "--iterations", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["sardonyx", "onnxruntime"]


def test_without_peers_it_runs_alone_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name in ("onnxruntime", "openvino") else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    done = call("bench", DIGITS, "--iterations", "1")
    assert done.exit_code == 0
    assert "No peer is installed, so Sardonyx runs alone: `pip install onnxruntime openvino`" in done.stderr
    asked = call("bench", DIGITS, "--peer", "openvino")
    assert asked.exit_code == 2
    assert asked.stderr == "sardonyx: openvino is not installed: `pip install openvino`\n"


def test_a_peer_that_there_is_not() -> None:
    done = call("bench", DIGITS, "--peer", "tvm")
    assert done.exit_code == 2
    assert "there is no peer 'tvm': choose onnxruntime or openvino" in done.stderr


def test_a_peer_that_can_not_load_the_model_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 27]> g (bfloat16[2] x) => (bfloat16[2] y) { y = Gelu (x) }'
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    done = call("bench", tmp_path / "m.onnx", "--iterations", "1")
    assert done.exit_code == 0
    assert "without onnxruntime: onnxruntime can't load the model: " in done.stderr
    asked = call("bench", tmp_path / "m.onnx", "--peer", "onnxruntime")
    assert asked.exit_code == 2
    assert "onnxruntime can't load the model: " in asked.stderr
