"""`sardonyx inspect`: the file as a tree, whatever operators it holds."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.cli.invoke import DIGITS, call

CUSTOM = """<ir_version: 10, opset_import: ["" : 21, "my.domain" : 1]> g (float[n,3] x, bool c) => (float[n,3] y) <float[3] w = {1, 2, 3}> {
    t = my.domain.Mine (x, w)
    y = If (c) <then_branch = t () => (float[n,3] u) { u = Relu (t) }, else_branch = e () => (float[n,3] v) { v = Neg (t) }>
}"""


@pytest.fixture
def custom(tmp_path: Path) -> Path:
    path = tmp_path / "[bold]custom.onnx"
    path.write_bytes(onnx.parser.parse_model(CUSTOM).SerializeToString())
    return path


def test_inspect_shows_the_digit_classifier() -> None:
    shown = call("inspect", DIGITS, "--nodes").stdout
    for text in (
        "opsets: ai.onnx 20",
        "pictures: tensor(float)['batch', 1, 8, 8]",
        "dynamic dimensions: batch (pictures axis 0)",
        "nodes: 9",
        "2 Conv",
        "weights: 6, 6,090 numbers, 24.4 kB",
        "3.weight: tensor(float)[32, 16, 3, 3]",
        "1 smaller ones",
        "Softmax /8/Softmax  /7/Gemm_output_0 -> probabilities",
    ):
        assert text in shown


def test_inspect_takes_operators_of_any_domain_and_shows_bodies(custom: Path) -> None:
    shown = call("inspect", custom, "--nodes").stdout
    assert "[bold]custom.onnx" in shown  # a name is no markup
    assert "1 my.domain.Mine" in shown
    assert "Relu u  t -> u" in shown
    found = json.loads(call("inspect", custom, "--json").stdout)
    assert found["opsets"] == {"": 21, "my.domain": 1}
    assert found["operators"] == {"my.domain.Mine": 1, "If": 1, "Relu": 1, "Neg": 1}
    assert found["weights"] == [{"name": "w", "type": "tensor(float)", "shape": [3], "numbers": 3, "bytes": 12}]
    assert found["dynamic_dimensions"] == {"n": ["x axis 0"]}
