"""Conversion of a node's attributes to Python values, with the defaults of its schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from sardonyx.graph.constants import array_of, tensor_of
from sardonyx.graph.schemas import Schema


def attributes_of(node: ir.Node, schema: Schema) -> dict[str, Any]:
    """Return {name: value} of a node's attributes, with the schema's defaults for those that the node lacks."""
    given = {name: python_value(attribute) for name, attribute in node.attributes.items()}
    return {**{name: python_value(attribute) for name, attribute in defaults(schema).items()}, **given}


def python_value(attribute: ir.Attr) -> Any:
    """Convert an attribute to a number, string, tuple or array."""
    if attribute.type == ir.AttributeType.TENSOR:
        return array_of(tensor_of(attribute))
    if attribute.type == ir.AttributeType.TENSORS:
        return tuple(array_of(tensor) for tensor in attribute.as_tensors())
    value = attribute.value
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def defaults(schema: Schema) -> dict[str, ir.Attr]:
    """Return the schema's attributes that have a default."""
    given = {name: attribute.default_value for name, attribute in schema.raw.attributes.items()}
    return {name: ir.serde.deserialize_attribute(value) for name, value in given.items() if value.type}
