"""Identity is taken out.

1. Identity(x) -> x
2. Identity(x) as a graph's output -> x, which takes the output's name; only where x is made by a node of that graph and is no
   output itself
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.graph.passes.rewrite import bypass


def eliminate_identities(model: ir.Model) -> bool:
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type == "Identity" and node.inputs[0] is not None:
            changed |= bypass(node, node.inputs[0])
    return changed
