"""Tables of labels, categories and maps, beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.host import find
from sardonyx.host.labels import FEW, cast_map, dict_vectorizer, label_encoder

TEXTS = np.array([["b", "?"], ["", "a"]], object)
TYPES = {np.dtype(object): TensorProto.STRING, np.dtype(np.int64): TensorProto.INT64, np.dtype(np.float32): TensorProto.FLOAT}


def model(operator: str, x: np.ndarray[Any, Any], output: int, version: int, attributes: dict[str, Any]) -> bytes:
    node = helper.make_node(operator, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    types = [helper.make_tensor_value_info("x", TYPES[x.dtype], ["n"] * x.ndim)], [helper.make_tensor_value_info("y", output, None)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(helper.make_graph([node], "g", *types), opset_imports=opsets, ir_version=9).SerializeToString()


NUMBERS = np.array([0, 2, 7, -1, 1, -3, 1 << 62])
TABLES = {
    "texts to numbers": (TEXTS, TensorProto.INT64, 2, {"keys_strings": ["a", "b"], "values_int64s": [5, 6], "default_int64": -7}),
    "texts to floats": (
        TEXTS,
        TensorProto.FLOAT,
        2,
        {"keys_strings": ["a", "b"], "values_floats": [0.5, np.nan], "default_float": 2.5},
    ),
    "texts to texts": (
        TEXTS,
        TensorProto.STRING,
        2,
        {"keys_strings": ["a", ""], "values_strings": ["x", "y"], "default_string": "d"},
    ),
    "places": (NUMBERS, TensorProto.STRING, 2, {"keys_int64s": [0, 1, 2], "values_strings": ["x", "y", "z"]}),
    "many places": (
        np.resize(NUMBERS, 5 * FEW),
        TensorProto.STRING,
        2,
        {"keys_int64s": [0, 1, 2], "values_strings": ["x", "y", "z"]},
    ),
    "numbers": (NUMBERS, TensorProto.STRING, 2, {"keys_int64s": [7, -1], "values_strings": ["x", "y"], "default_string": "d"}),
    "floats": (
        np.array([1, np.nan, 2.5, np.inf], np.float32),
        TensorProto.STRING,
        2,
        {"keys_floats": [np.nan, 2.5], "values_strings": ["n", "y"]},
    ),
    "first version": (TEXTS, TensorProto.INT64, 1, {"classes_strings": ["a", "b"], "default_int64": -5}),
    "first version, to texts": (NUMBERS, TensorProto.STRING, 1, {"classes_strings": ["a", "b"], "default_string": "d"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_label_encoder(name: str):
    x, output, version, attributes = TABLES[name]
    source = model("LabelEncoder", x, output, version, attributes)
    ours = sx.InferenceSession(source, providers=["CPUExecutionProvider"])
    assert {part.ep_name for part in ours.get_provider_graph_assignment_info()} == {"CPUExecutionProvider"}
    if name != "floats":  # onnxruntime knows no NaN as a key here
        expected = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        np.testing.assert_array_equal(ours.run(None, {"x": x})[0], expected)
    for size in (0, 1, FEW, FEW + 1):
        part = np.resize(x, (size,) * x.ndim)
        np.testing.assert_array_equal(ours.run(None, {"x": part})[0], one_by_one(part, attributes))


def one_by_one(x: np.ndarray[Any, Any], attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    """What a LabelEncoder does, in the simplest way."""
    keys = next((v for k, v in attributes.items() if k.startswith("keys")), None)
    values = next((v for k, v in attributes.items() if k.startswith("values")), None)
    if keys is None:
        classes = attributes["classes_strings"]
        keys, values = (classes, range(len(classes))) if x.dtype == object else (range(len(classes)), classes)
    assert values is not None
    texts = any(isinstance(v, str) for v in values)
    default = attributes.get("default_int64", attributes.get("default_float", attributes.get("default_string", "_Unused")))
    out = np.full(x.shape, default, object)
    for key, value in zip(keys, values, strict=True):
        out[(x == key) if key == key else (x != x)] = value
    return out if texts else out.astype(np.float32 if isinstance(default, float) else np.int64)


def test_label_encoder_of_tensors():
    run = label_encoder(
        keys_tensor=np.array(["a", "b"], object),
        values_tensor=np.array([1.5, 2.5]),
        default_tensor=np.array([9.5]),
        keys_strings=None,
    )
    found = run(TEXTS)
    np.testing.assert_array_equal(found, [[2.5, 9.5], [9.5, 1.5]])
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    "attributes", [{"keys_strings": ["a"], "values_int64s": []}, {"values_int64s": [1]}, {"keys_strings": ["a"]}]
)
def test_tables_that_do_not_fit(attributes: dict[str, Any]):
    with pytest.raises(Fail):
        label_encoder(**attributes)


def test_category_mapper_goes_both_ways():
    attributes = {"cats_int64s": [10, 20], "cats_strings": ["a", "b"], "default_int64": -2, "default_string": "d"}
    for x, output in ((TEXTS, TensorProto.INT64), (np.array([[20, 10, 3]]), TensorProto.STRING)):
        source = model("CategoryMapper", x, output, 3, attributes)
        expected = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        np.testing.assert_array_equal(sx.InferenceSession(source).run(None, {"x": x})[0], expected)


def test_one_hot_encoder_of_strings():
    source = model("OneHotEncoder", TEXTS, TensorProto.FLOAT, 3, {"cats_strings": ["a", "b", "c"]})
    ours = sx.InferenceSession(source)
    expected = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": TEXTS})[0]
    np.testing.assert_array_equal(ours.run(None, {"x": TEXTS})[0], expected)
    assert ours.run(None, {"x": TEXTS[:0]})[0].shape == (0, 2, 3)


def test_one_hot_encoder_that_refuses_strings():
    session = sx.InferenceSession(model("OneHotEncoder", TEXTS, TensorProto.FLOAT, 3, {"cats_strings": ["a", "b"], "zeros": 0}))
    np.testing.assert_array_equal(session.run(None, {"x": TEXTS[:1, :1]})[0], [[[0, 1]]])
    with pytest.raises(InvalidArgument, match="OneHotEncoder node.*Unknown Category"):
        session.run(None, {"x": TEXTS})


@pytest.mark.parametrize("labels", [["a", "b", "c"], [4, 5, 6], ["only"], [], list(range(101))])
def test_zip_map(labels: list[Any]):
    kind = "strings" if labels and isinstance(labels[0], str) else "int64s"
    prepare = find("ai.onnx.ml", "ZipMap", 1)
    assert prepare is not None
    run = prepare(**{f"classlabels_{kind}": labels})
    scores = np.random.default_rng(0).random((4, len(labels)), np.float32)
    if labels:
        assert run(scores) == [dict(zip(labels, row, strict=True)) for row in scores.tolist()]
        assert run(scores[0]) == run(scores[:1])
        assert run(scores[:0]) == []
    with pytest.raises(InvalidArgument, match=f"{len(labels)} labels, but its input has {len(labels) + 1} columns"):
        run(np.zeros((2, len(labels) + 1), np.float32))


@pytest.mark.parametrize("shape", [(3, 5), (5,), (2, 2, 5)])
def test_array_feature_extractor_of_strings(shape: tuple[int, ...]):
    x = np.array([f"s{i}" for i in range(int(np.prod(shape)))], object).reshape(shape)
    prepare = find("ai.onnx.ml", "ArrayFeatureExtractor", 1)
    assert prepare is not None
    indices = np.array([[4, 0, 4]])
    expected = x[..., [4, 0, 4]] if x.ndim > 1 else x[None, [4, 0, 4]]
    np.testing.assert_array_equal(prepare()(x, indices), expected)
    for wrong in (5, -1):
        with pytest.raises(IndexError):
            prepare()(x, np.array([wrong]))


def test_cast_map():
    numbers = {3: 1.5, 0: 2.5}
    np.testing.assert_array_equal(cast_map()(numbers), np.array([[2.5, 1.5]], np.float32))
    np.testing.assert_array_equal(cast_map("TO_INT64", "SPARSE", 5)(numbers), [[2, 0, 0, 1, 0]])
    np.testing.assert_array_equal(cast_map("TO_STRING", "SPARSE", 2)({1: "x"}), np.array([["", "x"]], object))


def test_dict_vectorizer():
    np.testing.assert_array_equal(dict_vectorizer(string_vocabulary=["a", "b"])({"b": 4, "c": 5}), [[0, 4]])
    np.testing.assert_array_equal(dict_vectorizer(int64_vocabulary=[1, 2])({2: 1.5}), np.array([[0, 1.5]], np.float32))
    np.testing.assert_array_equal(dict_vectorizer(int64_vocabulary=[1, 2])({1: "x"}), np.array([["x", ""]], object))
