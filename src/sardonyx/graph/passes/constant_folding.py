"""Computes nodes whose inputs are constant.

1. f(constants...) -> constants
2. Shape(x) -> constant, where all sizes that it asks for are known
3. Size(x)  -> constant, where all sizes are known

f is deterministic, has no graphs as attributes, reads and returns tensors of numbers, and has a compiled form. The result is what
that form means (`expr.evaluate`), so folding gives what running would give. A node that would fail is kept, and fails when the
model is run. Budgets keep a hostile model from using up memory or time: the sizes of outputs are known before anything is computed,
one node may handle LARGEST bytes and evaluate MOST_POINTS expressions, all nodes together TOTAL bytes in SECONDS. Other constant
nodes are left to the program that prepares constants. QuantizeLinear and DequantizeLinear are kept, so that later passes can
recognise quantised operators.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from sardonyx.base.budget import check, values
from sardonyx.base.dtypes import BY_CODE
from sardonyx.base.errors import SardonyxError, Unsupported
from sardonyx.base.symbolic import Int, symbols
from sardonyx.expr import require
from sardonyx.expr.evaluate import evaluate, needed
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, constant
from sardonyx.graph import records, schemas
from sardonyx.graph.constants import Array
from sardonyx.graph.passes.rewrite import tensor_of

LARGEST = 1 << 20
TOTAL = 1 << 26
SECONDS = 2.0
MOST_POINTS = 1 << 20
INTERPRETED = 64  # estimated evaluations for each element that a kernel of the loop builder reads or writes
KEPT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


class Budget:
    """The bytes and the time that folding may still use."""

    def __init__(self) -> None:
        self.bytes = TOTAL
        self.deadline = time.monotonic() + SECONDS

    def allows(self, count: int) -> bool:
        """Return whether this many bytes may be handled, and subtract them from the budget if so."""
        if count > min(LARGEST, self.bytes) or time.monotonic() > self.deadline:
            return False
        self.bytes -= count
        return True


def fold_constants(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 to 3) to the whole model. Returns whether it changed."""
    changed = False
    budget = Budget()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        check(f"folding {records.describe(node)}")
        if node.domain == "" and node.op_type in ("Shape", "Size") and (result := fixed_sizes(node)) is not None:
            results: Sequence[Array] | None = [result]
        else:
            results = fold_node(node, model.opset_imports, budget)
        if results:
            replace(node, results)
            changed = True
    return changed


def fixed_sizes(node: ir.Node) -> Array | None:
    """Apply rules 2 and 3: return the sizes as i64, None if they are not known."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(value.shape))
    sizes = value.shape.dims[slice(start, end)]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return np.array(sizes if node.op_type == "Shape" else math.prod(sizes), np.int64)


def fold_node(node: ir.Node, imports: Mapping[str, int], budget: Budget) -> list[Array] | None:
    """Apply rule 1: return the node's outputs, None if it is not folded."""
    schema = schemas.schema_of(node, imports)
    tensors = [tensor_of(value) for value in node.inputs]
    if schema is None or not schema.deterministic or not node.inputs or node.op_type in KEPT:
        return None
    if any(value is not None and tensor is None for value, tensor in zip(node.inputs, tensors, strict=True)):
        return None
    if any(a.type in GRAPHS for a in node.attributes.values()):
        return None
    given = [tensor for tensor in tensors if tensor is not None]
    if not all(is_numeric(tensor) for tensor in given) or (read := sum(tensor.nbytes for tensor in given)) > LARGEST:
        return None
    made = meaning(node, imports, tensors)
    if made is None or not budget.allows(read + sum(map(bytes_of, made))):
        return None
    return numbers(made)


def is_numeric(tensor: ir.TensorProtocol) -> bool:
    """Return whether the tensor's elements are numbers."""
    dtype = BY_CODE.get(int(tensor.dtype))
    return dtype is not None and dtype.is_number


def meaning(node: ir.Node, imports: Mapping[str, int], tensors: Sequence[ir.TensorProtocol | None]) -> list[Tensor] | None:
    """Return the node's outputs as tensors of known shapes, None if it has no compiled form, or one that holds for some sizes only."""
    inputs = [None if tensor is None else constant(tensor.numpy()) for tensor in tensors]
    try:
        with require.collect() as requirements, origin(records.node_name(node)), values():
            made = records.call(records.find_op(node, imports), inputs, node)
    except (SardonyxError, Unsupported):
        return None
    outputs = [t for t in made if t is not None]
    if requirements or len(outputs) < len(made) or any(isinstance(n, Int) for t in outputs for n in t.shape):
        return None
    return outputs


def bytes_of(t: Tensor) -> int:
    """Return the size of a tensor of known shape in bytes."""
    return math.prod(int(n) for n in t.shape if isinstance(n, int)) * t.dtype.itemsize


def numbers(made: Sequence[Tensor]) -> list[Array] | None:
    """Evaluate the tensors. Returns None if that takes too many evaluations, or fails."""
    if sum(map(points, needed(made, ()))) > MOST_POINTS:
        return None
    try:
        return evaluate(made, {}, {})
    except (SardonyxError, Unsupported):
        return None


def points(t: Tensor) -> int:
    """Estimate how many times an expression is evaluated to compute t; more than MOST_POINTS if sizes are unknown."""
    dims = [*t.shape, *(s.extent for s in t.loops if s.extent is not None)]
    if t.region is not None or any(symbols(n) for n in dims):
        return MOST_POINTS + 1
    count = math.prod(n for n in dims if isinstance(n, int))
    if t.call is None:
        return count
    return INTERPRETED * (count + sum(map(points, t.call.inputs)))


def replace(node: ir.Node, results: Sequence[Array]) -> None:
    """Replace the node by initializers under its outputs' names."""
    graph = node.graph
    assert graph is not None
    for value, result in zip(node.outputs, results, strict=False):
        if not value.name:
            continue
        tensor = ir.Tensor(np.array(result, order="C", copy=None), value.dtype, name=value.name)
        constant = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(result.shape), const_value=tensor)
        value.replace_all_uses_with(constant, replace_graph_outputs=True)
        graph.register_initializer(constant)
    graph.remove(node, safe=True)
