"""DynamicQuantizeLSTM in many forms, against onnxruntime and against the LSTM of the same weights in f32. Its plain cases are in the record."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.ops import harness

DOMAIN = "com.microsoft"
FORMS = list(itertools.product(("forward", "reverse", "bidirectional"), (np.int8, np.uint8), ("one", "column"), (None, "lengths")))


def inputs_of(direction: str, dtype: Any, scales: str, lengths: str | None, seed: int = 0) -> list[Any]:
    """Sequences of 7 steps of 6 numbers, batches of 3, 8 hidden; biases, states and peepholes."""
    draw = np.random.default_rng(seed)
    ways, steps, batch, size, hidden = 2 if direction == "bidirectional" else 1, 7, 3, 6, 8
    real = lambda *shape, scale=1.0: (draw.standard_normal(shape) * scale).astype(np.float32)  # noqa: E731
    low = 0 if dtype is np.uint8 else -128
    w, r = (draw.integers(low, low + 256, (ways, k, 4 * hidden)).astype(dtype) for k in (size, hidden))
    shape = (ways,) if scales == "one" else (ways, 4 * hidden)
    zero = np.full(shape, low + 128, dtype)
    w_scale, r_scale = (draw.uniform(0.001, 0.006, shape).astype(np.float32) for _ in range(2))
    lens = None if lengths is None else np.array([7, 2, 5], np.int32)
    bias, h, c, p = real(ways, 8 * hidden, scale=0.2), real(ways, batch, hidden), real(ways, batch, hidden), real(ways, 3 * hidden)
    return [real(steps, batch, size), w, r, bias, lens, h, c, p, w_scale, zero, r_scale, zero]


def in_floats(inputs: list[Any]) -> list[Any]:
    """The inputs of the LSTM that is meant: weights as numbers, transposed."""
    x, w, r, *others, w_scale, w_zero, r_scale, r_zero = inputs

    def numbers(q: Any, scale: Any, zero: Any) -> Any:
        wide = [p.reshape(len(q), 1, -1).astype(np.float32) for p in (scale, zero)]
        return ((q.astype(np.float32) - wide[1]) * wide[0]).transpose(0, 2, 1)

    return [x, numbers(w, w_scale, w_zero), numbers(r, r_scale, r_zero), *others]


@pytest.mark.parametrize(("direction", "dtype", "scales", "lengths"), FORMS)
def test_as_onnxruntime_and_close_to_floats(direction, dtype, scales, lengths):
    """Where sequences end at different times, to some quantisation steps (a step is a 255th of a state's range): which rows share a scale with
    those that are still running differs."""
    inputs, attributes = inputs_of(direction, dtype, scales, lengths), {"hidden_size": 8, "direction": direction}
    got = harness.run("DynamicQuantizeLSTM", inputs, attributes, version=1, domain=DOMAIN, outputs=3, symbolic=True, known=SIZED)
    theirs = harness.onnxruntime_reference("DynamicQuantizeLSTM", inputs, attributes, version=1, domain=DOMAIN, outputs=3)
    floats = harness.onnxruntime_reference("LSTM", in_floats(inputs), attributes, version=14, outputs=3)
    exact = lengths is None
    for ours, their, wide in zip(got, theirs, floats, strict=True):
        np.testing.assert_allclose(ours, their, rtol=0, atol=1e-5 if exact else 0.03)
        np.testing.assert_allclose(ours, wide, rtol=0, atol=0.05)
        assert np.abs(ours).max() > 0.2


SIZED = (1, 2)
"""The weights are initializers, as in files, so that the hidden size is known; all other sizes are not."""


def test_fed_weights():
    inputs = inputs_of("bidirectional", np.int8, "column", None, seed=1)
    attributes = {"hidden_size": 8, "direction": "bidirectional"}
    got = harness.run("DynamicQuantizeLSTM", inputs, attributes, version=1, domain=DOMAIN, outputs=3)
    theirs = harness.onnxruntime_reference("DynamicQuantizeLSTM", inputs, attributes, version=1, domain=DOMAIN, outputs=3)
    harness.assert_same(got, theirs, 1e-4, 1e-5)


def test_zero_points_by_column():
    """onnxruntime takes one for all columns."""
    inputs = inputs_of("forward", np.uint8, "column", None)
    inputs[9] = np.arange(96, 128, dtype=np.uint8)[None]
    got = harness.run("DynamicQuantizeLSTM", inputs, {"hidden_size": 8}, version=1, domain=DOMAIN, outputs=3)
    floats = harness.onnxruntime_reference("LSTM", in_floats(inputs), {"hidden_size": 8}, version=14, outputs=3)
    for ours, wide in zip(got, floats, strict=True):
        np.testing.assert_allclose(ours, wide, rtol=0, atol=0.05)
