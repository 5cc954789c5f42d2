"""Splits classifiers whose labels are strings into a classifier with integer labels and a table of the strings.

1. TreeEnsembleClassifier, LinearClassifier, SVMClassifier with labels s0, s1, ... -> the same with labels 0, 1, ...; LabelEncoder

So the classifier can be compiled, and strings are looked up once, at the end. The rule also applies in bodies.
"""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.graph.schemas import ML, version_of

STRINGS = "classlabels_strings"
CLASSIFIERS = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}
"""{operator: its attribute for integer labels}"""
LEAST = 2  # labels; for a single label runtimes add a second one of their own, so that case is not rewritten


def separate_labels(model: ir.Model) -> bool:
    """Apply the rules at the head of this file to the whole model. Returns whether it changed."""
    found = [
        node
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.domain == ML and node.op_type in CLASSIFIERS and len(strings_of(node)) >= LEAST
    ]
    for node in found:
        separate(node, version_of(node, model.opset_imports) or 1)
    return bool(found)


def strings_of(node: ir.Node) -> list[str]:
    """Return the node's labels if they are strings, else an empty list."""
    attribute = node.attributes.get(STRINGS)
    return list(attribute.as_strings()) if attribute is not None else []


def separate(node: ir.Node, version: int) -> None:
    """Make the node return indices of labels, and append a LabelEncoder that returns the labels under the original name."""
    labels, label, graph = strings_of(node), node.outputs[0], node.graph
    assert graph is not None
    node.attributes.pop(STRINGS)
    places = list(range(len(labels)))
    node.attributes[CLASSIFIERS[node.op_type]] = ir.AttrInt64s(CLASSIFIERS[node.op_type], places)
    if version == 1:
        table = [ir.AttrStrings("classes_strings", labels)]
    else:
        table = [ir.AttrInt64s("keys_int64s", places), ir.AttrStrings("values_strings", labels)]
    lookup = ir.Node(ML, "LabelEncoder", [None], table, name=f"{node.name or node.op_type}_labels")
    result, name = lookup.outputs[0], label.name
    result.type, result.shape = label.type, label.shape
    label.replace_all_uses_with(result, replace_graph_outputs=True)
    label.name, label.type = f"{name}_place", ir.TensorType(ir.DataType.INT64)
    result.name = name
    lookup.replace_input_with(0, label)
    graph.insert_after(node, lookup)
