"""Removes Identity nodes.

1. Identity(x) -> x
2. Identity(x) as a graph's output -> x, which takes the output's name; only if a node of that graph makes x, and x is no output
itself
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.graph.passes.rewrite import bypass


def eliminate_identities(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 and 2) to the whole model. Returns whether it changed."""
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type == "Identity" and node.inputs[0] is not None:
            changed |= bypass(node, node.inputs[0])
    return changed
