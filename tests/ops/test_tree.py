"""Ensembles of trees that are wrong are refused before anything runs; sets of members; what goes where for NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from sardonyx.ops.cases import reals
from tests.ops import harness

X = reals(6, 2)
STUMP: dict[str, Any] = {
    "n_targets": 1,
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_featureids": [1, 0, 0],
    "nodes_values": [0.1, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "target_treeids": [0, 0],
    "target_nodeids": [1, 2],
    "target_ids": [0, 0],
    "target_weights": [1.0, 2.0],
}


def regress(x: harness.Array, **changes: Any) -> harness.Array:
    (y,) = harness.run("TreeEnsembleRegressor", [x], STUMP | changes, domain="ai.onnx.ml", version=3)
    return y


def test_stump() -> None:
    np.testing.assert_array_equal(regress(X), np.where(X[:, 1:] <= np.float32(0.1), 1, 2))


@pytest.mark.parametrize(("tracks", "expected"), [([1, 0, 0], 1), ([0, 0, 0], 2)])
def test_nan_goes_where_it_is_told_to(tracks: list[int], expected: float) -> None:
    x = np.full((1, 2), np.nan, np.float32)
    assert regress(x, nodes_missing_value_tracks_true=tracks).item() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_truenodeids": [7, 0, 0]}, "branch to a missing node"),
        ({"nodes_modes": ["BRANCH_SIDEWAYS", "LEAF", "LEAF"]}, "unknown modes"),
        ({"nodes_values": [0.1, 0.0]}, "differ in length"),
        ({"nodes_featureids": [-1, 0, 0]}, "negative feature"),
        ({"nodes_featureids": [2, 0, 0]}, "more features than 2"),
        ({"target_ids": [0, 1]}, "outside the 1 targets"),
        ({"target_ids": [0, 1 << 32]}, "outside the 1 targets"),
        ({"nodes_nodeids": [0, 1, 1]}, "have the same id"),
        ({"nodes_featureids": [(1 << 32) + 1, 0, 0]}, "more features than 2"),
        ({"nodes_treeids": [0, 0, 9]}, "branch to a missing node"),
        ({"target_nodeids": [1, 0]}, "not a leaf"),
        ({"target_nodeids": [1, 9]}, "not a leaf"),
        ({"target_weights": [1.0]}, "votes whose attributes differ"),
        ({"aggregate_function": "MEDIAN"}, "MEDIAN"),
    ],
)
def test_malformed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Fail, match=message):
        regress(X, **changes)


RING: dict[str, Any] = {
    "n_targets": 1,
    "tree_roots": [0],
    "nodes_modes": np.zeros(2, np.uint8),
    "nodes_featureids": [0, 0],
    "nodes_splits": np.zeros(2, np.float32),
    "nodes_truenodeids": [1, 0],
    "nodes_trueleafs": [0, 0],
    "nodes_falsenodeids": [0, 0],
    "nodes_falseleafs": [1, 1],
    "leaf_targetids": [0],
    "leaf_weights": np.ones(1, np.float32),
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "cycle"),
        ({"nodes_truenodeids": [1, 1 << 32]}, "branch to a missing node"),
        ({"tree_roots": [2]}, "branch to a missing node"),
        ({"nodes_splits": np.zeros((2, 1), np.float32)}, "must be 1D"),
        ({"leaf_weights": np.ones(0, np.float32)}, "must have same length"),
    ],
)
def test_malformed_links(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Fail, match=message):
        harness.run("TreeEnsemble", [X], RING | changes, domain="ai.onnx.ml", version=5)


def test_two_classes_that_both_have_votes() -> None:
    """The greater one wins."""
    attributes = {k.replace("target", "class"): v for k, v in STUMP.items() if k != "n_targets"}
    votes = {
        "class_treeids": [0] * 4,
        "class_nodeids": [1, 1, 2, 2],
        "class_ids": [0, 1, 0, 1],
        "class_weights": [0.7, 0.3, 0.1, 0.9],
    }
    label, scores = harness.run(
        "TreeEnsembleClassifier",
        [X],
        attributes | votes | {"classlabels_int64s": [4, 9]},
        domain="ai.onnx.ml",
        version=3,
        outputs=2,
    )
    np.testing.assert_array_equal(label, np.where(X[:, 1] <= np.float32(0.1), 4, 9))
    np.testing.assert_allclose(scores.sum(1), 1, 1e-6)


def test_a_class_without_a_vote_is_never_the_best() -> None:
    """Its score is 0, which is more than those that have votes."""
    attributes = {k.replace("target", "class"): v for k, v in STUMP.items() if k != "n_targets"}
    votes = {"class_ids": [0, 2], "class_weights": [-1.0, -2.0], "classlabels_int64s": [4, 9, 6]}
    label, scores = harness.run("TreeEnsembleClassifier", [X], attributes | votes, domain="ai.onnx.ml", version=3, outputs=2)
    first = X[:, 1] <= np.float32(0.1)
    np.testing.assert_array_equal(label, np.where(first, 4, 6))
    np.testing.assert_array_equal(scores, np.where(first[:, None], [[-1, 0, 0]], [[0, 0, -2]]))


def test_no_classes() -> None:
    attributes = {k.replace("target", "class"): v for k, v in STUMP.items() if k != "n_targets"}
    votes: dict[str, Any] = {f"class_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    with pytest.raises(Fail, match="classlabels_strings is set"):
        harness.run("TreeEnsembleClassifier", [X], attributes | votes, domain="ai.onnx.ml", version=3, outputs=2)


@pytest.mark.parametrize(
    ("code", "transform"), list(enumerate((lambda s: s, np.ones_like, lambda s: 1 / (1 + np.exp(-s)), np.ones_like)))
)
def test_one_target_of_the_standards_ensemble_is_transformed_too(code: int, transform: Callable[[Any], Any]) -> None:
    """Of TreeEnsembleRegressor onnxruntime leaves it as it is; TreeEnsemble is the standard's."""
    stump = RING | {"nodes_truenodeids": [0], "nodes_falsenodeids": [1], "nodes_trueleafs": [1], "nodes_falseleafs": [1]}
    stump |= {"nodes_featureids": [1], "nodes_modes": np.zeros(1, np.uint8), "nodes_splits": np.array([0.1], np.float32)}
    stump |= {"leaf_targetids": [0, 0], "leaf_weights": np.array([2.0, -3.0], np.float32), "post_transform": code}
    (got,) = harness.run("TreeEnsemble", [X], stump, domain="ai.onnx.ml", version=5)
    scores = np.where(X[:, 1] <= np.float32(0.1), 2.0, -3.0)[:, None].astype(np.float32)
    np.testing.assert_allclose(got, transform(scores), 1e-6)
