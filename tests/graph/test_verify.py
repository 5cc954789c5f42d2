"""Graphs that are not well formed are refused, by the node or the value; well-formed ones pass, however they are put together."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from sardonyx.base.errors import Fail, InvalidArgument, InvalidGraph, SardonyxError
from sardonyx.graph.verify import verify
from tests.graph.models import model, values

TEXT = """g (float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
    a = Sin(x)
    b = Mul(a, w)
    y = If(c) <then_branch = t () => (float[4] o) { d = Mul(b, w) o = Neg(d) }, else_branch = e () => (float[4] p) { p = Neg(x) }>
}"""


def node(found: ir.Model, kind: str) -> ir.Node:
    return next(n for n in ir.traversal.RecursiveGraphIterator(found.graph) if n.op_type == kind)


def test_a_sound_graph_passes() -> None:
    verify(model(TEXT))


def rename(found: ir.Model) -> None:
    """Two values of one name."""
    node(found, "Mul").outputs[0].name = "a"


def turn_round(found: ir.Model) -> None:
    """A node reads what a later one makes."""
    node(found, "Sin").replace_input_with(0, values(found)["b"])


def read_a_stranger(found: ir.Model) -> None:
    stranger = ir.Value(name="stranger", type=ir.TensorType(ir.DataType.FLOAT))
    node(found, "Sin").replace_input_with(0, stranger)


def read_out_of_a_body(found: ir.Model) -> None:
    """What is computed in a body is read outside of it."""
    inner = next(iter(found.graph.subgraphs()))
    extra = ir.node("Neg", [inner.node(0).outputs[0]], name="outside")
    extra.outputs[0].name = "z"
    found.graph.append(extra)


def lose_an_input(found: ir.Model) -> None:
    node(found, "Mul").resize_inputs(1)


def invent_an_operator(found: ir.Model) -> None:
    node(found, "Sin").op_type = "Sine"


def invent_an_attribute(found: ir.Model) -> None:
    node(found, "Sin").attributes["speed"] = ir.AttrInt64("speed", 3)


def mistake_an_attribute(found: ir.Model) -> None:
    node(found, "If").attributes["then_branch"] = ir.AttrInt64("then_branch", 3)


def lose_an_attribute(found: ir.Model) -> None:
    del node(found, "If").attributes["else_branch"]


def return_a_stranger(found: ir.Model) -> None:
    found.graph.outputs[0] = ir.Value(name="stranger", type=ir.TensorType(ir.DataType.FLOAT))


def change_a_type(found: ir.Model) -> None:
    values(found)["w"].type = ir.TensorType(ir.DataType.INT64)


def forget_a_type(found: ir.Model) -> None:
    found.graph.inputs[0].type = None


FAULTS: dict[Callable[[ir.Model], None], tuple[type[SardonyxError], str]] = {
    rename: (InvalidGraph, "Duplicate definition of name"),
    turn_round: (Fail, "not acyclic"),
    read_a_stranger: (InvalidArgument, "stranger"),
    read_out_of_a_body: (InvalidArgument, "d"),
    lose_an_input: (InvalidGraph, "input size 1"),
    invent_an_operator: (InvalidGraph, "Sine"),
    invent_an_attribute: (InvalidGraph, "speed"),
    mistake_an_attribute: (InvalidGraph, "then_branch"),
    lose_an_attribute: (InvalidGraph, "else_branch"),
    return_a_stranger: (Fail, "stranger"),
    change_a_type: (Fail, "Mul"),
    forget_a_type: (Fail, "x"),
}


@pytest.mark.parametrize("harm", FAULTS, ids=lambda f: f.__name__)
def test_faults(harm: Callable[[ir.Model], None]) -> None:
    found = model(TEXT)
    harm(found)
    kind, text = FAULTS[harm]
    with pytest.raises((kind, Fail, InvalidGraph), match=text):
        verify(found)


def test_axes_lie_where_tensors_can_have_them() -> None:
    for axes in ("[0, 70]", "[-65]", "[1]"):
        text = f"g (float[2,1] x) => (float[2] y) {{ y = Squeeze <axes = {axes}> (x) }}"
        head = '<ir_version: 6, opset_import: ["" : 11]> '
        if axes == "[1]":
            verify(model(text, head))
        else:
            with pytest.raises(SardonyxError):
                verify(model(text, head))


def test_operators_of_providers_are_known_to_them() -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]> '
    text = "g (float[4] x) => (float[4] y) { y = mine.Twist(x) }"
    with pytest.raises(Fail, match="Twist"):
        model(text, head)
    verify(model(text, head, knows=lambda domain, name: (domain, name) == ("mine", "Twist")), lambda domain, name: domain == "mine")


@pytest.mark.parametrize(
    "equation", ["é", "....", "i.j->i", "ij-", "i>j", "i->j->k", "ij - > j", "i1", "..." * 2, "a" * 5000 + "."]
)
def test_texts_that_are_no_equation(equation: str) -> None:
    """onnx's inference would not come back from most of them."""
    with pytest.raises(InvalidGraph, match="not an equation"):
        model(f'g (float[2, 2] x) => (y) {{ y = Einsum <equation = "{equation}"> (x) }}')


@pytest.mark.parametrize("equation", ["ij->ji", "ij", "...ij->...j", " i j -> j i ", "i...->...", "ii"])
def test_equations_that_are_read(equation: str) -> None:
    model(f'g (float[2, 2] x) => (y) {{ y = Einsum <equation = "{equation}"> (x) }}')
