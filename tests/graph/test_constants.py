"""Constant nodes become initializers: every form of value, in the graph and in bodies; what has no value is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper as h
from onnx import numpy_helper

import sardonyx as sx
from sardonyx.base.errors import InvalidGraph
from sardonyx.graph.constants import array_of, constant_tensor, lift_constants

FORMS: dict[str, Any] = {
    "value": numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.int8), "t"),
    "value_int": 7,
    "value_ints": [1, -2, 3],
    "value_float": 0.5,
    "value_floats": [0.5, 1.5],
    "value_string": "é",
    "value_strings": ["a", "bc", ""],
}
EXPECTED: dict[str, Any] = {
    "value": np.array([[1, 2], [3, 4]], np.int8),
    "value_int": np.array(7, np.int64),
    "value_ints": np.array([1, -2, 3], np.int64),
    "value_float": np.array(0.5, np.float32),
    "value_floats": np.array([0.5, 1.5], np.float32),
    "value_string": np.array("é", object),
    "value_strings": np.array(["a", "bc", ""], object),
}


def node(**attributes: Any) -> ir.Node:
    return ir.from_proto(h.make_node("Constant", [], ["c"], "constant", **attributes))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_its_value(form: str) -> None:
    found = array_of(constant_tensor(node(**{form: FORMS[form]})))
    assert found.dtype == EXPECTED[form].dtype
    assert found.shape == EXPECTED[form].shape
    assert found.tolist() == EXPECTED[form].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reaches_the_output_of_a_session(form: str) -> None:
    kind = onnx.helper.np_dtype_to_tensor_dtype(EXPECTED[form].dtype)
    graph = h.make_graph(
        [h.make_node("Constant", [], ["c"], **{form: FORMS[form]})], "g", [], [h.make_tensor_value_info("c", kind, None)]
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=8)
    (found,) = sx.InferenceSession(model.SerializeToString()).run(None, {})
    assert found.shape == EXPECTED[form].shape
    assert found.tolist() == EXPECTED[form].tolist()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "must have one value"),
        ({"value_int": 1, "value_float": 1.0}, "must have one value"),
        ({"other": 1}, "no value of a known kind"),
    ],
)
def test_a_constant_without_one_value_is_refused(attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidGraph, match=f"Constant node 'constant'.*{reason}"):
        constant_tensor(node(**attributes))


def test_a_reference_to_an_attribute_outside_of_functions_is_refused() -> None:
    proto = h.make_node("Constant", [], ["c"], "constant")
    attribute = proto.attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "value_int", "missing", onnx.AttributeProto.INT
    with pytest.raises(InvalidGraph, match="refers to attribute 'missing' outside a function"):
        constant_tensor(ir.from_proto(proto))


def test_constants_of_bodies_become_initializers_of_bodies() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (bool c) => (float[2] y) {
        unused = Constant <value_int = 1> ()
        y = If (c) <then_branch = t () => (float[2] a) { a = Constant <value_floats = [1.0, 2.0]> () },
                    else_branch = e () => (float[2] b) { k = Constant <value_floats = [3.0, 4.0]> () b = Neg (k) }>
    }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    lift_constants(model)
    assert [n.op_type for n in ir.traversal.RecursiveGraphIterator(model.graph)] == ["If", "Neg"]
    bodies = [attribute.as_graph() for attribute in model.graph.node(0).attributes.values()]
    assert [list(body.initializers) for body in bodies] == [["a"], ["k"]]
    assert bodies[0].outputs[0].is_initializer(), "a body may return its constant"


def test_narrow_numbers_keep_their_types() -> None:
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.int4, ml_dtypes.float8_e4m3fn):
        tensor = ir.tensor(np.array([1, 2, 3]).astype(dtype))
        assert array_of(tensor).dtype == dtype
