"""TreeEnsembleRegressor and TreeEnsembleClassifier in numpy: all rows walk through all trees at once, one level in each iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.ops.reference.arrays import Array
from sardonyx.ops.reference.ml import TRANSFORMS, class_labels, second_class

MODES = {
    "BRANCH_LEQ": np.less_equal,
    "BRANCH_LT": np.less,
    "BRANCH_GTE": np.greater_equal,
    "BRANCH_GT": np.greater,
    "BRANCH_EQ": np.equal,
    "BRANCH_NEQ": np.not_equal,
}


class Trees(Struct, frozen=True):
    """The nodes of all trees in one table. `modes`: names of comparisons, LEAF for leaves; `left`: the child taken if the
    comparison is true.
    """

    roots: Array
    modes: Array
    features: Array
    values: Array
    left: Array
    right: Array
    missing_true: Array
    places: dict[tuple[int, int], int]

    def leaves(self, x: Array) -> Array:
        """Return the leaf that each row reaches in each tree. x: f[n, features] -> i64[n, trees]. Raises ValueError if the nodes
        form a cycle.
        """
        at = np.tile(self.roots, (len(x), 1))
        rows = np.arange(len(x))[:, None]
        for _ in range(len(self.modes) + 1):
            modes = self.modes[at]
            inner = modes != "LEAF"
            if not inner.any():
                return at
            value, limit = x[rows, np.where(inner, self.features[at], 0)], self.values[at]
            true = np.isnan(value) & self.missing_true[at]
            for name, compare in MODES.items():
                true |= (modes == name) & compare(value, limit)
            at = np.where(inner, np.where(true, self.left[at], self.right[at]), at)
        raise ValueError("the nodes of a tree lead in a circle")


def make_trees(a: dict[str, Any]) -> Trees:
    """Make the table from an operator's attributes. Raises ValueError for a child that does not exist."""
    trees, nodes = a["nodes_treeids"], a["nodes_nodeids"]
    places = {key: place for place, key in enumerate(zip(trees, nodes, strict=True))}
    modes = np.array(a["nodes_modes"], object)

    def follow(name: str) -> Array:
        keys = zip(trees, a[name], strict=True)
        found = [places.get(key, -1) if mode != "LEAF" else 0 for key, mode in zip(keys, modes, strict=True)]
        if min(found, default=0) < 0:
            raise ValueError(f"{name} names a node that isn't there")
        return np.array(found, np.int64)

    firsts: dict[int, int] = {}
    for place, tree in enumerate(trees):
        firsts.setdefault(tree, place)
    tensor = a.get("nodes_values_as_tensor")
    missing = a.get("nodes_missing_value_tracks_true") or [0] * len(modes)
    return Trees(
        roots=np.array(list(firsts.values()), np.int64),
        modes=modes,
        features=np.array(a["nodes_featureids"], np.int64),
        values=np.array(a["nodes_values"], np.float32) if tensor is None else np.asarray(tensor),
        left=follow("nodes_truenodeids"),
        right=follow("nodes_falsenodeids"),
        missing_true=np.array(missing, bool),
        places=places,
    )


def gathered(x: Array, a: dict[str, Any], kind: str, columns: int) -> tuple[Array, Array]:
    """Return the weights of the leaves that rows reach: f64[n, trees, columns], and whether a leaf has a weight for the column."""
    trees = make_trees(a)
    tensor = a.get(f"{kind}_weights_as_tensor")
    weights = a[f"{kind}_weights"] if tensor is None else np.asarray(tensor).tolist()
    table = np.zeros((len(trees.modes), columns))
    there = np.zeros((len(trees.modes), columns), bool)
    keys = zip(a[f"{kind}_treeids"], a[f"{kind}_nodeids"], strict=True)
    for key, column, weight in zip(keys, a[f"{kind}_ids"], weights, strict=True):
        table[trees.places[key], column] += weight
        there[trees.places[key], column] = True
    leaves = trees.leaves(x if x.dtype.kind == "f" else x.astype(np.float32))
    return table[leaves], there[leaves]


def base_of(a: dict[str, Any]) -> Array:
    """Return the base values, as float64."""
    tensor = a.get("base_values_as_tensor")
    return np.array(a.get("base_values") or (), np.float64) if tensor is None else np.asarray(tensor, np.float64)


def regressor(x: Array, *, n_targets: int, aggregate_function: str = "SUM", post_transform: str = "NONE", **a: Any) -> Array:
    """Compute TreeEnsembleRegressor: the sum, average, minimum or maximum of the leaves' weights. x: T[n, f] -> f32[n, n_targets]"""
    weights, there = gathered(x, a, "target", n_targets)
    if aggregate_function in ("MIN", "MAX"):
        worst = np.inf if aggregate_function == "MIN" else -np.inf
        reduce = np.min if aggregate_function == "MIN" else np.max
        scores = reduce(np.where(there, weights, worst), axis=1)
        scores = np.where(there.any(1), scores, 0)
    else:
        scores = weights.sum(1)
        if aggregate_function == "AVERAGE":
            scores = scores / weights.shape[1]
    base = base_of(a)
    return np.asarray(TRANSFORMS[post_transform](scores + base if base.size else scores), np.float32)


def classifier(
    x: Array,
    *,
    classlabels_int64s: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    post_transform: str = "NONE",
    **a: Any,
) -> tuple[Array, Array]:
    """Compute TreeEnsembleClassifier. x: T[n, f] -> labels [n], scores f32[n, classes]

    If there are two classes and all weights are for one of them, their sum is the second class's score. It selects the second class
    above 0.5 if no weight is negative, else above 0.
    """
    labels = class_labels(classlabels_strings, classlabels_int64s)
    ids = set(a["class_ids"])
    scores = gathered(x, a, "class", max(len(labels), max(ids) + 1))[0].sum(1)
    base = base_of(a)
    if len(labels) == 2 and len(ids) == 1:
        return binary(scores[:, ids.pop()], base, labels, a, post_transform)
    scores = scores + base if base.size else scores
    return labels[scores.argmax(1)], TRANSFORMS[post_transform](scores).astype(np.float32)


def binary(score: Array, base: Array, labels: Array, a: dict[str, Any], post_transform: str) -> tuple[Array, Array]:
    """Return labels and scores where all weights are for one of two classes."""
    if base.size:
        score = score + base[-1]
    weights = a.get("class_weights_as_tensor")
    positive = bool((np.asarray(a["class_weights"] if weights is None else weights) >= 0).all())
    label = labels[(score.astype(np.float32) > (0.5 if positive else 0)).astype(int)]
    return label, second_class(score, post_transform, centred=not positive)
