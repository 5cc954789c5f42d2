"""`sardonyx optimize`: the model that is written, and files that it is not written to."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnxruntime

from tests.cli.invoke import DIGITS, call

TEXT = """<ir_version: 10, opset_import: ["" : 21]> g (float[n,3] x) => (float[n,3] y) {
    a = Identity (x)
    b = Relu (a)
    y = Identity (b)
}"""


def test_optimize_writes_a_smaller_model_that_others_load(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(TEXT).SerializeToString())
    done = call("optimize", tmp_path / "m.onnx", tmp_path / "small.onnx")
    assert done.exit_code == 0
    assert done.stdout.startswith("3 nodes before, 1 after: ")
    onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    found = json.loads(call("optimize", tmp_path / "m.onnx", tmp_path / "same.onnx", "--level", "disabled", "--json").stdout)
    assert found["after"] == {"Identity": 2, "Relu": 1}


def test_optimize_does_not_overwrite_the_model(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(DIGITS)
    before = DIGITS.read_bytes()
    for output in (DIGITS, tmp_path / "link.onnx"):
        done = call("optimize", DIGITS, output)
        assert done.exit_code == 2
        assert "is the model itself" in done.stderr
    assert DIGITS.read_bytes() == before
