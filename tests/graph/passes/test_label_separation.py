"""Rule 1: the classifier gives places, a table the labels, under the old names; nothing happens to other classifiers."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from sardonyx.graph import onnx_ir as ir
from sardonyx.graph.passes.label_separation import separate_labels

ATTRIBUTES = {
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
    "TreeEnsembleClassifier": "classlabels_int64s",
}


def model(operator: str, version: int, **attributes: Any) -> ir.Model:
    node = helper.make_node(operator, ["x"], ["label", "scores"], domain="ai.onnx.ml", **attributes)
    use = helper.make_node("Identity", ["label"], ["again"])
    names = [("label", TensorProto.STRING), ("scores", TensorProto.FLOAT), ("again", TensorProto.STRING)]
    outputs = [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in names]
    graph = helper.make_graph([node, use], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])], outputs)
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", version)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets))


@pytest.mark.parametrize("operator", ATTRIBUTES)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_labels_are_looked_up_after_the_classifier(operator: str, version: int):
    made = model(operator, version, classlabels_strings=["b", "a"], coefficients=[1.0, 2.0])
    assert separate_labels(made)
    classifier, lookup, reader = made.graph
    assert ATTRIBUTES[operator] in classifier.attributes
    assert list(classifier.attributes[ATTRIBUTES[operator]].as_ints()) == [0, 1]
    assert "classlabels_strings" not in classifier.attributes
    assert lookup.op_type == "LabelEncoder"
    assert lookup.inputs[0] is classifier.outputs[0]
    assert classifier.outputs[0].dtype == ir.DataType.INT64
    assert reader.inputs[0] is lookup.outputs[0]
    assert [value.name for value in made.graph.outputs] == ["label", "scores", "again"]
    assert made.graph.outputs[0] is lookup.outputs[0]
    assert made.graph.outputs[0].dtype == ir.DataType.STRING
    strings = lookup.attributes["classes_strings" if version == 1 else "values_strings"].as_strings()
    assert list(strings) == ["b", "a"]
    assert not separate_labels(made)


@pytest.mark.parametrize("attributes", [{"classlabels_strings": ["only"]}, {"classlabels_ints": [3, 4]}, {}])
def test_other_classifiers_stay(attributes: dict[str, Any]):
    made = model("LinearClassifier", 1, coefficients=[1.0, 2.0], **attributes)
    assert not separate_labels(made)
    assert len(made.graph) == 2
