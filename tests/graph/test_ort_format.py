"""graph/ort_format.py, graph/ort_writer.py and graph/model_files.py, through sessions: what was written is read again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper as h

import sardonyx as sx
from fuzz import corpus
from sardonyx.base import errors
from sardonyx.base.errors import Fail, InvalidProtobuf, NoSuchFile
from sardonyx.graph.load import load
from sardonyx.graph.ort_format import read_ort
from sardonyx.graph.ort_writer import write_ort

MODELS = {
    "network": corpus.network,
    "loop": corpus.loop,
    "scan": corpus.scan,
    "branches": corpus.branches,
    "function": corpus.function,
}


def small() -> onnx.ModelProto:
    nodes = [h.make_node("MatMul", ["x", "w"], ["y"]), h.make_node("LeakyRelu", ["y"], ["z"], alpha=0.25)]
    weights = [h.make_tensor("w", T.FLOAT, [4, 3], np.arange(12, dtype=np.float32))]
    graph = h.make_graph(nodes, "g", [corpus.value("x", ["n", 4])], [corpus.value("z", ["n", 3])], weights)
    return corpus.model(graph)


def written(model: onnx.ModelProto) -> bytes:
    return write_ort(load(model.SerializeToString()))


def session(source: Any, model_format: str = "") -> sx.InferenceSession:
    options = sx.SessionOptions()
    options.add_session_config_entry("session.disable_cache", "1")
    options.graph_optimization_level = sx.GraphOptimizationLevel.ORT_DISABLE_ALL
    if model_format:
        options.add_session_config_entry("session.load_model_format", model_format)
    return sx.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_means_the_same_in_both_formats(name: str) -> None:
    model = MODELS[name]()
    first, second = session(model.SerializeToString()), session(written(model))
    drawn = np.random.default_rng(1)
    sizes = {"n": 2, "h": 8, "w": 8}
    feeds = {}
    for argument in first.get_inputs():
        shape = [size if isinstance(size, int) else sizes.get(size or "", 3) for size in argument.shape]
        feeds[argument.name] = (drawn.random(shape) * 3).astype(
            {"tensor(float)": np.float32, "tensor(bool)": bool}.get(argument.type, np.int64)
        )
    for a, b in zip(first.run(None, feeds), second.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [(v.name, v.type) for v in second.get_inputs()] == [(v.name, v.type) for v in first.get_inputs()]


def test_every_kind_of_content_is_kept() -> None:
    """Types, attributes, tensors of strings and narrow dtypes, metadata: the parsed model is the one that was written."""
    model = small()
    model.producer_name, model.doc_string, model.graph.doc_string, model.model_version = "maker", "about", "inner", 7
    model.metadata_props.add(key="k", value="v")
    model.graph.initializer.append(h.make_tensor("s", T.STRING, [2], [b"a", "é".encode()]))
    model.graph.initializer.append(h.make_tensor("i", T.INT4, [3], [1, -2, 3]))
    model.graph.input.append(h.make_value_info("q", h.make_sequence_type_proto(h.make_tensor_type_proto(T.INT64, None))))
    read = read_ort(written(model))
    assert (read.producer_name, read.doc_string, read.graph.doc_string, read.model_version) == ("maker", "about", "inner", 7)
    assert [(entry.key, entry.value) for entry in read.metadata_props] == [("k", "v")]
    tensors = {tensor.name: tensor for tensor in read.graph.initializer}
    assert list(tensors["s"].string_data) == [b"a", "é".encode()]
    assert (list(tensors["i"].dims), tensors["i"].data_type) == ([3], T.INT4)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensors["i"]).astype(int), [1, -2, 3])
    types = {value.name: value.type for value in read.graph.input}
    assert types["q"].sequence_type.elem_type.tensor_type.elem_type == T.INT64
    assert [d.dim_param or d.dim_value for d in types["x"].tensor_type.shape.dim] == ["n", 4]
    (attribute,) = read.graph.node[1].attribute
    assert (attribute.name, attribute.f) == ("alpha", 0.25)


def test_the_format_is_told_by_option_then_name_then_bytes(tmp_path: Path) -> None:
    ort, plain = written(small()), small().SerializeToString()
    for name, data in (("a.ort", ort), ("a.bin", ort), ("a.onnx", plain), ("b.ort", plain)):
        (tmp_path / name).write_bytes(data)
    for source, given in (("a.ort", ""), ("a.bin", "ORT"), ("a.onnx", "ONNX"), ("b.ort", "ONNX"), ("a.ort", "other")):
        assert session(tmp_path / source, given).get_outputs()[0].name == "z"
    assert session(ort).get_outputs()[0].name == session(ort, "ORT").get_outputs()[0].name == "z"
    for wrong, given, kind in (
        *((ort, "ONNX", InvalidProtobuf), (plain, "ORT", Fail), (tmp_path / "b.ort", "", Fail)),
        *((tmp_path / "a.bin", "", InvalidProtobuf), (tmp_path / "none.ort", "", NoSuchFile)),
    ):
        with pytest.raises(kind):
            session(wrong, given)


def test_damage_is_an_error_of_the_documented_class() -> None:
    """Each place overwritten by large, small and negative numbers, and each way to cut the file."""
    data = written(small())
    for at in range(0, len(data), 2):
        for piece in (b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\xf0\xff\xff\xff", b"\x01\x00\x00\x00"):
            with contextlib.suppress(Fail):
                read_ort(data[:at] + piece + data[at + 4 :])
    for end in range(0, len(data), 7):
        with pytest.raises(Fail):
            read_ort(data[:end])


@pytest.mark.parametrize("version", ["3", "7", ""])
def test_other_versions_are_named(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sardonyx.graph.ort_writer.VERSION", version)
    with pytest.raises(Fail, match=rf"version \[{version}\] is not supported"):
        session(written(small()))


def test_operators_outside_the_standard_are_not_written() -> None:
    graph = h.make_graph(
        [h.make_node("Gelu", ["x"], ["y"], "g", domain="com.microsoft")], "g", [corpus.value("x", [2])], [corpus.value("y", [2])]
    )
    with pytest.raises(errors.NotImplemented, match="Gelu node 'g' is of domain com.microsoft"):
        written(corpus.model(graph, ("com.microsoft",)))
