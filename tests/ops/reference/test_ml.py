"""Operators of ONNX-ML that have no numbers to compute: tables, and maps. Expected by hand from the standard's text."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from sardonyx.base.errors import InvalidArgument
from tests.ops import harness

ML = "ai.onnx.ml"
WORDS = np.array([["a", "b"], ["c", "z"]], object)


def run(name: str, x: Any, kind: onnx.TypeProto, result: onnx.TypeProto, version: int = 1, **attributes: Any) -> Any:
    node = helper.make_node(name, ["x"], ["y"], domain=ML, **attributes)
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", kind)], [helper.make_value_info("y", result)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(ML, version)]
    session = harness.reference_session(helper.make_model(graph, opset_imports=imports, ir_version=8))
    return session.run(None, {"x": x})[0]


def tensor(code: int, *shape: Any) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(code, shape or None)


def test_words_to_numbers_and_back() -> None:
    cats = {"cats_int64s": [10, 20, 30], "cats_strings": ["a", "b", "c"]}
    got = run("CategoryMapper", WORDS, tensor(T.STRING, 2, 2), tensor(T.INT64, 2, 2), **cats, default_int64=-7)
    np.testing.assert_array_equal(got, [[10, 20], [30, -7]])
    assert got.dtype == np.int64
    back = run("CategoryMapper", np.array([30, 5, 10]), tensor(T.INT64, 3), tensor(T.STRING, 3), **cats, default_string="?")
    assert back.tolist() == ["c", "?", "a"]


def test_places_in_a_list() -> None:
    """LabelEncoder of version 1."""
    got = run("LabelEncoder", WORDS, tensor(T.STRING, 2, 2), tensor(T.INT64, 2, 2), classes_strings=["c", "b", "a"])
    np.testing.assert_array_equal(got, [[2, 1], [0, -1]])
    back = run("LabelEncoder", np.array([0, 2, 3]), tensor(T.INT64, 3), tensor(T.STRING, 3), classes_strings=["c", "b", "a"])
    assert back.tolist() == ["c", "a", "_Unused"]


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({}, [[0.5, 1.5, 2.5]]),
        ({"map_form": "SPARSE", "max_map": 5}, [[0, 0.5, 0, 1.5, 2.5]]),
        ({"map_form": "SPARSE", "max_map": 4}, [[0, 0.5, 0, 1.5]]),
        ({"cast_to": "TO_INT64"}, [[0, 1, 2]]),
    ],
)
def test_a_map_becomes_a_row(attributes: dict[str, Any], wanted: list[list[float]]) -> None:
    kind = helper.make_map_type_proto(T.INT64, tensor(T.FLOAT))
    code = T.INT64 if attributes.get("cast_to") == "TO_INT64" else T.FLOAT
    got = run("CastMap", {4: 2.5, 1: 0.5, 3: 1.5}, kind, tensor(code, 1, None), **attributes)
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == helper.tensor_dtype_to_np_dtype(code)


def test_rows_become_maps() -> None:
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(T.STRING, tensor(T.FLOAT)))
    scores = np.array([[0.25, 0.75], [1, 0]], np.float32)
    assert run("ZipMap", scores, tensor(T.FLOAT, 2, 2), kind, classlabels_strings=["no", "yes"]) == [
        {"no": 0.25, "yes": 0.75},
        {"no": 1.0, "yes": 0.0},
    ]
    with pytest.raises(InvalidArgument, match="3 labels, but its input has 2 columns"):
        run("ZipMap", scores, tensor(T.FLOAT, 2, 2), kind, classlabels_strings=["no", "yes", "perhaps"])
