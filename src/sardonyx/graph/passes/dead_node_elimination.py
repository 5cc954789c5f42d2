"""What nobody reads is taken out.

1. a node none of whose outputs is read
2. an optional output that is not read: its name is taken away, or it is cut off at the end
3. an initializer that nobody reads, unless it is an input as well

Inputs that are left out stay where the operator counts them: a Loop has two before its state, given or not.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common

from sardonyx.graph.schemas import schema_of


def eliminate_dead_nodes(model: ir.Model) -> bool:
    before = named_outputs(model)
    modified = bool(ir.passes.common.RemoveUnusedNodesPass()(model).modified)
    restore_empty_inputs(model)
    return modified or named_outputs(model) < before


def named_outputs(model: ir.Model) -> int:
    """How many outputs of nodes have a name: the pass does not say where it takes one away."""
    return sum(bool(value.name) for node in ir.traversal.RecursiveGraphIterator(model.graph) for value in node.outputs)


def restore_empty_inputs(model: ir.Model) -> None:
    """Gives each node at least as many inputs as its schema asks for: the pass above cuts off empty ones at the end."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        schema = schema_of(node, model.opset_imports)
        if schema is not None and len(node.inputs) < schema.min_input:
            node.resize_inputs(schema.min_input)
