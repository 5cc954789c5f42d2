"""`prepare` and `run` beside onnxruntime's backend."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx as sx
from sardonyx import backend as ours
from tests.session.models import model, relu

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports names that onnx has deprecated
    import onnxruntime.backend as theirs

X = np.array([[1, -2, 3]], np.float32)
TWO = "g (float[n] a, float[n] b) => (float[n] s, float[n] d) { s = Add (a, b) d = Sub (a, b) }"


@pytest.mark.parametrize("backend", [ours, theirs])
def test_models_in_every_form(backend: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(relu())
    sources = [relu(), onnx.load_from_string(relu()), str(tmp_path / "m.onnx")]
    for source in sources:
        prepared = backend.prepare(source, "CPU", intra_op_num_threads=1, unknown=3)
        assert backend.prepare(prepared) is prepared
        for inputs in (X, [X]):
            got = prepared.run(inputs, logid="a")
            assert isinstance(got, list)
            np.testing.assert_array_equal(got[0], np.maximum(X, 0))
        np.testing.assert_array_equal(backend.run(source, X)[0], np.maximum(X, 0))


@pytest.mark.parametrize("backend", [ours, theirs])
def test_several_inputs(backend: Any) -> None:
    prepared = backend.prepare(model(TWO))
    a, b = np.float32([1, 2]), np.float32([3, 5])
    assert [x.tolist() for x in prepared.run([a, b])] == [[4, 7], [-2, -3]]
    with pytest.raises(RuntimeError, match="Model expect 2 inputs"):
        prepared.run(a)


@pytest.mark.parametrize("backend", [ours, theirs])
def test_what_may_not_be_given(backend: Any) -> None:
    with pytest.raises(RuntimeError, match="SessionOptions attribute 'enable_profiling' is not permitted via the backend API"):
        backend.prepare(relu(), enable_profiling=True)
    with pytest.raises(RuntimeError, match="RunOptions attribute 'terminate' is not permitted via the backend API"):
        backend.prepare(relu()).run(X, terminate=True)
    with pytest.raises(RuntimeError, match="Incompatible device expected 'CUDA', got 'CPU'"):
        backend.prepare(relu(), "CUDA")
    assert (backend.supports_device("CPU"), backend.supports_device("CUDA")) == (True, False)
    assert backend.is_compatible(relu())


def test_sessions_and_names() -> None:
    prepared = ours.prepare(sx.InferenceSession(relu()))
    assert prepared.run({"x": X})[0].shape == (1, 3)
    assert ours.SardonyxBackend.is_opset_supported(onnx.load_from_string(relu())) == (True, "")
    assert not ours.SardonyxBackend.is_opset_supported(
        onnx.helper.make_model(onnx.GraphProto(), opset_imports=[onnx.helper.make_opsetid("", 999)])
    )[0]
