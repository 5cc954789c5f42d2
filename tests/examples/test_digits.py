"""The digit classifier as it ships: the model's size and shape, and that it reads the pictures beside it."""

import runpy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
MODEL = FOLDER / "digits.onnx"


def test_the_model_is_small_and_its_batch_dynamic() -> None:
    assert MODEL.stat().st_size <= 200_000
    (batch, *rest) = onnx.load(MODEL).graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in rest] == [1, 8, 8]


@pytest.mark.parametrize("digit", range(10))
def test_every_picture_is_recognised(digit: int) -> None:
    read = runpy.run_path(str(FOLDER / "demo.py"))["read"]
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    picture = read(FOLDER / "pictures" / f"{digit}.png")
    assert picture.shape == (1, 1, 8, 8)
    assert picture.dtype == np.float32
    assert session.run(None, {"pictures": picture})[0].argmax() == digit
