"""Who runs what: every node once, providers in order, sub-graphs that never wait for each other in a circle, and that compute the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from sardonyx.base import errors
from sardonyx.graph.partition import Part, extract, partition, producers, read_values
from tests.graph.models import model

DIAMOND = """g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
    a = Sin(x)
    b = Cos(a)
    c = Mul(a, w)
    d = Add(b, c)
    y = Neg(d)
}"""


def nodes_of(found: ir.Model, *names: str) -> list[ir.Node]:
    return [n for n in found.graph if n.op_type in names]


def shown(parts: Sequence[Part]) -> list[tuple[int, list[str]]]:
    return [(p.provider, [n.op_type for n in p.nodes]) for p in parts]


def test_one_provider_that_takes_all_gets_one_part() -> None:
    found = model(DIAMOND)
    parts = partition(found.graph, [[list(found.graph)]])
    assert shown(parts) == [(0, ["Sin", "Cos", "Mul", "Add", "Neg"])]


def test_the_first_provider_is_served_first() -> None:
    found = model(DIAMOND)
    parts = partition(found.graph, [[nodes_of(found, "Cos", "Neg")], [list(found.graph)]])
    assert shown(parts) == [(1, ["Sin", "Mul"]), (0, ["Cos"]), (1, ["Add"]), (0, ["Neg"])]


def test_of_one_providers_claims_the_largest_comes_first() -> None:
    found = model(DIAMOND)
    parts = partition(
        found.graph, [[nodes_of(found, "Sin", "Cos"), nodes_of(found, "Cos", "Mul", "Add", "Neg")], [list(found.graph)]]
    )
    assert shown(parts) == [(0, ["Sin"]), (0, ["Cos", "Mul", "Add", "Neg"])]


def test_a_node_that_nobody_takes_is_named() -> None:
    found = model(DIAMOND)
    with pytest.raises(errors.NotImplemented, match="Add"):
        partition(found.graph, [[nodes_of(found, "Sin", "Cos", "Mul", "Neg")]])


BODY = """g (float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
    a = Sin(x)
    b = Cos(x)
    y = If(c) <then_branch = t () => (float[4] o) { d = Mul(a, w) o = Neg(d) }, else_branch = e () => (float[4] p) { p = Neg(b) }>
}"""


def test_what_bodies_read_is_read_by_their_node() -> None:
    found = model(BODY)
    branch = nodes_of(found, "If")[0]
    assert {n.op_type for n in producers(branch) if n.graph is found.graph} == {"Sin", "Cos"}
    assert {"a", "b", "w", "c"} <= {v.name for v in read_values(branch)}
    parts = partition(found.graph, [[nodes_of(found, "If")], [list(found.graph)]])
    assert shown(parts) == [(1, ["Sin", "Cos"]), (0, ["If"])]
    first, second = extract(found.graph, parts)
    assert [v.name for v in first.outputs] == ["a", "b"]
    assert [v.name for v in second.inputs] == ["c", "a", "b"]
    assert list(second.initializers) == ["w"]


def test_an_initializer_that_a_caller_may_override_is_an_input() -> None:
    found = model("g (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { a = Add(x, w) y = Neg(a) }")
    (piece,) = extract(found.graph, partition(found.graph, [[list(found.graph)]]))
    assert [v.name for v in piece.inputs] == ["x", "w"]
    assert not piece.initializers


# ---- any graph ------------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[list[list[int]]]]:
    """A graph as text, and claims of three providers by numbers of nodes; the last one takes everything."""
    count = draw(st.integers(1, 9))
    lines = []
    for k in range(count):
        made = ["x", "w", *(f"v{i}" for i in range(k))]
        a, b = draw(st.sampled_from(made)), draw(st.sampled_from(made))
        if draw(st.booleans()):
            lines.append(f"v{k} = Add({a}, {b})")
        else:
            lines.append(
                f"v{k} = If(c) <then_branch = t{k} () => (float[2] o{k}) {{ o{k} = Sub({a}, {b}) }}, "
                f"else_branch = e{k} () => (float[2] p{k}) {{ q{k} = Neg({a}) p{k} = Mul(q{k}, w) }}>"
            )
    outputs = draw(st.lists(st.sampled_from(range(count)), min_size=1, max_size=3, unique=True))
    named = ", ".join(f"float[2] v{k}" for k in outputs)
    text = f"g (float[2] x, bool c) => ({named}) <float[2] w = {{0.5, -0.25}}> {{ {' '.join(lines)} }}"
    groups = st.lists(st.lists(st.integers(0, count - 1), max_size=count), max_size=3)
    return text, [draw(groups), draw(groups), [list(range(count))]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_parts_run_one_after_the_other_and_compute_the_same(case: tuple[str, list[list[list[int]]]]) -> None:
    text, claims = case
    found = model(text)
    nodes = list(found.graph)
    wanted = [v.name for v in found.graph.outputs]
    whole = ReferenceEvaluator(ir.serde.serialize_model(found))
    parts = partition(found.graph, [[[nodes[i] for i in group] for group in groups] for groups in claims])
    assert sorted(nodes.index(n) for p in parts for n in p.nodes) == list(range(len(nodes)))
    for p in parts:
        first = min(k for k, groups in enumerate(claims) if any(nodes.index(p.nodes[0]) in g for g in groups))
        assert p.provider == first
    pieces = extract(found.graph, parts)
    assert not list(found.graph)
    for condition in (True, False):
        values = {"x": np.array([1.5, -2], np.float32), "c": np.array(condition)}
        right = whole.run(None, values)
        for piece in pieces:
            proto = ir.serde.serialize_model(ir.Model(piece, ir_version=8))
            names = [v.name for v in piece.outputs]
            given = {str(v.name): values[str(v.name)] for v in piece.inputs}
            values |= dict(zip(names, ReferenceEvaluator(proto).run(None, given), strict=True)) if names else {}
        for name, r in zip(wanted, right, strict=True):
            np.testing.assert_array_equal(values[str(name)], r)
