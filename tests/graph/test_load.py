import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import Message

import sardonyx
from sardonyx.base.errors import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, SardonyxError
from sardonyx.graph.load import LoadOptions, from_proto, load
from tests.graph.models import HEAD, data, model, operators, proto, values

ADD = "g (float[2, 3] x, float[2, 3] y) => (float[2, 3] z) { z = Add(x, y) }"


def test_loads_bytes_and_paths(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(data(ADD))
    for source in (data(ADD), path, str(path)):
        assert operators(load(source)) == ["Add"]


@pytest.mark.parametrize("source", [3, None, bytearray(b""), [b""]])
def test_other_sources_are_type_errors(source):
    with pytest.raises(TypeError, match="^Unable to load from type '<class '"):
        load(source)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nope.onnx"
    with pytest.raises(NoSuchFile) as caught:
        load(path)
    assert caught.value.detail == f"Load model from {path} failed:Load model {path} failed. File doesn't exist"


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(InvalidProtobuf, match="Protobuf parsing failed"):
        load(tmp_path)


def test_a_path_with_a_nul_byte_is_refused():
    with pytest.raises(Fail, match="null byte"):
        load("model\0.onnx")


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (b"garbage" * 10, InvalidProtobuf, "Failed to load model because protobuf parsing failed."),
        (data(ADD)[:40], InvalidProtobuf, "Failed to load model because protobuf parsing failed."),
        (b"", InvalidArgument, "No graph was found in the protobuf."),
    ],
)
def test_bad_bytes(content, kind, detail, tmp_path):
    with pytest.raises(kind) as caught:
        load(content)
    assert caught.value.detail == detail
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(kind) as caught:
        load(path)
    assert caught.value.detail.startswith(f"Load model from {path} failed:")


def test_no_prefix_of_a_model_crashes():
    whole = data(ADD)
    for size in range(len(whole)):
        with pytest.raises((InvalidProtobuf, InvalidArgument, Fail, InvalidGraph)):
            load(whole[:size])


def test_no_flipped_byte_crashes():
    whole = bytearray(data("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }"))
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        try:
            load(bytes(changed))
        except (InvalidProtobuf, InvalidArgument, Fail, InvalidGraph):
            continue


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("<ir_version: 8> ", "Missing opset in the model"),
        ('<ir_version: 99, opset_import: ["" : 17]> ', "Unsupported model IR version: 99"),
        ('<ir_version: 8, opset_import: ["" : 999]> ', "Opset 999 of domain ai.onnx is not known"),
    ],
)
def test_versions(head, text):
    with pytest.raises(Fail, match=text):
        load(data(ADD, head))


def test_the_long_name_of_the_standard_domain():
    found = model(ADD, '<ir_version: 8, opset_import: ["ai.onnx" : 17]> ')
    assert found.opset_imports == {"": 17}


def test_nodes_are_put_in_order():
    assert operators(model("g (float[2] x) => (float[2] z) { z = Abs(y)\n y = Relu(x) }")) == ["Relu", "Abs"]


def test_constants_become_initializers():
    found = model("g (float[2] x) => (float[2] z, float[2] c) { c = Constant<value_floats = [1.0, 2.0]>()\n z = Add(x, c) }")
    assert operators(found) == ["Add"]
    assert found.graph.outputs[1] is found.graph.initializers["c"]
    np.testing.assert_array_equal(found.graph.initializers["c"].const_value.numpy(), [1, 2])


def test_sparse_constants_and_initializers_become_dense():
    source = proto("g (float[2, 2] x) => (float[2, 2] z) { c = Constant<value_float = 1.0>()\n y = Add(x, s)\n z = Mul(y, c) }")
    sparse = onnx.helper.make_sparse_tensor(
        onnx.helper.make_tensor("s", 1, [2], [5.0, 7.0]), onnx.helper.make_tensor("", 7, [2], [0, 3]), [2, 2]
    )
    source.graph.sparse_initializer.append(sparse)
    source.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("sparse_value", sparse))
    found = load(source.SerializeToString())
    for name in ("s", "c"):
        np.testing.assert_array_equal(found.graph.initializers[name].const_value.numpy(), [[5, 0], [0, 7]])


def test_initializers_listed_as_inputs_are_constants_before_ir_version_4():
    text = "g (float[2] x, float[2] w) => (float[2] z) <float[2] w = {1, 2}> { z = Add(x, w) }"
    assert [v.name for v in model(text, '<ir_version: 3, opset_import: ["" : 8]> ').graph.inputs] == ["x"]
    assert [v.name for v in model(text).graph.inputs] == ["x", "w"]


def test_dimensions_can_be_fixed():
    text = "g (float[n, m] x) => (float[n, m] z) { z = Relu(x) }"
    found = model(text, dimensions={"n": 4})
    assert list(values(found)["z"].shape) == [4, ir.SymbolicDim("m")]
    source = proto(text)
    source.graph.input[0].type.tensor_type.shape.dim[1].denotation = "DATA_BATCH"
    found = from_proto(source, LoadOptions(denotations={"DATA_BATCH": 7}))
    assert list(values(found)["z"].shape) == [ir.SymbolicDim("n"), 7]


def test_map_types_are_kept():
    node = onnx.helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[1, 2])
    x = onnx.helper.make_tensor_value_info("x", 1, ["n", 2])
    z = onnx.helper.make_value_info(
        "z", onnx.helper.make_sequence_type_proto(onnx.helper.make_map_type_proto(7, onnx.helper.make_tensor_type_proto(1, [])))
    )
    graph = onnx.helper.make_graph([node], "g", [x], [z])
    source = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("ai.onnx.ml", 1)])
    found = load(source.SerializeToString())
    from sardonyx.graph.types import type_string

    assert type_string(found.graph.outputs[0]) == "seq(map(int64,tensor(float)))"


def nested(depth):
    """If in If in If..."""
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y0"])], "b", [], [onnx.helper.make_tensor_value_info("y0", 1, [1])]
    )
    for level in range(1, depth):
        node = onnx.helper.make_node("If", ["c"], [f"y{level}"], then_branch=body, else_branch=body)
        body = onnx.helper.make_graph([node], "b", [], [onnx.helper.make_tensor_value_info(f"y{level}", 1, [1])])
    node = onnx.helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body)
    inputs = [onnx.helper.make_tensor_value_info("x", 1, [1]), onnx.helper.make_tensor_value_info("c", 9, [])]
    graph = onnx.helper.make_graph([node], "g", inputs, [onnx.helper.make_tensor_value_info("z", 1, [1])])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def test_nested_graphs():
    assert operators(load(nested(4).SerializeToString())) == ["If"]


def test_a_long_chain_of_nodes_is_no_deep_recursion():
    nodes = [onnx.helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(5000)]
    inputs = [onnx.helper.make_tensor_value_info("v0", 1, [2])]
    outputs = [onnx.helper.make_tensor_value_info("v5000", 1, [2])]
    source = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    start = time.monotonic()
    assert len(load(source.SerializeToString()).graph) == 5000
    assert time.monotonic() - start < 60  # a quadratic algorithm would take far longer


@pytest.mark.parametrize("dims", [[-1], [1 << 40, 1 << 40], [1 << 62, 4], [1 << 40]])
def test_impossible_shapes_are_refused(dims):
    source = proto("g (float[2] x) => (z) { z = Add(x, w) }")
    source.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, dims=dims))
    with pytest.raises(InvalidGraph, match="Tensor 'w'"):
        load(source.SerializeToString())


def test_values_without_types_are_refused():
    with pytest.raises(Fail, match=r"Model input \(x\) does not have type information"):
        load(data("g (x) => (z) { z = Relu(x) }"))


Place = tuple[str | int, ...]


def texts(message: Any, path: Place = ()) -> Iterator[Place]:
    """The places of all fields of text that are set."""
    for field, found in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        alone = isinstance(found, str | bytes | Message)
        for i, value in enumerate([found] if alone else found):
            place: Place = (*path, field.name) if alone else (*path, field.name, i)
            if field.type == field.TYPE_MESSAGE:
                yield from texts(value, place)
            else:
                yield place


def documented_model() -> onnx.ModelProto:
    """A model with a text in every field that may have one."""
    source = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "f" : 1]> g (float[N] x, bool c) => (float[N] z, string t) {'
        "  y = If (c) <then_branch = a () => (float[N] p) { p = Neg (x) }, else_branch = b () => (float[N] q) { q = Abs (x) }>"
        '  u = f.twice (y)  v = Transpose <perm = [0]> (u)  z = Mul (v, w)  t = Constant <value_string = "text"> () }'
        '<domain: "f", opset_import: ["" : 21]> twice (m) => (n) { n = Add (m, m) }'
    )
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[3], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": "data", "offset": "0", "length": "12"}.items():
        weight.external_data.add(key=key, value=value)
    source.graph.initializer.append(weight)
    source.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "unused"))
    source.graph.value_info.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N"]))
    waiting: list[Any] = [source]
    while waiting:
        message = waiting.pop()
        for field in message.DESCRIPTOR.fields:
            if field.name in ("doc_string", "denotation", "producer_name", "producer_version"):
                setattr(message, field.name, "text")
            if field.name == "metadata_props":
                message.metadata_props.add(key="key", value="text")
        for field, found in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend([found] if isinstance(found, Message) else found)
    return source


PLACES = list(texts(documented_model()))


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_texts_that_are_not_utf8(place: Place, tmp_path: Path) -> None:
    """A model with such a text is refused, or it runs; nothing unexpected happens."""
    source = documented_model()
    message: Any = source
    for step in place[:-1]:
        message = getattr(message, step) if isinstance(step, str) else message[step]
    if isinstance(place[-1], int):
        message[place[-1]] = "@@text@@"
    else:
        setattr(message, place[-1], "@@text@@")
    (tmp_path / "data").write_bytes(np.ones(3, np.float32).tobytes())
    (tmp_path / "m.onnx").write_bytes(source.SerializeToString().replace(b"@@text@@", b"\xff\xfe" * 4))
    refused: list[SardonyxError] = []
    try:
        session = sardonyx.InferenceSession(tmp_path / "m.onnx")
    except SardonyxError as error:
        refused.append(error)
    if refused:
        assert not refused[0].defect
        return
    assert all(isinstance(text, str | int) for i in session.get_inputs() + session.get_outputs() for text in (i.name, *i.shape))
    np.testing.assert_array_equal(session.run(["z"], {"x": -np.ones(3, np.float32), "c": np.True_})[0], 2 * np.ones(3))


def test_a_body_by_reference() -> None:
    source = documented_model()
    branch = source.graph.node[0].attribute[0]
    branch.ref_attr_name = "branch"
    for kind in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        branch.type = kind
        with pytest.raises(InvalidGraph, match="refers to a graph by the name 'branch'"):
            load(source.SerializeToString())


def test_inlined_functions_meet_the_rest_of_the_checks():
    text = HEAD.replace('["" : 17]', '["" : 17, "f" : 1]') + (
        'g (float[2] x) => (float[2] z) { z = f.twice(x) }\n<domain: "f", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    )
    found = load(onnx.parser.parse_model(text).SerializeToString())
    assert operators(found) == ["Add"]
    assert not found.functions
