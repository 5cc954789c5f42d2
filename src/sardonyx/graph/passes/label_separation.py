"""Classifiers whose labels are strings give the places of the labels, and a table gives the labels.

1. TreeEnsembleClassifier, LinearClassifier, SVMClassifier with labels s0, s1, ... -> the same with labels 0, 1, ...; LabelEncoder

So all that is computed is numbers, and strings are looked up once, at the end. In bodies too.
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
"""{operator: the attribute that holds labels which are numbers}"""
LEAST = 2  # labels: of one label runtimes make two, one of them their own


def separate_labels(model: ir.Model) -> bool:
    """Rule 1."""
    found = [
        node
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.domain == ML and node.op_type in CLASSIFIERS and len(strings_of(node)) >= LEAST
    ]
    for node in found:
        separate(node, version_of(node, model.opset_imports) or 1)
    return bool(found)


def strings_of(node: ir.Node) -> list[str]:
    """The node's labels, if they are strings."""
    attribute = node.attributes.get(STRINGS)
    return list(attribute.as_strings()) if attribute is not None else []


def separate(node: ir.Node, version: int) -> None:
    """Makes the node give places, and a LabelEncoder after it the labels, under the name that they had."""
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
