"""Attributes as Python values, with the defaults of the schema."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import helper as h
from onnx import numpy_helper

from sardonyx.graph import schemas
from sardonyx.graph.attributes import attributes_of, python_value


def attribute(value: object) -> ir.Attr:
    return ir.serde.deserialize_attribute(h.make_attribute("a", value))


def test_each_kind() -> None:
    assert python_value(attribute(3)) == 3
    assert python_value(attribute(0.5)) == 0.5
    assert python_value(attribute("text")) == "text"
    assert python_value(attribute([1, 2])) == (1, 2)
    assert python_value(attribute(["a", "b"])) == ("a", "b")
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    np.testing.assert_array_equal(python_value(attribute(numpy_helper.from_array(array, "t"))), array)
    first, second = python_value(attribute([numpy_helper.from_array(array, "t"), numpy_helper.from_array(array + 1, "u")]))
    np.testing.assert_array_equal(second, first + 1)


def test_defaults_stand_where_nothing_is_given() -> None:
    schema = schemas.find("", "Gemm", 13)
    assert schema is not None
    node = ir.from_proto(h.make_node("Gemm", ["a", "b"], ["y"], transB=1))
    assert attributes_of(node, schema) == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def test_what_has_no_default_is_left_out() -> None:
    schema = schemas.find("", "Concat", 13)
    assert schema is not None
    assert attributes_of(ir.from_proto(h.make_node("Concat", ["a"], ["y"], axis=-1)), schema) == {"axis": -1}
