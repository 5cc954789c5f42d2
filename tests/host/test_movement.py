"""Elements that are moved whatever they are: strings in every operator that moves them, beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base.errors import InvalidArgument

X = np.array([["a", "bc", ""], ["é", "a", "z"]], object)
HEAD = '<ir_version: 8, opset_import: ["" : {}]>'
ROW = "g (string[n, 3] x) => (string[{}] y) "
CASES = {
    "reshape": (18, ROW.format("a, b") + "<int64[2] s = {-1, 2}> { y = Reshape(x, s) }"),
    "reshape, size kept": (18, ROW.format("a, b, c") + "<int64[3] s = {0, 1, -1}> { y = Reshape(x, s) }"),
    "flatten": (18, ROW.format("a, b") + "{ y = Flatten<axis = 0>(x) }"),
    "gather": (18, ROW.format("a, b, c") + "<int64[2, 2] i = {2, -1, 0, 1}> { y = Gather<axis = 1>(x, i) }"),
    "concat": (18, ROW.format("a, b") + "{ y = Concat<axis = -1>(x, x) }"),
    "transpose": (18, ROW.format("a, b") + "{ y = Transpose<perm = [1, 0]>(x) }"),
    "transpose all": (18, ROW.format("a, b") + "{ y = Transpose(x) }"),
    "unsqueeze": (18, ROW.format("a, b, c, d") + "<int64[2] i = {0, -1}> { y = Unsqueeze(x, i) }"),
    "unsqueeze, attribute": (11, ROW.format("a, b, c") + "{ y = Unsqueeze<axes = [1]>(x) }"),
    "squeeze": (18, "g (string[1, 3, 1] x) => (string[a, b] y) <int64[1] i = {2}> { y = Squeeze(x, i) }"),
    "squeeze all": (18, "g (string[1, 3, 1] x) => (string[a] y) { y = Squeeze(x) }"),
    "squeeze, attribute": (11, "g (string[1, 3, 1] x) => (string[a, b] y) { y = Squeeze<axes = [0]>(x) }"),
    "slice": (
        18,
        ROW.format("a, b")
        + "<int64[1] s = {-1}, int64[1] e = {-9}, int64[1] i = {1}, int64[1] t = {-2}> { y = Slice(x, s, e, i, t) }",
    ),
    "slice, plain": (18, ROW.format("a, b") + "<int64[2] s = {0, 1}, int64[2] e = {1, 9}> { y = Slice(x, s, e) }"),
    "expand": (18, ROW.format("a, b, c") + "<int64[3] s = {2, 1, 3}> { y = Expand(x, s) }"),
    "where": (18, "g (string[n, 3] x, bool[1, 3] c) => (string[a, b] y) { z = Concat<axis = 0>(x) y = Where(c, x, z) }"),
    "equal": (19, "g (string[n, 3] x) => (bool[a, b] y) <int64[1] i = {0}> { z = Gather<axis = 1>(x, i) y = Equal(x, z) }"),
    "shape and size": (18, "g (string[n, 3] x) => (int64[1] y, int64 z) { t = Identity(x) y = Shape<start = -1>(t) z = Size(t) }"),
}


@pytest.mark.parametrize("name", CASES)
def test_strings_move_as_in_onnxruntime(name: str):
    version, text = CASES[name]
    source = onnx.parser.parse_model(f"{HEAD.format(version)} {text}").SerializeToString()
    feeds: dict[str, Any] = {"x": X[:1].reshape(1, 3, 1) if "string[1, 3, 1]" in text else X}
    if "where" in name:
        feeds["c"] = np.array([[True, False, True]])
    ours = sx.InferenceSession(source)
    assert {part.ep_name for part in ours.get_provider_graph_assignment_info()} == {"CPUExecutionProvider"}
    expected = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, feeds)
    for a, b in zip(ours.run(None, feeds), expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_an_index_outside_is_an_error():
    text = f"{HEAD.format(18)} g (string[n] x, int64[k] i) => (string[k] y) {{ y = Gather(x, i) }}"
    session = sx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(InvalidArgument, match="Gather node"):
        session.run(None, {"x": X[0], "i": np.array([3])})


def test_what_comes_back_is_the_callers_own():
    text = f"{HEAD.format(18)} g (string[n] x) => (string[n] y, string[a, n] z) <int64[1] i = {{0}}> {{ y = Identity(x) z = Unsqueeze(y, i) }}"
    session = sx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), disabled_optimizers=["identity_elimination"])
    x = X[0].copy()
    y, z = session.run(None, {"x": x})
    y[:], z[:] = "changed", "too"
    np.testing.assert_array_equal(x, X[0])
    np.testing.assert_array_equal(y, ["changed"] * 3)
