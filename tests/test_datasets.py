"""The example models: ports and numbers are those of onnxruntime's."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.datasets import get_example as their_example

import sardonyx as sx
from sardonyx.datasets import get_example


@pytest.mark.parametrize("name", ["logreg_iris.onnx", "mul_1.onnx", "sigmoid.onnx"])
def test_examples(name: str) -> None:
    theirs = ort.InferenceSession(their_example(name))
    feeds = {i.name: np.random.default_rng(0).random(i.shape, np.float32) for i in theirs.get_inputs()}
    expected = theirs.run(None, feeds)
    for path in (get_example(name), their_example(name)):
        session = sx.InferenceSession(path)
        for ours, other in ((session.get_inputs(), theirs.get_inputs()), (session.get_outputs(), theirs.get_outputs())):
            assert [(a.name, a.type, a.shape) for a in ours] == [(a.name, a.type, a.shape) for a in other]
        got = session.run(None, feeds)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
        for a, b in zip(got[1] if len(got) > 1 else (), expected[1] if len(got) > 1 else (), strict=True):
            assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("name", ["nothing.onnx", "../datasets/mul_1.onnx", "__init__.py"])
def test_there_are_no_others(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="Unable to find example"):
        get_example(name)
