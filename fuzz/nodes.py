"""Fuzzer of single nodes: any version of any operator, with inputs of any rank, some of them constant, and attributes of any value.

`python -m fuzz.nodes --executions 1000 --seed 1 --state DIR`. As in `fuzz/files.py`, creating and running a session must succeed or
raise a documented exception. Only the form of the node can be wrong here, so each operator's own checks are reached.
"""

from __future__ import annotations

import functools
import random
import sys
from typing import Any

import onnx
from onnx import AttributeProto as A
from onnx import TensorProto as T
from onnx import helper as h

from fuzz import mutations
from fuzz.campaign import main
from fuzz.files import Files

PLAIN = ("tensor(float)", "tensor(int64)", "tensor(double)", "tensor(int32)")
SIZES: tuple[int | str, ...] = (0, 1, 2, 3, 4, 4, 5, "n", "m")
NUMBERS = (0, 1, 2, 3, -1, 1, 2, 5, 64, 2**31, 2**40, -(2**63), 2**63 - 1)
SMALL = (0, 1, 2, 1, 3, -1)


@functools.cache
def schemas() -> list[Any]:
    """Return all versions of all operators of the standard, and the operators that only records have."""
    from sardonyx import ops
    from sardonyx.graph import record_schemas

    found = [schema for schema in onnx.defs.get_all_schemas_with_history() if not schema.deprecated]
    own = [op for op in ops.every() if not op.in_standard]
    found += [record_schemas.raw_schema(op) for op in own]
    return sorted(found, key=lambda schema: (schema.domain, schema.name, schema.since_version))


class Nodes(Files):
    """Fuzzer of models with one node."""

    name = "nodes"

    def make(self, drawn: random.Random) -> bytes:
        return model_of(drawn.choice(schemas()), drawn).SerializeToString()


def model_of(schema: Any, drawn: random.Random) -> onnx.ModelProto:
    """Make a model of one node of this operator."""
    names: list[str] = []
    inputs: list[onnx.ValueInfoProto] = []
    tensors: list[onnx.TensorProto] = []
    for place in range(drawn.randint(schema.min_input, max(schema.min_input, min(schema.max_input, len(schema.inputs) + 1)))):
        if place >= schema.min_input and drawn.random() < 0.08:
            names.append("")
            continue
        names.append(f"x{place}")
        add_input(names[-1], schema.inputs[min(place, len(schema.inputs) - 1)], inputs, tensors, drawn)
    outputs = [f"y{k}" for k in range(min(schema.max_output, max(1, schema.min_output) + drawn.choice((0, 0, 1))))]
    node = h.make_node(schema.name, names, outputs, "node", domain=schema.domain)
    node.attribute.extend(attribute_of(a, drawn) for a in schema.attributes.values() if a.required or drawn.random() < 0.4)
    graph = h.make_graph([node], "g", inputs, [h.make_empty_tensor_value_info(name) for name in outputs], tensors)
    imports = [h.make_opsetid(schema.domain, schema.since_version)]
    return h.make_model(graph, opset_imports=imports + [h.make_opsetid("", 21)] * bool(schema.domain), ir_version=10)


def add_input(
    name: str, parameter: Any, inputs: list[onnx.ValueInfoProto], tensors: list[onnx.TensorProto], drawn: random.Random
) -> None:
    """Add an input or a constant, of a type that the parameter takes."""
    types = sorted(t for t in parameter.types if t.startswith("tensor("))
    if not types:
        inputs.append(h.make_tensor_value_info(name, T.FLOAT, ["n"]))
        return
    plain = [t for t in types if t in PLAIN]
    chosen = drawn.choice(plain) if plain and drawn.random() < 0.7 else drawn.choice(types)
    code = int(T.DataType.Value(chosen[7:-1].upper()))
    if code in (T.INT64, T.INT32) and drawn.random() < 0.5:
        low, high = (-(2**31), 2**31 - 1) if code == T.INT32 else (-(2**63), 2**63 - 1)
        numbers = [max(low, min(drawn.choice(NUMBERS), high)) for _ in range(drawn.choice((0, 1, 1, 2, 3, 4, 8)))]
        shape = [] if len(numbers) == 1 and drawn.random() < 0.5 else [len(numbers)]
        if len(numbers) == 4 and drawn.random() < 0.3:
            shape = [2, 2]
        tensors.append(h.make_tensor(name, code, shape, numbers))
        return
    shape = None if drawn.random() < 0.05 else [drawn.choice(SIZES) for _ in range(drawn.choice((0, 1, 1, 2, 2, 3, 3, 4, 4, 5)))]
    inputs.append(h.make_tensor_value_info(name, code, shape))


def attribute_of(attribute: Any, drawn: random.Random) -> onnx.AttributeProto:
    """Make a value for an attribute: mostly small numbers, its default, or a text that the operator may know."""
    kind = attribute.type.value
    out = mutations.an_attribute(attribute.name, kind, drawn)
    if kind == A.STRING and attribute.default_value.s and drawn.random() < 0.6:
        out.s = attribute.default_value.s
    elif kind == A.INT and drawn.random() < 0.8:
        out.i = drawn.choice(SMALL)
    elif kind == A.INTS and drawn.random() < 0.8:
        out.ClearField("ints")
        out.ints.extend(drawn.choice(SMALL) for _ in range(drawn.choice((1, 2, 2, 3, 4, 4, 6))))
    elif kind == A.GRAPH:
        body = h.make_graph([h.make_node("Identity", ["x0"], ["b"])], "body", [], [h.make_empty_tensor_value_info("b")])
        out.g.CopyFrom(body)
    return out


if __name__ == "__main__":
    sys.exit(main(Nodes()))
