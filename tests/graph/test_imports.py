"""graph/load.py, opset imports: what onnxruntime makes of them, with the same class of error where it makes nothing."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper as h

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidGraph, SardonyxError
from sardonyx.graph.load import LoadOptions, load
from tests.graph.models import operators

Imports = list[tuple[str, int]]
X = np.ones((1, 3), np.float32)
NEWEST = onnx.defs.onnx_opset_version()


def model(imports: Imports, **attributes: object) -> onnx.ModelProto:
    """y = Squeeze(x), x: f32[1, 3]; with axes as an attribute it is an operator of opset 12 or before."""
    x, y = h.make_tensor_value_info("x", 1, [1, 3]), h.make_tensor_value_info("y", 1, None)
    graph = h.make_graph([h.make_node("Squeeze", ["x"], ["y"], **attributes)], "g", [x], [y])
    made = h.make_model(graph, ir_version=8)
    del made.opset_import[:]
    made.opset_import.extend(h.make_opsetid(domain, version) for domain, version in imports)
    return made


def outcome(runtime: object, source: onnx.ModelProto) -> object:
    """The shape of the output, or the exception's class."""
    try:
        session = runtime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])  # type: ignore[attr-defined]
        return session.run(None, {"x": X})[0].shape
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "imports",
    [
        *(
            [("", 17)],
            [("", 11)],
            [("ai.onnx", 17)],
            [("ai.onnx", 11)],
            [("", 0)],
            [("", -1)],
            [],
            [("", 99)],
        ),
        *([("", 17), ("", 11)], [("", 11), ("", 17)], [("", 17), ("ai.onnx", 11)], [("", 11), ("ai.onnx", 17)]),
        *([("ai.onnx", 17), ("", 11)], [("ai.onnx", 11), ("", 17)], [("ai.onnx", 17), ("ai.onnx", 11)], [("", 17), ("", 17)]),
        *([("", 99), ("", 17)], [("", 17), ("", 99)], [("", 0), ("", 17)], [("", 17), ("", 0)]),
        *([("own", 1)], [("own", 0)], [("own", -5), ("", 17)], [("", 17), ("own", (1 << 63) - 1)], [("ai.onnx.ml", 3)]),
        *([("", 17), ("ai.onnx.ml", 99)], [("ai.onnx.ml", 0), ("", 17)]),
    ],
    ids=str,
)
def test_as_onnxruntime(imports: Imports, old: bool) -> None:
    source = model(imports, **({"axes": [0]} if old else {}))
    assert outcome(sx, source) == outcome(ort, source)


@pytest.mark.parametrize("imports", [[("", 1 << 62)], [("ai.onnx", -(1 << 63))], [("", 17), ("ai.onnx", 99)]])
def test_versions_that_do_not_exist_are_refused(imports: Imports) -> None:
    """onnxruntime cuts them to 32 bits first."""
    with pytest.raises((Fail, InvalidGraph)):
        load(model(imports).SerializeToString())


def test_a_model_that_imports_no_standard_domain_means_the_newest() -> None:
    assert load(model([("own", 3)]).SerializeToString()).opset_imports == {"own": 3, "": NEWEST}


@pytest.mark.parametrize("versions", [(17, 11), (11, 17)])
def test_functions_import_as_models_do(versions: tuple[int, int]) -> None:
    """The last of two counts there too."""
    imports = [h.make_opsetid("ai.onnx", versions[0]), h.make_opsetid("", versions[1])]
    squeeze = h.make_function("own", "f", ["a"], ["b"], [h.make_node("Squeeze", ["a"], ["b"], axes=[0])], imports)
    source = model([("", versions[1]), ("own", 1)])
    source.graph.node[0].op_type, source.graph.node[0].domain = "f", "own"
    source.functions.append(squeeze)
    if versions[1] == 11:
        assert operators(load(source.SerializeToString())) == ["Squeeze"]
    else:
        with pytest.raises(SardonyxError, match="Unrecognized attribute: axes"):
            load(source.SerializeToString())


@pytest.mark.parametrize("version", [(1 << 63) - 1, -(1 << 63), 0, 1 << 31])
def test_odd_versions_of_a_domain_of_ones_own(version: int) -> None:
    source = model([("", 17), ("own", version)])
    source.graph.node[0].domain = "own"
    with pytest.raises(Fail, match="own:Squeeze.* is not a registered function/op"):
        load(source.SerializeToString())
    assert operators(load(source.SerializeToString(), LoadOptions(knows=lambda domain, name: domain == "own"))) == ["Squeeze"]


# ---- functions whose nodes read what is not there ---------------------------------------------------------------------------


def calling(nodes: list[onnx.NodeProto], inputs: tuple[str, ...] = ("a",)) -> bytes:
    """A model whose node calls a function of these nodes, which gives b."""
    source = model([("", 17), ("own", 1)])
    source.graph.node[0].op_type, source.graph.node[0].domain = "f", "own"
    source.functions.append(h.make_function("own", "f", inputs, ["b"], nodes, [h.make_opsetid("", 17)]))
    return source.SerializeToString()


def branch(node: onnx.NodeProto) -> onnx.GraphProto:
    return h.make_graph([node], "branch", [], [h.make_empty_tensor_value_info(node.output[0])])


def test_a_function_that_reads_what_is_not_there() -> None:
    with pytest.raises(Fail, match=r"Input \(nowhere\) of a node in function f does not exist"):
        load(calling([h.make_node("Add", ["a", "nowhere"], ["b"])]))


def test_a_body_in_a_function_reads_what_stands_outside() -> None:
    def choosing(name: str) -> bytes:
        then = branch(h.make_node("Relu", [name], ["t"]))
        largest = h.make_node("ReduceMax", ["a"], ["m"], keepdims=0)
        cast = h.make_node("Cast", ["m"], ["c"], to=onnx.TensorProto.BOOL)
        return calling([largest, cast, h.make_node("If", ["c"], ["b"], then_branch=then, else_branch=then)])

    assert "If" in operators(load(choosing("a")))
    with pytest.raises(Fail, match=r"Input \(nowhere\) of a node in function f"):
        load(choosing("nowhere"))


def test_nodes_of_functions_are_put_in_order() -> None:
    loaded = load(calling([h.make_node("Neg", ["t"], ["b"]), h.make_node("Relu", ["a"], ["t"])]))
    assert operators(loaded) == ["Relu", "Neg"]
    with pytest.raises(Fail, match="not acyclic"):
        load(calling([h.make_node("Add", ["a", "u"], ["t"]), h.make_node("Neg", ["t"], ["u"]), h.make_node("Neg", ["u"], ["b"])]))


# ---- inputs that are left out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Max", "Sum", "Concat", "Mean"])
def test_an_input_of_many_is_not_left_out(op: str) -> None:
    source = model([("", 17)])
    attributes = {"axis": 0} if op == "Concat" else {}
    source.graph.node[0].CopyFrom(h.make_node(op, ["", "x"], ["y"], name="n", **attributes))
    with pytest.raises(
        Fail, match=rf"Node \(n\) Op \({op}\) \[TypeInferenceError\] Input 0 expected to have type but instead is null"
    ):
        load(source.SerializeToString())
    assert outcome(ort, source) == "Fail"
