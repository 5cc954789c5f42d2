"""Models of ai.onnx.ml as exporters write them, by way of a session and beside onnxruntime: labels, ZipMap, categories."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto, helper

import sardonyx as sx
from sardonyx.base.errors import InvalidArgument

CPU = "CPUExecutionProvider"
FEATURES = 4
LABELS: dict[str, list[Any]] = {"strings": ["no", "yes", "maybe"], "ints": [4, 9, 2]}


def model(nodes: list[NodeProto], outputs: list[str], kind: int = TensorProto.FLOAT, columns: int = FEATURES) -> bytes:
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    types = [helper.make_tensor_value_info("x", kind, ["n", columns])]
    values = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "g", types, values)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def numbers(*shape: int, seed: int = 0) -> list[float]:
    return [float(v) for v in np.random.default_rng(seed).normal(size=shape).astype(np.float32).ravel()]


def linear(count: int, post: str) -> dict[str, Any]:
    rows = 1 if count == 2 and post != "SOFTMAX" else count
    return {"coefficients": numbers(rows, FEATURES), "intercepts": numbers(rows, seed=1), "post_transform": post}


def svm(count: int, post: str) -> dict[str, Any]:
    per_class, pairs = [3] * count, count * (count - 1) // 2
    platt = {"prob_a": [-1.5] * pairs, "prob_b": numbers(pairs, seed=5)} if post == "PLATT" else {}
    return platt | {
        "vectors_per_class": per_class,
        "support_vectors": numbers(3 * count, FEATURES, seed=2),
        "coefficients": numbers(count - 1, 3 * count, seed=3),
        "rho": numbers(pairs, seed=4),
        "kernel_type": "RBF",
        "kernel_params": [0.3, 0.0, 3.0],
    }


def trees(count: int, post: str) -> dict[str, Any]:
    """Five trees of depth one; of two classes whose scores become probabilities exporters let all leaves vote for one, as number 0."""
    one, many = [0], list(range(count))
    voted = one if count == 2 and post == "LOGISTIC" else many
    rows = [(tree, leaf, target) for tree in range(5) for leaf in (1, 2) for target in dict.fromkeys(voted)]
    return {
        "nodes_treeids": [t for t in range(5) for _ in range(3)],
        "nodes_nodeids": [0, 1, 2] * 5,
        "nodes_featureids": [f for t in range(5) for f in (t % FEATURES, 0, 0)],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 5,
        "nodes_values": [v for t in range(5) for v in (0.2 * t - 0.4, 0.0, 0.0)],
        "nodes_truenodeids": [1, 0, 0] * 5,
        "nodes_falsenodeids": [2, 0, 0] * 5,
        "class_treeids": [tree for tree, _, _ in rows],
        "class_nodeids": [leaf for _, leaf, _ in rows],
        "class_ids": [target for _, _, target in rows],
        "class_weights": numbers(len(rows), seed=6),
        "post_transform": post,
    }


CLASSIFIERS = {
    "LinearClassifier": (linear, ("LOGISTIC", "SOFTMAX", "NONE"), "classlabels_ints"),
    "SVMClassifier": (svm, ("PLATT", "NONE"), "classlabels_ints"),
    "TreeEnsembleClassifier": (trees, ("NONE", "LOGISTIC", "SOFTMAX"), "classlabels_int64s"),
}
CASES = [
    (name, post, count, kind)
    for name, (_, posts, _) in CLASSIFIERS.items()
    for post, count, kind in itertools.product(posts, (2, 3), LABELS)
]


@pytest.mark.parametrize(("name", "post", "count", "kind"), CASES)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_classifier_and_its_labels(name: str, post: str, count: int, kind: str, zipped: bool):
    attributes, _, ints = CLASSIFIERS[name]
    labels = [0, 1] if (kind, count) == ("ints", 2) else LABELS[kind][:count]  # of two, onnxruntime takes some for 0 and 1
    known = {"classlabels_strings" if kind == "strings" else ints: labels}
    nodes = [helper.make_node(name, ["x"], ["label", "scores"], domain="ai.onnx.ml", **attributes(count, post), **known)]
    if zipped:
        known = {f"classlabels_{'strings' if kind == 'strings' else 'int64s'}": labels}
        nodes.append(helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", **known))
    source = model(nodes, ["label", "maps" if zipped else "scores"])
    ours, theirs = sx.InferenceSession(source), ort.InferenceSession(source, providers=[CPU])
    assert {part.ep_name for part in ours.get_provider_graph_assignment_info()} == {CPU}
    assert [(v.name, v.type) for v in ours.get_outputs()] == [(v.name, v.type) for v in theirs.get_outputs()]
    for rows in (1, 17, 17, 0) if not zipped else (1, 17, 17):  # the second of a size is a run like the one before
        x = np.random.default_rng(rows).normal(size=(rows, FEATURES)).astype(np.float32)
        label, scores = ours.run(None, {"x": x})
        if rows == 0:
            assert label.shape == (0,)
            continue
        wanted_label, wanted_scores = theirs.run(None, {"x": x})
        np.testing.assert_array_equal(label, wanted_label)
        if zipped:
            assert [list(row) for row in scores] == [list(row) for row in wanted_scores]
            scores, wanted_scores = ([list(row.values()) for row in found] for found in (scores, wanted_scores))
        np.testing.assert_allclose(scores, wanted_scores, rtol=1e-4, atol=1e-5)


def test_labels_that_are_gathered():
    """Classifiers of other operators: ArgMax, ArrayFeatureExtractor of the labels, Reshape."""
    nodes = [
        helper.make_node("Constant", [], ["labels"], value_strings=["a", "b", "c", "d"]),
        helper.make_node("Constant", [], ["column"], value_ints=[-1]),
        helper.make_node("ArgMax", ["x"], ["place"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["labels", "place"], ["found"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["found", "column"], ["label"]),
        helper.make_node("Exp", ["x"], ["y"]),
    ]
    session = sx.InferenceSession(model(nodes, ["label", "y"]))
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {CPU}
    x = np.random.default_rng(0).normal(size=(5, FEATURES)).astype(np.float32)
    for _ in range(2):
        label, y = session.run(None, {"x": x})
        np.testing.assert_array_equal(label, np.array(["a", "b", "c", "d"])[x.argmax(1)])
        np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)


# ---- categories ---------------------------------------------------------------------------------------------------------------


def one_hot(zeros: int) -> sx.InferenceSession:
    node = helper.make_node("OneHotEncoder", ["x"], ["y"], domain="ai.onnx.ml", cats_int64s=[5, -2, 0], zeros=zeros)
    return sx.InferenceSession(model([node], ["y"], TensorProto.INT64, 2))


@pytest.mark.parametrize("zeros", [0, 1])
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_one_hot_of_known_categories(zeros: int, rows: int):
    session = one_hot(zeros)
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {CPU}
    x = np.random.default_rng(rows).choice(np.array([5, -2, 0]), (rows, 2))
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x[..., None] == np.array([5, -2, 0]))


@pytest.mark.parametrize("unknown", [1, -1, -3, 3, 1 << 40])
def test_an_unknown_category_is_an_error_where_zeros_are_none(unknown: int):
    x = np.array([[5, 0], [0, unknown]])
    assert one_hot(1).run(None, {"x": x})[0][1, 1].sum() == 0
    session = one_hot(0)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="y"):
            session.run(None, {"x": x})
        assert session.run(None, {"x": x[:1]})[0].sum() == 2


def test_columns_of_numbers_and_of_strings():
    """scikit-learn's ColumnTransformer: the standard tells no rank of what its operators give, and what follows is compiled all the same."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0]),
        helper.make_node("OneHotEncoder", ["s"], ["encoded"], domain="ai.onnx.ml", cats_strings=["a", "b"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[-1, 2]),
        helper.make_node("Reshape", ["encoded", "shape"], ["columns"]),
        helper.make_node(
            "LabelEncoder", ["s"], ["number"], domain="ai.onnx.ml", keys_strings=["a"], values_floats=[4.5], default_float=0.5
        ),
        helper.make_node("Concat", ["scaled", "columns", "number"], ["all"], axis=1),
        helper.make_node("Normalizer", ["all"], ["y"], domain="ai.onnx.ml", norm="L1"),
    ]
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    types = [
        helper.make_tensor_value_info(name, kind, ["n", 1]) for name, kind in (("x", TensorProto.FLOAT), ("s", TensorProto.STRING))
    ]
    graph = helper.make_graph(nodes, "g", types, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    session = sx.InferenceSession(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {CPU}
    for rows in (1, 3, 3):
        x, s = np.full((rows, 1), 2, np.float32), np.array([["a"], ["b"], ["?"]], object)[:rows]
        wanted = np.array([[2, 1, 0, 4.5], [2, 0, 1, 0.5], [2, 0, 0, 0.5]])[:rows]
        np.testing.assert_allclose(session.run(None, {"x": x, "s": s})[0], wanted / wanted.sum(1, keepdims=True), rtol=1e-6)
