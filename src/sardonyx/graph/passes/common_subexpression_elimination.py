"""Merges nodes that compute the same.

1. y = f(x...), z = f(x...) in one graph -> z becomes y

f and its attributes are equal, the inputs are the same values, f is deterministic and has no graphs as attributes. A node that
makes an output of its graph stays.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import onnx_ir as ir

from sardonyx.graph import schemas

LARGEST_COMPARED = 1024  # bytes; larger tensor attributes are compared by identity


def eliminate_common_subexpressions(model: ir.Model) -> bool:
    """Apply the rules at the head of this file to the whole model. Returns whether it changed."""
    changed = False
    for graph in (model.graph, *model.graph.subgraphs()):
        seen: dict[Hashable, ir.Node] = {}
        for node in graph:
            key = key_of(node, model.opset_imports)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is not node and not any(value.is_graph_output() for value in node.outputs):
                merge(first, node)
                changed = True
    return changed


def merge(first: ir.Node, second: ir.Node) -> None:
    """Make all uses of the second node's outputs use the first node's, and remove the second node."""
    assert second.graph is not None
    for kept, value in zip(first.outputs, second.outputs, strict=True):
        if not kept.name:
            kept.name = value.name
        value.replace_all_uses_with(kept)
    second.graph.remove(second, safe=True)


def key_of(node: ir.Node, imports: dict[str, int]) -> Hashable:
    """Return a key that is equal for nodes which compute the same, None for nodes that may not be merged."""
    schema = schemas.schema_of(node, imports)
    if schema is None or not schema.deterministic:
        return None
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        value = attribute_key(attribute)
        if value is None:
            return None
        attributes.append((name, value))
    return node.op_identifier(), tuple(map(id, node.inputs)), tuple(attributes), len(node.outputs)


def attribute_key(attribute: ir.Attr) -> Hashable:
    """Return a key that is equal for equal attributes, None for kinds that are not compared."""
    kinds = ir.AttributeType
    value: Any = attribute.value
    if attribute.type in (kinds.INT, kinds.FLOAT, kinds.STRING):
        return attribute.type, repr(value)
    if attribute.type in (kinds.INTS, kinds.FLOATS, kinds.STRINGS):
        return attribute.type, repr(tuple(value))
    if attribute.type == kinds.TENSOR:
        if value.dtype == ir.DataType.STRING or value.nbytes > LARGEST_COMPARED:
            return kinds.TENSOR, id(value)
        return kinds.TENSOR, value.dtype, tuple(value.shape.numpy()), value.tobytes()
    return None
