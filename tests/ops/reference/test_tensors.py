"""Pad in the reference, which refuses what the compiler refuses; draws of Multinomial; optional values. test_init.py has the rest."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("pads", [[2, 0, 0, 0], [0, 0, 0, 3], [-1, 0, 1, 0]])
def test_more_than_an_axis_has_to_mirror(pads: list[int]) -> None:
    for run in (harness.run_by_reference, harness.run):
        with pytest.raises(Fail, match="reflect"):
            run("Pad", [X, np.array(pads)], {"mode": "reflect"})


@pytest.mark.parametrize("pads", [[1, 0, 0, 2], [0, 1, 1, -1]])
def test_as_much_as_it_has(pads: list[int]) -> None:
    inputs = [X, np.array(pads)]
    harness.assert_same(
        harness.run_by_reference("Pad", inputs, {"mode": "reflect"}), harness.run("Pad", inputs, {"mode": "reflect"}, known=[1])
    )


def test_draws_follow_the_probabilities() -> None:
    """A class that is certain is drawn always, one that is impossible never, the same for the same seed."""
    certain, even = [-np.inf, 0, -np.inf], [0.0, 0, -np.inf]
    x = np.array([certain, even], np.float32)
    (got,) = harness.run_by_reference("Multinomial", [x], {"sample_size": 200, "seed": 3.0})
    assert got.dtype == np.int32
    assert got.shape == (2, 200)
    assert set(got[0]) == {1}
    assert set(got[1]) == {0, 1}
    assert 60 < (got[1] == 0).sum() < 140
    np.testing.assert_array_equal(got, harness.run_by_reference("Multinomial", [x], {"sample_size": 200, "seed": 3.0})[0])


@pytest.mark.parametrize("filled", [True, False])
def test_optional_values(filled: bool) -> None:
    """What an Optional holds is asked for, and taken out."""
    nodes = "o = Optional(x)  there = OptionalHasElement(o)  y = OptionalGetElement(o)"
    nodes = nodes if filled else "there = OptionalHasElement()  y = Identity(x)"
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[2, 3] x) => (bool there, float[2, 3] y) {{ {nodes} }}'
    there, y = harness.reference_session(onnx.parser.parse_model(text)).run(None, {"x": X})
    assert there == filled
    np.testing.assert_array_equal(y, X)
