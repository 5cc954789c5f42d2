"""What is computed twice is computed once, if it is the same for certain."""

from __future__ import annotations

import numpy as np

from sardonyx.graph.passes.common_subexpression_elimination import eliminate_common_subexpressions
from tests.graph.models import model
from tests.graph.passes.harness import after, bodies, operators, reals

X = {"x": reals(4)}


def test_equal_nodes_become_one_and_then_their_readers() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Sin(x) b = Sin(x) c = Neg(a) d = Neg(b) y = Add(c, d) }"
    assert operators(after(eliminate_common_subexpressions, text, X)) == ["Sin", "Neg", "Add"]


def test_attributes_and_inputs_tell_nodes_apart() -> None:
    text = """g (float[4] x) => (float[4] y) {
        a = Elu <alpha = 1.0> (x) b = Elu <alpha = 2.0> (x) c = Sub(a, b) d = Sub(b, a) y = Mul(c, d)
    }"""
    assert operators(after(eliminate_common_subexpressions, text, X)) == ["Elu", "Elu", "Sub", "Sub", "Mul"]


def test_outputs_stay() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] z) { y = Sin(x) z = Sin(x) }"
    assert operators(after(eliminate_common_subexpressions, text, X)) == ["Sin", "Sin"]


def test_an_output_takes_what_another_computes() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] w) { y = Sin(x) z = Sin(x) w = Neg(z) }"
    assert operators(after(eliminate_common_subexpressions, text, X)) == ["Sin", "Neg"]


def test_random_numbers_are_drawn_each_time() -> None:
    text = (
        "g () => (float[4] y) { a = RandomNormal <shape = [4]> () b = RandomNormal <shape = [4]> () c = Sub(a, b) y = Mul(c, c) }"
    )
    found = model(text)
    assert not eliminate_common_subexpressions(found)
    assert operators(found).count("RandomNormal") == 2


def test_optional_outputs_that_one_of_two_nodes_leaves_out() -> None:
    text = "g (float[4] x) => (float[2] y, int64[2] z) <int64[1] k = {2}> { y, i = TopK(x, k) v, z = TopK(x, k) }"
    found = after(eliminate_common_subexpressions, text, X)
    assert operators(found) == ["TopK", "TopK"]  # both make outputs


def test_bodies_are_searched_one_by_one() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
        a = Sin(x)
        r = If(c) <then_branch = t () => (float[4] o) { b = Sin(x) d = Sin(x) o = Add(b, d) },
                   else_branch = e () => (float[4] p) { f = Sin(x) p = Neg(f) }>
        y = Add(a, r)
    }"""
    for condition in (True, False):
        found = after(eliminate_common_subexpressions, text, {**X, "c": np.array(condition)})
        assert bodies(found) == [["Sin", "Add"], ["Sin", "Neg"]]


def test_a_body_reads_what_is_merged_outside() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
        a = Sin(x) b = Sin(x)
        r = If(c) <then_branch = t () => (float[4] o) { o = Neg(b) }, else_branch = e () => (float[4] p) { p = Neg(a) }>
        y = Add(a, r)
    }"""
    assert operators(after(eliminate_common_subexpressions, text, {**X, "c": np.array(True)})) == ["Sin", "If", "Add"]


def test_dropouts_that_may_train_draw_each_for_themselves() -> None:
    text = "g (float[4] x, bool train) => (float[4] y) <float half = {0.5}> { a = Dropout(x, half, train) b = Dropout(x, half, train) y = Sub(a, b) }"
    assert operators(after(eliminate_common_subexpressions, text, {**X, "train": np.array(False)})) == ["Dropout", "Dropout", "Sub"]


def test_an_output_that_the_first_node_leaves_out_is_named_as_the_second_one_names_it() -> None:
    found = model(
        "g (float[4] x) => (float[2] y, int64[2] z) <int64[1] k = {2}> { a, i = TopK(x, k) b, j = TopK(x, k) y = Neg(b) z = Neg(i) }"
    )
    first = found.graph.node(0)
    first.outputs[0].name = ""
    kept = first.outputs[1].name
    assert eliminate_common_subexpressions(found)
    assert operators(found) == ["TopK", "Neg", "Neg"]
    assert [value.name for value in first.outputs] == ["b", kept]
