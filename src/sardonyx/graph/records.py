"""Finding a node's operator record, and calling it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir

from sardonyx import ops
from sardonyx.base.dtypes import BY_CODE, DType
from sardonyx.base.errors import Unsupported
from sardonyx.expr.tensor import Tensor
from sardonyx.ops.record import Op


def find_op(node: onnx_ir.Node, opsets: Mapping[str, int]) -> Op:
    """Return the node's operator record. Raises Unsupported if there is none, or if the operator runs on the host."""
    version = node.version if node.version is not None else opsets.get(node.domain, 1)
    op = ops.find(node.domain, node.op_type, version)
    if op is None or op.meaning is None:
        raise Unsupported(f"{describe(node)}: no compiled form of {node.domain or 'ai.onnx'}.{node.op_type}-{version}")
    return op


def call(op: Op, inputs: Sequence[Tensor | None], node: onnx_ir.Node) -> list[Tensor | None]:
    """Compute the node's outputs by its record. Raises Fail for invalid inputs, Unsupported for forms that have no compiled
    meaning.
    """
    attributes = {name: attribute_value(a) for name, a in node.attributes.items()}
    return list(op.call(inputs, attributes, len(node.outputs)))


def attribute_value(a: onnx_ir.Attr) -> Any:
    """Convert an attribute to a Python value; tensors become numpy arrays. Raises Unsupported for graphs and other kinds."""
    kind = onnx_ir.AttributeType
    if a.type == kind.TENSOR:
        return a.value.numpy()
    if a.type in (kind.INTS, kind.FLOATS, kind.STRINGS):
        return list(a.value)
    if a.type in (kind.INT, kind.FLOAT, kind.STRING):
        return a.value
    raise Unsupported(f"attribute {a.name} of kind {a.type.name}")


def element_type(dtype: onnx_ir.DataType, name: str | None) -> DType:
    """Return the dtype of a value's elements. Raises Unsupported unless it is numeric."""
    found = BY_CODE.get(int(dtype))
    if found is None or not found.is_number:
        raise Unsupported(f"{name} has elements of type {dtype.name}")
    return found


def node_name(node: onnx_ir.Node) -> str:
    """Return the name of a node in messages, profiles and dumps."""
    return node.name or next((v.name for v in node.outputs if v.name), None) or node.op_type


def describe(node: onnx_ir.Node) -> str:
    """Return how errors name a node: operator and name."""
    return f"{node.op_type} node '{node_name(node)}'"
