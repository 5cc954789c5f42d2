"""tools/convert_onnx_models_to_ort.py: models and folders of them, as a function and as a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sardonyx as sx
from sardonyx.base.errors import InvalidProtobuf
from sardonyx.tools.convert_onnx_models_to_ort import convert_onnx_models_to_ort
from tests.graph.models import data

RELU = data("g (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }")


def test_a_folder_of_models_and_one_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.onnx").write_bytes(RELU)
    (tmp_path / "in" / "deep" / "b.onnx").write_bytes(RELU)
    made = convert_onnx_models_to_ort(tmp_path / "in", tmp_path / "out")
    assert made == [tmp_path / "out" / "a.ort", tmp_path / "out" / "deep" / "b.ort"]
    (y,) = sx.InferenceSession(made[1]).run(None, {"x": np.full((2, 3), -1, np.float32)})
    assert not y.any()
    (tmp_path / "in" / "a.onnx").write_bytes(b"\xff" * 20)
    with pytest.raises(InvalidProtobuf):
        convert_onnx_models_to_ort(tmp_path / "in")
    assert convert_onnx_models_to_ort(tmp_path / "in", allow_conversion_failures=True) == [tmp_path / "in" / "deep" / "b.ort"]


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert_onnx_models_to_ort(tmp_path)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(RELU)
    command = [sys.executable, "-m", "sardonyx.tools.convert_onnx_models_to_ort", str(tmp_path / "a.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "a.ort")
    assert sx.InferenceSession(tmp_path / "a.ort").get_outputs()[0].name == "y"
