"""Decides which nodes run in Python on the host: those that read or write strings, sequences, optionals or maps."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from sardonyx import host
from sardonyx.graph.schemas import schema_of
from sardonyx.graph.types import type_string


def is_host_node(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Return whether the node has a function of the host and reads or writes a value that compiled code can't hold: a string,
    sequence, optional or map.

    Nodes whose values are all numeric never run on the host.
    """
    if not any(is_not_numeric(value) for value in (*node.inputs, *node.outputs) if value is not None):
        return False
    schema = schema_of(node, imports)
    return schema is not None and host.find(schema.domain, schema.name, schema.since) is not None


def is_not_numeric(value: ir.Value) -> bool:
    """Return whether the value is known to be something else than a tensor of numbers."""
    if isinstance(value.type, ir.TensorType):
        return value.dtype == ir.DataType.STRING
    kind = type_string(value)
    return kind is not None and not kind.startswith("tensor(")
