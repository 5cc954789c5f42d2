"""What nobody reads is taken out; what a body reads is read."""

from __future__ import annotations

import numpy as np

from sardonyx.graph.passes.dead_node_elimination import eliminate_dead_nodes
from tests.graph.passes.harness import after, by_onnxruntime, operators, reals

X = {"x": reals(4)}


def test_chains_that_end_nowhere() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Sin(x) b = Cos(a) y = Neg(x) }"
    assert operators(after(eliminate_dead_nodes, text, X)) == ["Neg"]


def test_initializers_that_nobody_reads() -> None:
    text = "g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}, float[4] b = {1, 2, 3, 4}> { a = Mul(x, w) y = Add(x, b) }"
    assert list(after(eliminate_dead_nodes, text, X).graph.initializers) == ["b"]


def test_optional_outputs() -> None:
    text = "g (float[4] x) => (float[4] y) { y, mask = Dropout(x) }"
    found = after(eliminate_dead_nodes, text, X)
    assert [v.name for v in found.graph.node(0).outputs if v.name] == ["y"]


def test_what_only_a_body_reads_stays() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
        a = Sin(x)
        y = If(c) <then_branch = t () => (float[4] o) { o = Mul(a, w) }, else_branch = e () => (float[4] p) { p = Neg(x) }>
    }"""
    found = after(eliminate_dead_nodes, text, {**X, "c": np.array(True)})
    assert operators(found) == ["Sin", "If"]


def test_dead_nodes_in_bodies() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
        y = If(c) <then_branch = t () => (float[4] o) { d = Sin(x) o = Neg(x) }, else_branch = e () => (float[4] p) { p = Neg(x) }>
    }"""
    found = after(eliminate_dead_nodes, text, {**X, "c": np.array(True)})
    assert [[n.op_type for n in g] for g in found.graph.subgraphs()] == [["Neg"], ["Neg"]]


def test_inputs_that_are_left_out_are_still_counted() -> None:
    """A Loop has a trip count and a condition before its state, also where neither is given."""
    text = """g (float[4] x, int64 m) => (y) {
        d = Sin(x)
        y = Loop(m, "") <body = b (int64 i, bool go) => (bool on, int64 o) { on = Identity(go) o = Identity(i) }>
    }"""
    found = after(eliminate_dead_nodes, text, {**X, "m": np.array(3)}, numbers=by_onnxruntime)
    assert [len(n.inputs) for n in found.graph] == [2]
