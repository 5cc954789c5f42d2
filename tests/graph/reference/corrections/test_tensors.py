"""Pad in the reference, which refuses what the compiler refuses. The rest is compared in tests/test_backend.py."""

from __future__ import annotations

import numpy as np
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
