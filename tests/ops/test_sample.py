"""GridSample at and beyond the border, beside onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import harness

EDGES = np.array([[-1.1, -1.1], [1.15, 0.25], [1.0, 1.0], [-1.0, -1.0], [2.7, -3.1], [0, 0], [-0.99, 1.4]], np.float32)
POINTS = np.concatenate([np.random.default_rng(5).uniform(-1.5, 1.5, (40, 2)).astype(np.float32), EDGES])[None, None]
IMAGE = np.random.default_rng(6).standard_normal((1, 2, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_points_beyond_the_border(mode: str, padding_mode: str, align_corners: int) -> None:
    attributes = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    expected = harness.onnxruntime_reference("GridSample", [IMAGE, POINTS], attributes, version=20)
    harness.assert_same(harness.run("GridSample", [IMAGE, POINTS], attributes, version=20), expected, 1e-5, 2e-6)
