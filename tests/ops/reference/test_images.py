"""Resizing and pooling of regions as old opsets have them, beside onnxruntime (but for the nearest of fewer points, where it rounds up). MaxRoiPool is compared in test_init.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops import harness

X = np.random.default_rng(3).standard_normal((1, 2, 4, 5)).astype(np.float32)
SCALES = np.array([1, 1, 1.5, 2.0], np.float32)
SMALLER = np.array([1, 1, 0.5, 0.6], np.float32)
ROIS = np.array([[0, 0, 3, 3], [1, 0.5, 2.5, 3.5], [2, 2, 2.2, 2.1]], np.float32)


@pytest.mark.parametrize(
    ("name", "version", "inputs", "attributes"),
    [
        ("Upsample", 7, [X], {"scales": SCALES.tolist()}),
        ("Upsample", 7, [X], {"scales": SCALES.tolist(), "mode": "linear"}),
        ("Upsample", 9, [X, SCALES], {"mode": "nearest"}),
        ("Resize", 10, [X, SCALES], {"mode": "linear"}),
        ("Resize", 10, [X, SMALLER], {"mode": "linear"}),
        ("RoiAlign", 10, [X, ROIS, np.zeros(3, np.int64)], {"output_height": 2, "output_width": 3, "sampling_ratio": 2}),
        ("RoiAlign", 10, [X, ROIS, np.zeros(3, np.int64)], {"spatial_scale": 0.5, "mode": "max", "sampling_ratio": 1}),
    ],
)
def test_as_onnxruntime(name: str, version: int, inputs: list[Any], attributes: dict[str, Any]) -> None:
    got = harness.run_by_reference(name, inputs, attributes, version=version, symbolic=False)
    harness.assert_same(got, harness.onnxruntime_reference(name, inputs, attributes, version=version), 1e-5, 1e-5)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_the_first_upsample(mode: str) -> None:
    """Version 1 has a scale for each axis of the image; it means what version 7 means."""
    got = harness.run_by_reference("Upsample", [X], {"height_scale": 1.5, "width_scale": 2.0, "mode": mode}, version=1)
    newer = {"scales": SCALES.tolist(), "mode": "linear" if mode == "bilinear" else mode}
    harness.assert_same(got, harness.onnxruntime_reference("Upsample", [X], newer, version=7), 1e-5, 1e-5)
