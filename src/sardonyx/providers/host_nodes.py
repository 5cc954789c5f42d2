"""Encodes a graph of nodes that run on the host as data (providers.host.Layout)."""

from __future__ import annotations

from sardonyx.base.errors import Unsupported
from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.constants import array_of
from sardonyx.graph.host_operators import host_attributes
from sardonyx.graph.records import node_name
from sardonyx.graph.schemas import ML, schema_of
from sardonyx.providers.host import NOTHING, Call, Layout


def give_shape(node: ir.Node) -> None:
    """Set the shape of an output of ai.onnx.ml as the standard's text states it; onnx has no shape inference for it."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if x is None or x.shape is None or y.shape is not None or node.domain != ML:
        return
    if node.op_type in ("LabelEncoder", "CategoryMapper"):
        y.shape = ir.Shape(list(x.shape))
    elif node.op_type == "OneHotEncoder":
        y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([*x.shape, len(node.attributes["cats_strings"].as_strings())])


def layout_of(graph: ir.Graph) -> Layout:
    """Return the layout of a graph whose nodes all run on the host. Raises Unsupported for another node."""
    slots: dict[ir.Value, int] = {value: 1 + index for index, value in enumerate(graph.inputs)}

    def slot(value: ir.Value | None) -> int:
        return NOTHING if value is None else slots.setdefault(value, len(slots) + 1)

    constants = {
        slot(value): array_of(value.const_value)
        for value in graph.initializers.values()
        if value not in slots and value.const_value is not None
    }
    calls = []
    for node in graph:
        schema = schema_of(node, graph.opset_imports)
        if schema is None:
            raise Unsupported(f"{node.op_type} node {node.name} is outside the standard")
        reads, writes = tuple(map(slot, node.inputs)), tuple(map(slot, node.outputs))
        attributes = host_attributes(node, schema)
        calls.append(Call(schema.domain, schema.name, schema.since, node.name or "", attributes, reads, writes, node_name(node)))
    outputs = tuple(map(slot, graph.outputs))
    return Layout(len(graph.inputs), len(slots) + 1, constants, tuple(calls), outputs)
