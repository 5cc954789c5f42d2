"""Dropout that drops nothing is taken out."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.graph.passes.dropout_elimination import eliminate_dropouts
from tests.graph.passes.harness import after, operators, reals

X = {"x": reals(4)}
OLD = '<ir_version: 8, opset_import: ["" : 10]> '


def test_without_a_training_flag() -> None:
    text = "g (float[4] x) => (float[4] y) <float r = {0.5}> { a = Dropout(x, r) y = Relu(a) }"
    assert operators(after(eliminate_dropouts, text, X)) == ["Relu"]


def test_as_an_attribute() -> None:
    found = after(eliminate_dropouts, "g (float[4] x) => (float[4] y) { a = Dropout <ratio = 0.7> (x) y = Relu(a) }", X, OLD)
    assert operators(found) == ["Relu"]


@pytest.mark.parametrize("training", [0, 1])
def test_with_a_training_flag_that_is_known(training: int) -> None:
    text = f"g (float[4] x) => (float[4] y) <float r = {{0.0}}, bool t = {{{training}}}> {{ a = Dropout(x, r, t) y = Relu(a) }}"
    assert operators(after(eliminate_dropouts, text, X)) == (["Dropout", "Relu"] if training else ["Relu"])


def test_with_a_training_flag_that_is_fed() -> None:
    text = "g (float[4] x, bool t) => (float[4] y) <float r = {0.0}> { a = Dropout(x, r, t) y = Relu(a) }"
    assert operators(after(eliminate_dropouts, text, {**X, "t": np.array(False)})) == ["Dropout", "Relu"]


def test_not_where_the_mask_is_read() -> None:
    text = "g (float[4] x) => (float[4] y, bool[4] m) { y, m = Dropout(x) }"
    assert operators(after(eliminate_dropouts, text, X)) == ["Dropout"]
