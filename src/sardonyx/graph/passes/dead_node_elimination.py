"""Removes what is not used.

1. a node none of whose outputs is used
2. an optional output that is not used: its name is removed, or the output itself if it is the last
3. an initializer that is not used, unless it is an input as well

Absent inputs remain where the operator counts them: a Loop has two inputs before its state, absent or not.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common

from sardonyx.graph.schemas import schema_of


def eliminate_dead_nodes(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 to 3) to the whole model. Returns whether it changed."""
    before = named_outputs(model)
    modified = bool(ir.passes.common.RemoveUnusedNodesPass()(model).modified)
    restore_empty_inputs(model)
    return modified or named_outputs(model) < before


def named_outputs(model: ir.Model) -> int:
    """Count the outputs of nodes that have a name, because onnx_ir's pass does not say whether it removed one."""
    return sum(bool(value.name) for node in ir.traversal.RecursiveGraphIterator(model.graph) for value in node.outputs)


def restore_empty_inputs(model: ir.Model) -> None:
    """Give each node at least as many inputs as its schema demands: onnx_ir's pass removes absent ones at the end."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        schema = schema_of(node, model.opset_imports)
        if schema is not None and len(node.inputs) < schema.min_input:
            node.resize_inputs(schema.min_input)
