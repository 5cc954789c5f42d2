"""Nodes whose inputs or attributes have a form that the operator does not take are refused as Fail, by what they are; none raises what
Python raises. `fuzz/nodes.py` draws such nodes for all operators; here stand those that it found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail, SardonyxError
from tests.ops import harness

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SCALAR = np.float32(1)
IMAGE = np.ones((1, 4, 3, 3), np.float32)
ML = "ai.onnx.ml"
SVM = {"coefficients": [1.0, 2.0], "kernel_type": "LINEAR", "rho": [0.5], "support_vectors": [1.0] * 6}
CLASSES = {**SVM, "classlabels_ints": [0, 1], "vectors_per_class": [1, 1]}


def whole(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.int64)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("Pad", [X, whole(2, 2)], {}),
        ("Pad", [X, whole()], {}),
        ("Tile", [X, whole(2, 1)], {}),
        ("Reshape", [X, whole(2, 2)], {}),
        ("Expand", [X, whole(1, 2)], {}),
        ("ConstantOfShape", [whole()], {}),
        ("Split", [X, whole(1, 2)], {}),
        ("CenterCropPad", [X, whole(3)], {}),
        ("CenterCropPad", [SCALAR, whole(2)], {}),
        ("TopK", [X, whole(2)], {}),
        ("OneHot", [whole(2), whole(2), X[0, :2]], {}),
        ("CumSum", [X, whole(2)], {}),
        ("CumSum", [SCALAR, np.array(0)], {}),
        ("HannWindow", [whole(2)], {}),
        ("HannWindow", [np.array(5)], {"output_datatype": 0}),
        ("HannWindow", [np.array(5)], {"output_datatype": 8}),
        ("STFT", [np.ones((1, 8, 1), np.float32), whole(2), None, np.array(4)], {}),
        ("ReduceSum", [X, whole(1, 1)], {}),
        ("Unsqueeze", [X, np.arange(100)], {}),
        ("Unsqueeze", [X, whole(1, 1)], {}),
        ("Transpose", [X], {"perm": [0, 0]}),
        ("MatMul", [SCALAR, X], {}),
        ("LayerNormalization", [X, X[0]], {"stash_type": 0}),
        ("GroupNormalization", [IMAGE, IMAGE[0, :, 0, 0], IMAGE[0, :, 0, 0]], {"num_groups": 0}),
        ("GroupNormalization", [X[0], X[0], X[0]], {"num_groups": 1}),
        ("LRN", [X[0]], {"size": 1}),
        ("LRN", [IMAGE], {"size": 0}),
        ("GlobalLpPool", [IMAGE], {"p": 0}),
        ("NonMaxSuppression", [X, X], {}),
        ("SoftmaxCrossEntropyLoss", [X[0], whole()], {}),
        ("ScatterElements", [X, whole(1, 1), X[0, :1]], {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_operators_of_the_standard(
    name: str, inputs: list[np.ndarray[Any, Any] | None], attributes: dict[str, Any], symbolic: bool
) -> None:
    for known in ((), range(1, len(inputs))):
        with pytest.raises((SardonyxError, harness.NotCompiled)) as refused:
            harness.run(name, inputs, attributes, known=known, symbolic=symbolic)
        assert not getattr(refused.value, "defect", False), refused.value


def test_a_transform_of_nothing() -> None:
    with pytest.raises(Fail, match="DFT along an empty axis"):
        harness.run("DFT", [np.zeros((1, 0, 1), np.float32)])


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("LinearRegressor", [X], {}),
        ("LinearRegressor", [X], {"coefficients": [1.0, 2.0, 3.0], "targets": 2}),
        ("LinearClassifier", [X], {"coefficients": [1.0] * 4, "classlabels_ints": [0, 1, 2]}),
        ("LinearClassifier", [IMAGE], {"coefficients": [1.0] * 3}),
        ("SVMRegressor", [X], {}),
        ("SVMRegressor", [X], {**SVM, "n_supports": -1}),
        ("SVMRegressor", [X], {**SVM, "n_supports": 4}),
        ("SVMRegressor", [X], {**SVM, "n_supports": 2, "rho": []}),
        ("SVMRegressor", [X], {**SVM, "n_supports": 3}),
        ("SVMClassifier", [X], {**CLASSES, "classlabels_ints": [], "vectors_per_class": []}),
        ("SVMClassifier", [X], {**CLASSES, "vectors_per_class": [2, -1]}),
        ("SVMClassifier", [X], {**CLASSES, "rho": []}),
        ("SVMClassifier", [X], {**CLASSES, "coefficients": [1.0]}),
        ("SVMClassifier", [X], {**CLASSES, "prob_a": [1.0], "prob_b": []}),
        ("FeatureVectorizer", [X, X], {"inputdimensions": [3]}),
        ("FeatureVectorizer", [SCALAR], {}),
        ("Imputer", [X.astype(np.int32)], {"imputed_value_int64s": [2**32]}),
        ("Imputer", [SCALAR], {"imputed_value_floats": [1.0, 2.0]}),
        ("Normalizer", [SCALAR], {}),
        ("ArrayFeatureExtractor", [SCALAR, whole(1)], {}),
    ],
    ids=str,
)
def test_operators_of_ml(name: str, inputs: list[np.ndarray[Any, Any]], attributes: dict[str, Any]) -> None:
    with pytest.raises(SardonyxError) as refused:
        harness.run(name, inputs, attributes, domain=ML, version=1, outputs=1 + name.endswith("Classifier"))
    assert isinstance(refused.value, Fail)
    assert not getattr(refused.value, "defect", False), refused.value
