"""Which nodes run on the host: those of strings, sequences, optionals and maps."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from sardonyx import host
from sardonyx.graph.schemas import schema_of
from sardonyx.graph.types import type_string


def is_host_node(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Has the node a host form, and does it read or write something that compiled code can't hold?

    That is strings, sequences, optionals and maps; numbers are computed on the host by no node.
    """
    if not any(is_foreign(value) for value in (*node.inputs, *node.outputs) if value is not None):
        return False
    schema = schema_of(node, imports)
    return schema is not None and host.find(schema.domain, schema.name, schema.since) is not None


def is_foreign(value: ir.Value) -> bool:
    """Is the value something else than a tensor of numbers, as far as its type is known?"""
    if isinstance(value.type, ir.TensorType):
        return value.dtype == ir.DataType.STRING
    kind = type_string(value)
    return kind is not None and not kind.startswith("tensor(")
