"""Loops as the reference provider runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sardonyx.graph.reference.interpreter import Interpreter

BODY = "(int64 i, bool going) => (bool still, float[3] row) { still = Less(i, four)  k = CastLike(i, x)  row = Mul(k, x) }"


@pytest.mark.parametrize(("inputs", "rows"), [("trips", 3), ("trips, ", 3), ("trips, yes", 3), (", yes", 6), ("", 6)])
def test_inputs_of_a_loop_may_be_left_out(inputs: str, rows: int) -> None:
    """Without state, and whether or not what is left out at the end is still counted."""
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        graph (float[3] x) => (y) <int64 trips = {{3}}, bool yes = {{1}}, int64 four = {{5}}>
        {{ y = Loop (trips, yes) <body = body {BODY}> }}"""
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    node = graph.node(0)
    named = {value.name: value for value in node.inputs if value is not None}
    wanted = [named.get(name.strip()) for name in inputs.split(",")] if inputs else []
    node.resize_inputs(len(wanted))
    for k, value in enumerate(wanted):
        node.replace_input_with(k, value)
    x = np.array([1, 2, 3], np.float32)
    (y,) = Interpreter(graph, {"": 21}).run([x])
    np.testing.assert_array_equal(y, np.arange(rows, dtype=np.float32)[:, None] * x)
