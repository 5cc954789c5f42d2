"""Removes Dropout nodes that drop nothing.

1. Dropout(x), before opset 12, where it has no training flag -> x
2. Dropout(x, ratio, training) where training is absent or false -> x

The rules don't apply if the mask is used.
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.graph.passes.rewrite import bypass, tensor_of


def eliminate_dropouts(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 and 2) to the whole model. Returns whether it changed."""
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type == "Dropout" and node.inputs[0] is not None and is_idle(node):
            changed |= bypass(node, node.inputs[0])
    return changed


def is_idle(node: ir.Node) -> bool:
    """Return whether the training flag is known to be false."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    flag = tensor_of(node.inputs[2])
    return flag is not None and not flag.numpy().any()
