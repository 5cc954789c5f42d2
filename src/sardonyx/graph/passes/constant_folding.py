"""What can be computed from constants alone is computed now.

1. f(constants...) -> constants
2. Shape(x) -> constant, where all sizes that it asks for are fixed
3. Size(x)  -> constant, where all sizes are fixed

f is deterministic, has no graphs as attributes, takes and gives tensors of numbers. Budgets keep a hostile model from using up memory
or time: the sizes of f's outputs are inferred before anything is computed and must be known, one node may handle LARGEST bytes, all
together TOTAL bytes in SECONDS. (De)QuantizeLinear stays: what quantised operators are made of must remain to be seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from sardonyx.base.context import QUIET
from sardonyx.base.dtypes import BY_CODE
from sardonyx.base.errors import Unsupported
from sardonyx.graph import schemas
from sardonyx.graph.constants import Array
from sardonyx.graph.inference import ERRORS
from sardonyx.graph.passes.rewrite import tensor_of
from sardonyx.graph.types import tensor_dtype

LARGEST = 1 << 20
TOTAL = 1 << 26
SECONDS = 2.0
SHOWN = 1024  # bytes of an input whose values are shown to the inference of sizes
QUICK = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
KEPT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


class Budget:
    """What folding may still use."""

    def __init__(self) -> None:
        self.bytes = TOTAL
        self.deadline = time.monotonic() + SECONDS

    def allows(self, count: int) -> bool:
        """May so many bytes be handled? Takes them off if so."""
        if count > min(LARGEST, self.bytes) or time.monotonic() > self.deadline:
            return False
        self.bytes -= count
        return True


def fold_constants(model: ir.Model) -> bool:
    changed = False
    budget = Budget()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type in ("Shape", "Size") and (result := fixed_sizes(node)) is not None:
            results: list[Array] | None = [result]
        else:
            results = fold_node(node, model.opset_imports, budget)
        if results:
            replace(node, results)
            changed = True
    return changed


def fixed_sizes(node: ir.Node) -> Array | None:
    """Rules 2 and 3: i64."""
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(value.shape))
    sizes = value.shape.dims[slice(start, end)]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return np.array(sizes if node.op_type == "Shape" else math.prod(sizes), np.int64)


def fold_node(node: ir.Node, imports: Mapping[str, int], budget: Budget) -> list[Array] | None:
    """Rule 1: the node's outputs; None if it is not to be folded."""
    schema = schemas.schema_of(node, imports)
    tensors = [tensor_of(value) for value in node.inputs]
    if schema is None or not schema.deterministic or not node.inputs or node.op_type in KEPT:
        return None
    if any(value is not None and tensor is None for value, tensor in zip(node.inputs, tensors, strict=True)):
        return None
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return None
    if any(tensor is not None and tensor.dtype == ir.DataType.STRING for tensor in tensors):
        return None
    read = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if read > LARGEST or (written := output_bytes(node, schema, tensors, imports)) is None:
        return None
    return evaluate(node, imports, tensors) if budget.allows(read + written) else None


def output_bytes(
    node: ir.Node, schema: schemas.Schema, tensors: list[ir.TensorProtocol | None], imports: Mapping[str, int]
) -> int | None:
    """Bytes of the node's outputs, if all are tensors of numbers whose sizes can be inferred."""
    known = {
        str(value.name): (ir.serde.serialize_tensor(tensor), tensor)
        for value, tensor in zip(node.inputs, tensors, strict=True)
        if value is not None and tensor is not None
    }
    types = {
        name: onnx.helper.make_tensor_type_proto(int(tensor.dtype), tensor.shape.numpy()) for name, (_, tensor) in known.items()
    }
    data = {name: proto for name, (proto, tensor) in known.items() if tensor.nbytes <= SHOWN}
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in imports.items()]
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema.raw, ir.serde.serialize_node(node), types, data, opset_imports=opsets
        )
    except ERRORS:
        return None
    total = 0
    for value in node.outputs:
        count = byte_count(inferred.get(value.name)) if value.name else 0
        if count is None:
            return None
        total += count
    return total


def byte_count(found: onnx.TypeProto | None) -> int | None:
    """Bytes of a tensor of this type, if it is one of numbers and its sizes are known."""
    if found is None or not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        return None
    dtype = BY_CODE.get(found.tensor_type.elem_type)
    sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in found.tensor_type.shape.dim]
    if dtype is None or dtype.kind == "string" or min(sizes, default=0) < 0:
        return None
    return math.prod(sizes) * dtype.itemsize


def evaluate(node: ir.Node, imports: Mapping[str, int], tensors: list[ir.TensorProtocol | None]) -> list[Array] | None:
    """The node's outputs; None if it fails, which it then does when the model is run."""
    inputs = [tensor.numpy() if tensor is not None else None for tensor in tensors]
    if (quick := quick_result(node, inputs)) is not None:
        return [quick]
    from sardonyx.graph.reference.interpreter import KERNEL_ERRORS, Interpreter, conform
    from sardonyx.graph.reference.kernels import kernel_for

    try:
        results = kernel_for(node, imports, {}, Interpreter)(inputs, QUIET)
    except (Unsupported, *KERNEL_ERRORS):
        return None
    dtypes = [tensor_dtype(value) for value in node.outputs]
    return [np.asarray(conform(result, dtype)) for result, dtype in zip(results, dtypes, strict=False)]


def quick_result(node: ir.Node, inputs: list[Array | None]) -> Array | None:
    """The output of what exporters compute sizes with, on i64; None for anything else.

    It spares most models the import of onnx.reference, which takes longer than all that they fold.
    """
    numbers = [array for array in inputs if array is not None and array.dtype == np.int64]
    if node.domain != "" or len(numbers) < len(node.inputs):
        return None
    if node.op_type == "ConstantOfShape" and (numbers[0] >= 0).all():
        fill = node.attributes["value"].as_tensor().numpy() if "value" in node.attributes else np.zeros(1, np.float32)
        return np.full(tuple(numbers[0]), fill.reshape(()), fill.dtype) if fill.size == 1 and numbers[0].ndim == 1 else None
    if node.op_type not in QUICK or node.attributes or len(numbers) != 2:  # an attribute: broadcasting as it was before version 7
        return None
    left, right = numbers
    return np.asarray(QUICK[node.op_type](left, right)) if left.shape == right.shape or 1 in (left.size, right.size) else None


def replace(node: ir.Node, results: list[Array]) -> None:
    """Puts initializers, under the outputs' names, in the node's place."""
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
