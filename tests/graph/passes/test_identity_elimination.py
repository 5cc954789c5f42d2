"""Identity is taken out, wherever a graph's output can keep its name."""

from __future__ import annotations

import numpy as np

from sardonyx.graph.passes.identity_elimination import eliminate_identities
from tests.graph.passes.harness import after, bodies, operators, reals

X = {"x": reals(3)}
CONDITION = np.array(True)


def test_between_nodes_and_in_chains() -> None:
    found = after(eliminate_identities, "g (float[3] x) => (float[3] y) { a = Identity(x) b = Identity(a) y = Relu(b) }", X)
    assert operators(found) == ["Relu"]


def test_the_output_of_a_node_takes_an_outputs_name() -> None:
    found = after(eliminate_identities, "g (float[3] x) => (float[3] y) { a = Relu(x) y = Identity(a) }", X)
    assert operators(found) == ["Relu"]
    assert [v.name for v in found.graph.outputs] == ["y"]


def test_an_input_that_is_an_output_stays_apart() -> None:
    assert operators(after(eliminate_identities, "g (float[3] x) => (float[3] y) { y = Identity(x) }", X)) == ["Identity"]


def test_one_value_under_two_names_stays_two_outputs() -> None:
    found = after(eliminate_identities, "g (float[3] x) => (float[3] a, float[3] y) { a = Relu(x) y = Identity(a) }", X)
    assert operators(found) == ["Relu", "Identity"]


def test_in_a_body_that_returns_what_it_captures() -> None:
    found = after(
        eliminate_identities,
        """g (float[3] x, bool c) => (float[3] y) {
            a = Relu(x)
            y = If(c) <then_branch = t () => (float[3] o) { o = Identity(a) },
                       else_branch = e () => (float[3] p) { b = Identity(a) p = Neg(b) }>
        }""",
        {**X, "c": CONDITION},
    )
    assert bodies(found) == [["Identity"], ["Neg"]]  # a is no value of the branch that would return it


def test_a_value_that_a_body_captures() -> None:
    found = after(
        eliminate_identities,
        """g (float[3] x, bool c) => (float[3] y) {
            a = Identity(x)
            y = If(c) <then_branch = t () => (float[3] o) { o = Relu(a) }, else_branch = e () => (float[3] p) { p = Neg(a) }>
        }""",
        {**X, "c": CONDITION},
    )
    assert operators(found) == ["If"]
