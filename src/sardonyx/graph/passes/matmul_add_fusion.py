"""Fuses a matrix product and the addition of a row into one Gemm.

1. Add(MatMul(a, b), c) -> Gemm(a, b, c)

a and b are known to have two axes; c is one number, or one row of a known size that fits. The rule applies only if no other node
reads the product.
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.graph.passes.rewrite import only_reader, rank_of, size_of

FIRST_OPSET = 7  # from this opset on Gemm broadcasts c
FIRST_OPSET_FOR_INTEGERS = 9
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def fuse_matmul_add(model: ir.Model) -> bool:
    """Apply the rules at the head of this file to the whole model. Returns whether it changed."""
    opset = model.opset_imports.get("", 1)
    if opset < FIRST_OPSET:
        return False
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type == "MatMul" and [rank_of(value) for value in node.inputs] == [2, 2]:
            if node.outputs[0].dtype not in _FLOATS and opset < FIRST_OPSET_FOR_INTEGERS:
                continue
            changed |= fuse(node)
    return changed


def fuse(node: ir.Node) -> bool:
    """Apply rule 1 to a MatMul of matrices. Returns whether it applied."""
    product = node.outputs[0]
    reader = only_reader(product)
    if reader is None or reader.op_type != "Add" or reader.domain != "":
        return False
    row = reader.inputs[1] if reader.inputs[0] is product else reader.inputs[0]
    if row is None or row is product or not is_row(row, product):
        return False
    graph = node.graph
    assert graph is not None
    gemm = ir.node("Gemm", [*node.inputs, row], name=node.name)
    ir.convenience.replace_nodes_and_values(graph, reader, [reader, node], [gemm], reader.outputs, gemm.outputs)
    return True


def is_row(value: ir.Value, product: ir.Value) -> bool:
    """Return whether the value can be added to every row of the product without broadcasting it: shape [n], [1, n], [1], [1, 1] or
    [].
    """
    rank = rank_of(value)
    if rank is None or rank > 2 or (rank == 2 and size_of(value, 0) != 1):
        return False
    width = size_of(value, -1) if rank else 1
    return width == 1 or (width is not None and width == size_of(product, -1))
