"""Bodies of control flow that has no compiled form as a whole: compiled on their own, while Python counts the iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

import sardonyx as sx
from tests.session.models import model

Array = np.ndarray[Any, Any]

GROWING = """g (float[n] x, float[n] w, int64 k) => (float[m] y, float[a,b] z) <bool yes = {1}> {
    y, z = Loop (k, yes, x) <body = b (int64 i, bool c, float[p] s) => (bool d, float[q] t, float[r] u) {
        d = Identity (c)  v = Add (x, w)  one = Constant <value_floats = [1.0]> ()  t = Concat <axis = 0> (s, one)  u = Mul (v, v)
    }>
}"""
"""The state grows by one element with each iteration."""

CONSTANT = """g (float[n] x, int64 k) => (float[m] y) <bool yes = {1}, float[2] w = {1, 2}> {
    y = Loop (k, yes, x) <body = b (int64 i, bool c, float[p] s) => (bool d, float[q] t) { d = Identity (c)  t = Concat <axis = 0> (s, w) }>
}"""
"""A captured initializer."""

INNER = """g (float[n] x, int64 k, bool f) => (float[m] y) <bool yes = {1}> {
    y = Loop (k, yes, x) <body = b (int64 i, bool c, float[p] s) => (bool d, float[q] t) {
        d = Identity (c)
        t = If (f) <then_branch = p () => (float[o] a) { a = Concat <axis = 0> (s, x) }, else_branch = q () => (float[o] e) { e = Neg (s) }>
    }>
}"""
"""A growing state inside an If inside a Loop, which captures values of both graphs around it."""


def feeds(source: str, n: int, k: int, f: bool = True) -> dict[str, Array]:
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    every = {"x": x, "w": x + 1, "k": np.array(k), "f": np.array(f)}
    names = [i.name for i in sx.InferenceSession(model(source)).get_inputs()]
    return {name: every[name] for name in names}


@pytest.mark.parametrize("source", [GROWING, CONSTANT, INNER])
@pytest.mark.parametrize(("n", "k"), [(3, 4), (1, 1), (3, 0), (0, 2)])
def test_a_state_that_grows(source: str, n: int, k: int) -> None:
    feed = feeds(source, n, k)
    mine, theirs = sx.InferenceSession(model(source)), ort.InferenceSession(model(source), providers=["CPUExecutionProvider"])
    for _ in range(2):
        for got, expected in zip(mine.run(None, feed), theirs.run(None, feed), strict=True):
            assert got.dtype == expected.dtype
            if k:  # of no iterations onnxruntime does not know the sizes of a stack
                assert got.shape == expected.shape
            np.testing.assert_array_equal(got.ravel(), expected.ravel())


def test_the_bodies_nodes_are_compiled_and_told() -> None:
    session = sx.InferenceSession(model(GROWING))
    session.run(None, feeds(GROWING, 3, 4))
    told = [(part.ep_name, [n.op_type for n in part.get_nodes()]) for part in session.get_provider_graph_assignment_info()]
    assert told == [("ReferenceExecutionProvider", ["Loop"]), ("CPUExecutionProvider", ["Identity", "Add", "Concat", "Mul"])]


def test_nodes_of_compiled_bodies_are_told() -> None:
    source = "g (float[n] x, bool c) => (float[n] y) { y = If (c) <then_branch = p () => (float[n] a) { a = Neg (x) }, else_branch = q () => (float[n] b) { b = Abs (x) }> }"
    (part,) = sx.InferenceSession(model(source)).get_provider_graph_assignment_info()
    assert part.ep_name == "CPUExecutionProvider"
    assert sorted(n.op_type for n in part.get_nodes()) == ["Abs", "If", "Neg"]


def test_an_error_in_a_body_names_its_node() -> None:
    text = GROWING.replace("v = Add (x, w)", "w3 = Reshape (w, w2) v = Add (x, w3)").replace(
        "float[n] w,", "float[n] w, int64[1] w2,"
    )
    source = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}').SerializeToString()
    session = sx.InferenceSession(source)
    feed = {**feeds(GROWING, 3, 4), "w2": np.array([7])}
    with pytest.raises(Exception, match="reshape"):
        session.run(None, feed)
    assert session.run(None, {**feed, "k": np.array(0)})[0].shape == (3,)


def test_terminating_ends_the_iterations() -> None:
    session = sx.InferenceSession(model(GROWING))
    options = sx.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match="terminate flag"):
        session.run(None, feeds(GROWING, 3, 4), options)
