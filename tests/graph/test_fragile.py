"""graph/inference.py, operators whose rules in onnx end the process when an input has no type: none of them is asked then."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import onnx
import pytest
from onnx import helper as h

from fuzz.mutations import an_attribute
from sardonyx.base.errors import SardonyxError
from sardonyx.graph.inference import FRAGILE
from sardonyx.graph.load import LoadOptions, load

DRAWS = 3  # of optional attributes


def behind_the_unknown(schema: onnx.defs.OpSchema, draw: int) -> bytes:
    """A node of the operator whose inputs come from an operator without a schema."""
    drawn = random.Random(f"{schema.domain} {schema.name} {draw}")
    inputs = [f"u{i}" for i in range(max(schema.min_input, 1 if schema.max_input else 0))]
    node = h.make_node(schema.name, inputs, [f"o{i}" for i in range(max(1, schema.min_output))], domain=schema.domain)
    for name, attribute in schema.attributes.items():
        if attribute.required or (draw and drawn.random() < 0.5):
            node.attribute.append(an_attribute(name, attribute.type.value, drawn))
    nodes = [h.make_node("Unheard", [], inputs, domain="own"), node] if inputs else [node]
    imports = {"": onnx.defs.onnx_opset_version(), "own": 1, schema.domain: schema.since_version}
    if not schema.domain:
        imports[""] = onnx.defs.onnx_opset_version()
    graph = h.make_graph(nodes, "g", [], [h.make_empty_tensor_value_info("o0")])
    return h.make_model(
        graph, opset_imports=[h.make_opsetid(*entry) for entry in imports.items()], ir_version=10
    ).SerializeToString()


def schemas() -> Iterator[onnx.defs.OpSchema]:
    yield from (schema for schema in onnx.defs.get_all_schemas() if not schema.deprecated)


def attempt(source: bytes) -> None:
    with contextlib.suppress(SardonyxError):
        load(source, LoadOptions(knows=lambda domain, name: domain == "own"))


def first_death(sources: list[bytes]) -> int | None:
    """Which of the models ends the process that loads them, if one does."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for source in sources:
                os.write(writing, b".")
                attempt(source)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        done = len(pipe.read())
    _, status = os.waitpid(child, 0)
    return None if status == 0 else done - 1


def test_no_operator_ends_the_process() -> None:
    cases = [(schema.name, behind_the_unknown(schema, draw)) for schema in schemas() for draw in range(DRAWS)]
    died = first_death([source for _, source in cases])
    assert died is None, cases[died][0]


@pytest.mark.parametrize(("domain", "name"), sorted(FRAGILE))
def test_what_is_called_fragile_exists(domain: str, name: str) -> None:
    assert onnx.defs.has(name, domain)


def test_types_are_found_through_several_of_them() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "own": 1]> g (float[n, 2] x) => (double[n, 2] y, float s) {
        a = Relu(x)  b = EyeLike(a)  c = Neg(b)  d = EyeLike<dtype = 11>(c)  y = Neg(d)
        e = own.Unheard(x)  v = EyeLike(e)  s = ReduceSum<keepdims = 0>(x)
    }"""
    loaded = load(onnx.parser.parse_model(text).SerializeToString(), LoadOptions(knows=lambda domain, name: domain == "own"))
    found = {v.name: (v.dtype, v.shape) for node in loaded.graph for v in node.outputs}
    assert [str(found[name][0]) for name in "bcdy"] == ["FLOAT", "FLOAT", "DOUBLE", "DOUBLE"]
    assert all(found[name][1] == ["n", 2] for name in "bcdy")
    assert found["v"] == (None, None)
    assert {node.domain for node in loaded.graph} == {"", "own"}
