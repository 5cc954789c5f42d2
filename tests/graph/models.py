"""Small models, from text."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from sardonyx.graph.load import LoadOptions, load

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '


def proto(text: str, head: str = HEAD) -> onnx.ModelProto:
    """The model in ONNX's text form."""
    return onnx.parser.parse_model(head + text)


def data(text: str, head: str = HEAD) -> bytes:
    """Its bytes."""
    return proto(text, head).SerializeToString()


def model(text: str, head: str = HEAD, **options: object) -> ir.Model:
    """Loaded."""
    return load(data(text, head), LoadOptions(**options))


def operators(found: ir.Model) -> list[str]:
    """The operators of the main graph, in order."""
    return [node.op_type for node in found.graph]


def values(found: ir.Model) -> dict[str, ir.Value]:
    """The main graph's values by name."""
    there = {v.name: v for v in (*found.graph.inputs, *found.graph.initializers.values())}
    return there | {v.name: v for node in found.graph for v in node.outputs}
