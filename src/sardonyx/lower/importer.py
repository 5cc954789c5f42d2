"""Import an onnx_ir graph as tensor expressions: call each node's operator record with the node's inputs and attributes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from sardonyx.base import budget
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, symbol
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, input_tensor, lazy_constant
from sardonyx.graph import onnx_ir
from sardonyx.graph.records import call, describe, element_type, find_op, node_name
from sardonyx.lower.control import CONTROL, import_control

MARKS = frozenset('@#?."')
"""Names of sizes that the compiler makes have one of these characters."""


class Imported(Struct):
    """The inputs and outputs of a graph as tensors."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


def import_graph(graph: onnx_ir.Graph, opsets: Mapping[str, int]) -> Imported:
    """Import the whole graph. Raises Unsupported naming the first node that can't be compiled, Fail for a node that is
    invalid."""
    out = Imported()
    scope: dict[onnx_ir.Value, Tensor] = {}
    for v in graph.initializers.values():
        scope[v] = weight(v)
    for v in graph.inputs:
        if v not in scope:
            scope[v] = graph_input(v)
        out.inputs.append(scope[v])
    for node in graph:
        import_node(node, scope, opsets)
    for v in graph.outputs:
        out.outputs.append(scope[v])
    return out


def import_node(node: onnx_ir.Node, scope: dict[onnx_ir.Value, Tensor], opsets: Mapping[str, int]) -> None:
    """Import one node and add its outputs to scope."""
    budget.check(f"importing {describe(node)}")
    if node.op_type in CONTROL and node.domain == "":
        with origin(node_name(node), node.op_type):
            results = import_control(node, scope, lambda g, inner: import_body(g, inner, opsets))
        scope.update(zip(node.outputs, results, strict=False))
        return
    op = find_op(node, opsets)
    inputs = [scope[v] if v is not None else None for v in node.inputs]
    with origin(node_name(node), node.op_type):
        try:
            with budget.values():
                made = call(op, inputs, node)
        except Fail as e:
            raise Fail(f"Node ({node.name}) Op ({node.op_type}) {e.detail}") from e.__cause__
        except Unsupported as e:
            raise type(e)(f"{describe(node)}: {e}") from None
    for v, t in itertools.zip_longest(node.outputs, made[: len(node.outputs)]):
        if t is not None:
            scope[v] = t
        elif v.uses() or v.is_graph_output():
            raise Unsupported(f"{describe(node)}: no compiled form of its output {v.name}")


def import_body(graph: onnx_ir.Graph, scope: dict[onnx_ir.Value, Tensor], opsets: Mapping[str, int]) -> list[Tensor]:
    """Import a subgraph whose inputs are in scope, and return its outputs."""
    for v in graph.initializers.values():
        scope[v] = weight(v)
    for node in graph:
        import_node(node, scope, opsets)
    return [scope[v] for v in graph.outputs]


def weight(v: onnx_ir.Value) -> Tensor:
    """Import an initializer. Its numbers are loaded later, unless shape arithmetic or a scalar needs them."""
    data = v.const_value
    assert data is not None
    dtype = element_type(data.dtype, v.name)
    shape = tuple(int(n) for n in data.shape.numpy())

    def load() -> npt.NDArray[Any]:
        return np.ascontiguousarray(data.numpy()).reshape(shape)

    return lazy_constant(v.name or "", dtype, shape, load)


def graph_input(v: onnx_ir.Value) -> Tensor:
    """Import a graph input; unnamed sizes get a name. Raises Unsupported if it is no tensor, or of unknown element type or
    rank."""
    if not isinstance(v.type, onnx_ir.TensorType) or v.dtype is None or v.shape is None:
        raise Unsupported(f"{v.name} is no tensor of a known element type and rank")
    shape = [dimension(d, f"{v.name}.{i}") for i, d in enumerate(v.shape)]
    return input_tensor(v.name or "", element_type(v.dtype, v.name), shape)


def dimension(d: int | onnx_ir.SymbolicDim, name: str) -> Dim:
    """Return a size as a number, or as a symbol named by the model; `name` names one that the model does not name.

    Sizes that the compiler names have one of MARKS in their names. A name of the model that has one is put in quotes, so that
    no model can name a size of the compiler's own, such as the address `@arena0`.
    """
    if isinstance(d, int):
        return d
    if d.value is None:
        return symbol(name)
    return symbol(f'"{d.value}"' if MARKS & set(d.value) else d.value)
