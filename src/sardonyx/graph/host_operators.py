"""Decides which nodes run in Python on the host: those that read or write strings, sequences, optionals or maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from sardonyx import host
from sardonyx.graph.attributes import attributes_of
from sardonyx.graph.schemas import Schema, schema_of, version_of
from sardonyx.graph.types import tensor_dtype, type_string
from sardonyx.host.custom import OUTPUTS, Declared


def is_host_node(node: ir.Node, imports: Mapping[str, int]) -> bool:
    """Return whether the node is of a custom operator of arrays, or has a function of the host and reads or writes a value that compiled code can't hold: a string,
    sequence, optional or map.

    Other nodes whose values are all numeric never run on the host.
    """
    version = version_of(node, imports)
    if version is not None and host.custom.find(node.domain, node.op_type, version) is not None:
        return True
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


def host_attributes(node: ir.Node, schema: Schema) -> dict[str, Any]:
    """Return what prepares the node's function on the host: attributes with defaults, and for custom operators what is known of the
    outputs.
    """
    attributes = attributes_of(node, schema)
    if host.custom.find(schema.domain, schema.name, schema.since) is None:
        return attributes
    return {**attributes, OUTPUTS: tuple(map(declared, node.outputs))}


def declared(value: ir.Value) -> Declared:
    """Return what is known of an output before the run."""
    dtype = tensor_dtype(value)
    name = "object" if value.dtype == ir.DataType.STRING else None if dtype is None else dtype.name
    sizes = None if value.shape is None else tuple(size if isinstance(size, int) else None for size in value.shape)
    return Declared(value.name or "", name, sizes)
