"""Rotary embeddings by positions in time, height and width, beside numpy and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from sardonyx.ops.contrib_rotary import axis_of_pairs
from tests.ops import harness

BY = np.random.default_rng(0)
ANGLES = BY.uniform(-3, 3, (9, 6))
CACHES = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)
PLACES = BY.integers(0, 9, (3, 2, 4))


def run(x: harness.Array, **attributes: Any) -> harness.Array:
    (got,) = harness.run("MRotaryEmbedding", [x, PLACES, *CACHES], attributes, version=1, domain="com.microsoft")
    return got


@pytest.mark.parametrize(
    ("sections", "layout", "axes"),
    [((3, 2, 1), 0, [0, 0, 0, 1, 1, 2]), ((2, 2, 2), 1, [0, 1, 2, 0, 1, 2]), ((4, 1, 1), 1, [0, 1, 2, 0, 0, 0])],
)
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("size", [12, 16])
def test_each_pair_follows_its_axis(sections: tuple[int, ...], layout: int, axes: list[int], interleaved: int, size: int) -> None:
    assert axis_of_pairs(sections, layout) == axes
    x = BY.standard_normal((2, 3, 4, size)).astype(np.float32)
    angle = np.stack([ANGLES[PLACES[axis], k] for k, axis in enumerate(axes)], -1)[:, None]
    pairs = np.arange(12).reshape(6, 2) if interleaved else np.arange(12).reshape(2, 6).T
    a, b = x[..., pairs[:, 0]].astype(np.float64), x[..., pairs[:, 1]]
    expected = x.astype(np.float64)
    expected[..., pairs[:, 0]] = a * np.cos(angle) - b * np.sin(angle)
    expected[..., pairs[:, 1]] = a * np.sin(angle) + b * np.cos(angle)
    form = {"mrope_section": list(sections), "mrope_layout": layout, "interleaved": interleaved}
    np.testing.assert_allclose(run(x, **form), expected, 1e-5, 1e-5)
    packed = x.transpose(0, 2, 1, 3).reshape(2, 4, 3 * size)
    got = run(packed, **form, num_heads=3, rotary_embedding_dim=12)
    np.testing.assert_allclose(got, expected.transpose(0, 2, 1, 3).reshape(packed.shape), 1e-5, 1e-5)


@pytest.mark.parametrize(
    "form", [{"mrope_section": [3, 3]}, {"mrope_section": [3, 2, 2]}, {"mrope_section": [3, 2, 1], "mrope_layout": 2}]
)
def test_sections_that_do_not_fit(form: dict[str, Any]) -> None:
    with pytest.raises(Fail):
        run(np.ones((2, 3, 4, 12), np.float32), **form)
