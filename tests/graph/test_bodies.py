"""Bodies fit their nodes: what is given to sessions with too few or too many inputs, outputs and entries is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx
from sardonyx.base.errors import Fail, InvalidGraph

HEAD = '<ir_version: 10, opset_import: ["" : 21]> '
LOOP = """g (float[2] x, int64 n) => (float[2] y, float[a, 2] z) <bool c = {1}> {
    y, z = Loop (n, c, x) <body = b (int64 i, bool p, float[2] s) => (bool q, float[2] t, float[2] u) {
        q = Identity (p)  t = Add (s, s)  u = Neg (s) }> }"""
SCAN = """g (float[2] x, float[3, 2] v, float[3, 2] w) => (float[2] y, float[3, 2] z) {
    y, z = Scan <num_scan_inputs = 2, scan_input_axes = [0, 0], scan_input_directions = [0, 0], scan_output_axes = [0],
        scan_output_directions = [0], body = b (float[2] s, float[2] e, float[2] f) => (float[2] t, float[2] u) {
        t = Add (s, e)  u = Mul (s, f) }> (x, v, w) }"""
IF = """g (bool c, float[2] x) => (float[2] y, float[2] z) {
    y, z = If (c) <then_branch = a () => (float[2] p, float[2] q) { p = Neg (x)  q = Abs (x) },
        else_branch = b () => (float[2] r, float[2] s) { r = Abs (x)  s = Neg (x) }> }"""
FEEDS = {
    "Loop": {"x": np.ones(2, np.float32), "n": np.array(3)},
    "Scan": {"x": np.ones(2, np.float32), "v": np.ones((3, 2), np.float32), "w": np.ones((3, 2), np.float32)},
    "If": {"x": np.ones(2, np.float32), "c": np.array(True)},
}
TEXTS = {"Loop": LOOP, "Scan": SCAN, "If": IF}


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def more(entries: Any) -> None:
    entries.append(entries[-1])


def another_input(body: onnx.GraphProto) -> None:
    body.input.append(onnx.helper.make_tensor_value_info("another", onnx.TensorProto.FLOAT, [2]))


def session(operator: str, change: Callable[[onnx.NodeProto], object] | None) -> sardonyx.InferenceSession:
    model = onnx.parser.parse_model(HEAD + TEXTS[operator])
    if change is not None:
        change(model.graph.node[0])
    return sardonyx.InferenceSession(model.SerializeToString())


def scan_attribute(name: str, values: list[int]) -> Callable[[onnx.NodeProto], object]:
    def change(node: onnx.NodeProto) -> None:
        found = attribute(node, name)
        found.ClearField("ints")
        found.ints.extend(values)

    return change


def scanned(count: int) -> Callable[[onnx.NodeProto], object]:
    return lambda node: setattr(attribute(node, "num_scan_inputs"), "i", count)


MISFITS = {
    "an input that the body lacks": ("Loop", lambda n: n.attribute[0].g.input.pop()),
    "an input too many in the body": ("Loop", lambda n: another_input(n.attribute[0].g)),
    "a state too few": ("Loop", lambda n: n.input.pop()),
    "a state too many": ("Loop", lambda n: more(n.input)),
    "a loop without results": ("Loop", lambda n: n.attribute[0].g.ClearField("output")),
    "a result that the loop's body lacks": ("Loop", lambda n: n.attribute[0].g.output.pop()),
    "a result of the loop that the node lacks": ("Loop", lambda n: n.output.pop()),
    "a result of the scan that the node lacks": ("Scan", lambda n: n.output.pop()),
    "an input that the scan's body lacks": ("Scan", lambda n: attribute(n, "body").g.input.pop()),
    "a result that the scan's body lacks": ("Scan", lambda n: attribute(n, "body").g.output.pop()),
    "an element too many": ("Scan", lambda n: more(n.input)),
    "no scanned input": ("Scan", scanned(0)),
    "more scanned inputs than there are": ("Scan", scanned(4)),
    "scanned inputs below zero": ("Scan", scanned(-1)),
    "more states than the body returns": ("Scan", lambda n: (scanned(1)(n), attribute(n, "body").g.output.pop())),
    "a branch without its results": ("If", lambda n: n.attribute[0].g.ClearField("output")),
    "a branch with one result too few": ("If", lambda n: n.attribute[1].g.output.pop()),
    "a result too few": ("If", lambda n: n.output.pop()),
    "a branch with an input": ("If", lambda n: another_input(n.attribute[0].g)),
    **{
        f"{name} {values}": ("Scan", scan_attribute(name, values))
        for name in ("scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions")
        for values in ([], [0, 0, 0])
    },
}


@pytest.mark.parametrize("operator", TEXTS)
def test_bodies_that_fit(operator: str) -> None:
    assert len(session(operator, None).run(None, FEEDS[operator])) == 2


@pytest.mark.parametrize("name", MISFITS)
def test_bodies_that_do_not_fit(name: str) -> None:
    operator, change = MISFITS[name]
    with pytest.raises((InvalidGraph, Fail)) as caught:
        session(operator, change)
    assert not caught.value.defect
    assert operator in str(caught.value)
