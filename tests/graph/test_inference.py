"""Types and shapes of all values: bodies of If, Loop and Scan in every form, operators without a rule, claims that are wrong."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from sardonyx.base.errors import Fail
from sardonyx.graph.types import type_string
from tests.graph.models import HEAD, data, model, values

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
ML = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]> '
X = np.array([1, 2], np.float32)


def info(name: str, dtype: int, shape: list[int | str | None] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def run(nodes, outputs, feeds, initializers=()) -> list[np.ndarray]:
    """The outputs of a model of these nodes over the input x: f32[n]; made at every level of optimisation, which agree."""
    inputs = [info("x", FLOAT, ["n"]), *(info(name, BOOL, []) for name in feeds if name != "x")]
    graph = helper.make_graph(nodes, "g", inputs, [info(name, FLOAT, None) for name in outputs], list(initializers))
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = []
    for level in (sx.GraphOptimizationLevel.ORT_DISABLE_ALL, sx.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = sx.SessionOptions()
        options.graph_optimization_level = level
        found.append(sx.InferenceSession(data, options).run(None, feeds))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    return found[0]


def loop(nodes, returned, results, initializers=(), trips: int = 3) -> list[np.ndarray]:
    """A Loop over the state v = x, whose body returns the named values; the model gives `results` outputs of it."""
    arguments = [info("i", INT64, []), info("going", BOOL, []), info("v", FLOAT, ["n"])]
    body = helper.make_graph(nodes, "body", arguments, [info(n, t, None) for n, t in returned], list(initializers))
    outputs = [f"y{i}" for i in range(results)]
    whole = helper.make_node("Loop", ["trips", "", "x"], outputs, body=body)
    return run([whole], outputs, {"x": X}, [numpy_helper.from_array(np.array(trips), "trips")])


TWICE = helper.make_node("Add", ["v", "v"], ["w"])
CONSTANT = numpy_helper.from_array(np.array([7, 8, 9], np.float32), "c")


def test_a_body_returns_its_condition_and_state() -> None:
    (y,) = loop([], [("going", BOOL), ("v", FLOAT)], 1)
    np.testing.assert_array_equal(y, X)


def test_a_body_returns_an_initializer_as_state() -> None:
    (y,) = loop([], [("going", BOOL), ("c", FLOAT)], 1, [numpy_helper.from_array(X * 5, "c")])
    np.testing.assert_array_equal(y, X * 5)


@pytest.mark.parametrize("trips", [0, 3])
def test_a_body_stacks_an_initializer(trips: int) -> None:
    y, stack = loop([TWICE], [("going", BOOL), ("w", FLOAT), ("c", FLOAT)], 2, [CONSTANT], trips)
    np.testing.assert_array_equal(y, X * 2**trips)
    np.testing.assert_array_equal(stack, np.tile(np.array([7, 8, 9], np.float32), (trips, 1)))


def test_a_body_stacks_the_state_that_it_was_given() -> None:
    y, stack = loop([TWICE], [("going", BOOL), ("w", FLOAT), ("v", FLOAT)], 2)
    np.testing.assert_array_equal(y, X * 8)
    np.testing.assert_array_equal(stack, [X, X * 2, X * 4])


def test_a_body_returns_one_value_three_times() -> None:
    y, first, second = loop([TWICE], [("going", BOOL), ("w", FLOAT), ("w", FLOAT), ("w", FLOAT)], 3)
    np.testing.assert_array_equal(y, X * 8)
    np.testing.assert_array_equal(first, [X * 2, X * 4, X * 8])
    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize("holds", [True, False])
def test_a_condition_that_is_an_initializer_of_the_body(holds: bool) -> None:
    (y,) = loop([TWICE], [("c", BOOL), ("w", FLOAT)], 1, [numpy_helper.from_array(np.array(holds), "c")])
    np.testing.assert_array_equal(y, X * (8 if holds else 2))


def test_scan_returns_its_element_and_its_state() -> None:
    body = helper.make_graph([], "body", [info("s", FLOAT, []), info("e", FLOAT, [])], [info("s", FLOAT, []), info("e", FLOAT, [])])
    total = helper.make_node("ReduceSum", ["x"], ["t"], keepdims=0)
    scan = helper.make_node("Scan", ["t", "x"], ["y", "z"], body=body, num_scan_inputs=1)
    y, z = run([total, scan], ["y", "z"], {"x": X})
    assert y == 3
    np.testing.assert_array_equal(z, X)


@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_without_nodes(flag: bool) -> None:
    then = helper.make_graph([], "then", [], [info("c", FLOAT, [2])], [numpy_helper.from_array(X * 5, "c")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["m"])], "other", [], [info("m", FLOAT, ["n"])])
    nodes = [
        helper.make_node("If", ["flag"], ["r"], then_branch=then, else_branch=other),
        helper.make_node("SequenceConstruct", ["r", "r"], ["s"]),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    (y,) = run(nodes, ["y"], {"x": X, "flag": np.array(flag)})
    np.testing.assert_array_equal(y, np.tile(X * 5 if flag else -X, 2))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_body_may_not_return_a_value_from_outside(depth: int) -> None:
    body = helper.make_graph([], "then", [], [info("one", FLOAT, None)])
    other = helper.make_graph([helper.make_node("Neg", ["one"], ["m"])], "other", [], [info("m", FLOAT, None)])
    node = helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=other)
    if depth == 2:
        around = helper.make_graph([node], "around", [], [info("y", FLOAT, None)])
        node = helper.make_node("If", ["flag"], ["y"], then_branch=around, else_branch=other)
    one = helper.make_node("Mul", ["x", "x"], ["one"])
    with pytest.raises(Fail, match=r"Subgraph output \(one\) is an outer scope value being returned directly. Please update"):
        run([one, node], ["y"], {"x": X, "flag": np.array(True)})


def test_types_of_what_a_body_passes_on() -> None:
    found = values(
        model("""g (float[n, 3] x, int64 m) => (float y, float z) {
        y, z = Loop (m, , x) <body = b (int64 i, bool c, float v) => (bool c, float v, float v) {}>
        r = Relu(z)
        }""")
    )
    assert [type_string(found[name]) for name in "yzr"] == ["tensor(float)"] * 3


def test_operators_without_a_rule_have_the_type_of_their_schema() -> None:
    text = """g (float[n, 3] x) => (float y) {
        p = ai.onnx.ml.Scaler(x)
        s = SequenceConstruct(p, p)
        c = ConcatFromSequence<axis = 1>(s)
        y = Relu(c)
    }"""
    found = values(model(text, ML))
    assert [type_string(found[name]) for name in "pscy"] == ["tensor(float)", "seq(tensor(float))", *["tensor(float)"] * 2]


def test_an_operator_without_a_rule_takes_the_type_of_its_input() -> None:
    """Abs of opset 5 has none; what comes after it is known all the same."""
    found = values(model("g (double[2] x) => (double y) { a = Abs(x)\n y = Identity(a) }", HEAD.replace("17", "5")))
    assert [type_string(found[name]) for name in "ay"] == ["tensor(double)"] * 2


def test_what_a_file_says_of_inner_values_is_not_believed() -> None:
    found = values(model("g (float[2, 3] x) => (float[k] z) <int64[9] y> { y = Transpose(x)\n z = Relu(y) }"))
    assert type_string(found["y"]) == "tensor(float)"
    assert list(found["y"].shape) == [3, 2]
    assert list(found["z"].shape) == [3, 2]


def test_types_that_clash_are_refused() -> None:
    with pytest.raises(Fail, match=r"Type \(tensor\(int64\)\) of output arg \(z\)"):
        model("g (float[2] x) => (int64[2] z) { z = Relu(x) }")


def test_shapes_that_clash_are_refused_by_name() -> None:
    with pytest.raises(Fail, match=r"Node \(\w*\) Op \(MatMul\) \[ShapeInferenceError\]"):
        model("g (float[2, 3] x) => (float[2, 2] z) { z = MatMul(x, x) }")


@pytest.mark.parametrize("opset", [9, 13, 21])
@pytest.mark.parametrize(
    "node", ["y = Expand(x, s)", "a = Identity(s) y = Expand(x, a)", "y = ConstantOfShape(s)", "y = Reshape(x, s)"]
)
def test_a_vector_that_claims_to_be_long_takes_no_time(node: str, opset: int) -> None:
    """Nor memory: the standard's inference would write down an axis for each of its elements."""
    start = time.process_time()
    found = model(
        f"g (float[1,3,1] x, int64[2147483647] s) => (float y) {{ {node} }}", f'<ir_version: 8, opset_import: ["" : {opset}]> '
    )
    assert time.process_time() - start < 1
    assert list(found.graph.inputs[1].shape) == [2147483647]  # as users see it


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_a_body_gives_out_what_has_no_rule(kind: str) -> None:
    """GroupNormalization of a captured value: the inference tells no type of it."""
    normal = "n = GroupNormalization <num_groups = 1> (y, s, s)"
    bodies = {
        "Loop": f'z = Loop (m, "") <body = b (int64 i, bool go) => (bool on, n) {{ on = Identity (go) {normal} }}>',
        "Scan": f"z = Scan <num_scan_inputs = 1, body = b (float e) => (n) {{ d = Neg (e) {normal} }}> (s)",
    }
    text = f"g (float[a, 2, 3] x, float[2] s, int64 m) => (z) {{ y = Sin (x) {bodies[kind]} }}"
    session = sx.InferenceSession(data(text, '<ir_version: 10, opset_import: ["" : 21]> '))
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    (z,) = session.run(None, {"x": x, "s": X, "m": np.array(2)})
    assert z.shape == (2, 1, 2, 3)
    y = np.sin(x)
    wanted = (y - y.mean()) / np.sqrt(y.var() + 1e-5) * X[:, None] + X[:, None]
    np.testing.assert_allclose(z, np.stack([wanted] * 2), atol=1e-5)
