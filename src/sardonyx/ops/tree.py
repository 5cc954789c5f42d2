"""Ensembles of decision trees: TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier. Their attributes become a Forest, which
tree_walk.py evaluates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from sardonyx.base.dtypes import DType, boolean, f32, f64, i64
from sardonyx.base.errors import Fail
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.ops.cases import reals
from sardonyx.ops.ml import DOMAIN, as_rows, best, compute_dtype, labelled, transformed, two_columns, whole_labels
from sardonyx.ops.pointwise import add, cast, pointwise, view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reference import trees
from sardonyx.ops.tree_walk import AGGREGATES, COMPARISONS, Forest, distinct, walked

Array = npt.NDArray[Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
"""Comparisons of nodes, in the order of TreeEnsemble's numbers for them."""
MEMBER = 6
"""TreeEnsemble's number for membership in a set of values."""
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""post_transform, in the order of TreeEnsemble's numbers for it."""


# ---- tables from attributes ------------------------------------------------------------------------------------------------------


class Names(Struct, frozen=True):
    """Index of nodes by (tree id, node id). keys: one number per node, sorted; order: the node that each key belongs to"""

    trees: Array
    ids: Array
    order: Array
    keys: Array

    @staticmethod
    def of(trees: Array, ids: Array) -> Names:
        """Index a list of nodes. Raises Fail if two nodes have equal ids in one tree."""
        empty = np.zeros(0, np.int64)
        known = Names(distinct(trees), distinct(ids), empty, empty)
        keys = known.key(trees, ids)
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            raise Fail("a tree ensemble in which two nodes of a tree have the same id")
        return replace(known, order=order, keys=keys[order])

    def key(self, trees: Array, ids: Array) -> Array:
        """Return one number for each (tree, id), or -1 if the tree or the id does not occur."""
        tree, own = rank(self.trees, trees), rank(self.ids, ids)
        return np.where((tree < 0) | (own < 0), -1, tree * len(self.ids) + own)

    def find(self, trees: Array, ids: Array) -> Array:
        """Return the index of each node (tree, id) among all nodes, -1 for none."""
        found = rank(self.keys, self.key(trees, ids))
        return np.where(found < 0, -1, np.append(self.order, -1)[found])


def rank(known: Array, values: Array) -> Array:
    """Return the position of each value in the sorted array `known`, -1 for values that are not in it."""
    place = np.searchsorted(known, values)
    return np.where(np.append(known, 0)[place] == values, np.where(place < len(known), place, -1), -1)


def forest_of(numbers: DType, nodes: dict[str, Any], votes: tuple[Array, Array, Array, Array]) -> Forest:
    """Make a Forest from the attributes before opset 5: inner nodes and leaves in one list, identified by (tree, node), and votes
    of leaves.

    Raises Fail for attributes that differ in length, unknown modes and missing children.
    """
    kinds = {name: k for k, name in enumerate((*MODES, "LEAF"))}
    unknown = set(nodes["modes"]) - kinds.keys()
    columns = {k: np.array(v, np.int64) for k, v in nodes.items() if k not in ("modes", "values")}
    count = len(nodes["modes"])
    if unknown or any(len(c) != count for c in (*columns.values(), nodes["values"])):
        raise Fail(f"trees with attributes that differ in length, or unknown modes {sorted(unknown)}")
    names = Names.of(columns["treeids"], columns["nodeids"])
    mode = np.array([kinds[m] for m in nodes["modes"]], np.uint8)
    is_leaf = mode == kinds["LEAF"]
    link = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)
    inner = {k: c[~is_leaf] for k, c in columns.items()}
    children = [names.find(inner["treeids"], inner[k]) for k in ("truenodeids", "falsenodeids")]
    is_root = np.ones(count, bool)
    for found in children:
        if (found < 0).any():
            raise Fail("a tree ensemble with a branch to a missing node")
        is_root[found] = False
    begin, target, weight = votes_by_leaf(numbers, names, link, int(is_leaf.sum()), votes)
    return Forest(
        feature=inner["featureids"],
        number=np.array(nodes["values"], numbers.numpy)[~is_leaf],
        mode=mode[~is_leaf],
        nan_is_true=inner["missing_value_tracks_true"] != 0,
        yes=link[children[0]],
        no=link[children[1]],
        roots=link[is_root],
        begin=begin,
        target=target,
        weight=weight,
    )


def votes_by_leaf(
    numbers: DType, names: Names, link: Array, leaves: int, votes: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Sort votes by leaf, and the votes of a leaf by target. Returns (begin, target, weight), where leaf k has the votes from
    begin[k] to begin[k + 1]

    Raises Fail for votes of a node that is not a leaf.
    """
    trees, ids, targets, weights = votes
    if len({len(trees), len(ids), len(targets), len(weights)}) > 1:
        raise Fail("votes whose attributes differ in length")
    found = names.find(trees, ids)
    leaf = -1 - link[found] if len(found) else found
    if (found < 0).any() or (leaf < 0).any():
        raise Fail("votes of a node that is not a leaf")
    order = np.lexsort((targets, leaf))
    begin = np.concatenate([[0], np.cumsum(np.bincount(leaf, minlength=leaves))]).astype(np.int32)
    return begin, targets[order], weights[order].astype(numbers.numpy)


def tensor_or(attributes: dict[str, Any], name: str) -> Array:
    """Return numbers that the model holds either in the attribute `name` (floats) or in `name_as_tensor` (perhaps doubles)."""
    tensor = attributes.get(f"{name}_as_tensor")
    return np.array(attributes.get(name) or [], np.float64) if tensor is None else tensor.ravel()


def node_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes_* attributes, under their names without the prefix."""
    names = ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids")
    out: dict[str, Any] = {n: attributes.get(f"nodes_{n}") or [] for n in names}
    missing = attributes.get("nodes_missing_value_tracks_true") or [0] * len(out["modes"])
    return out | {"missing_value_tracks_true": missing, "values": tensor_or(attributes, "nodes_values")}


def vote_attributes(attributes: dict[str, Any], prefix: str) -> tuple[Array, Array, Array, Array]:
    """Return (trees, nodes, targets, weights) of the votes."""
    trees, nodes, targets = (np.array(attributes.get(f"{prefix}_{n}") or [], np.int64) for n in ("treeids", "nodeids", "ids"))
    return trees, nodes, targets, tensor_or(attributes, f"{prefix}_weights")


def number_type(x: Tensor, attributes: dict[str, Any]) -> DType:
    """Return the dtype of scores: f64 if the features or the nodes' values are f64, else f32."""
    return f64 if attributes.get("nodes_values_as_tensor") is not None else compute_dtype(x.dtype)


# ---- the operators -------------------------------------------------------------------------------------------------------------


def tree_ensemble_regressor(x: Tensor, **attributes: Any) -> Tensor:
    """Compute TreeEnsembleRegressor: aggregate the votes of the leaves that a row reaches, and add base values. x: T[n, f] ->
    f32[n, n_targets]
    """
    rows = as_rows(x)
    numbers = number_type(x, attributes)
    forest = forest_of(numbers, node_attributes(attributes), vote_attributes(attributes, "target"))
    targets = attributes.get("n_targets", 1)
    total, _ = walked(rows, forest, targets, attributes.get("aggregate_function", "SUM"))
    base = tensor_or(attributes, "base_values")
    if len(base):
        total = add(total, constant(base.astype(numbers.numpy)))
    kind = attributes.get("post_transform", "NONE")
    return finished(cast(total, f32), kind)


def finished(scores: Tensor, kind: str) -> Tensor:
    """Apply the post_transform of TreeEnsembleRegressor. For one target only PROBIT has an effect, as in onnxruntime."""
    return scores if scores.shape[1] == 1 and kind != "PROBIT" else transformed(scores, kind)


def tree_ensemble_classifier(x: Tensor, **attributes: Any) -> tuple[Tensor, Tensor]:
    """Compute TreeEnsembleClassifier. x: T[n, f] -> labels i64[n], scores f32[n, classes]. Raises Unsupported for labels that are
    strings.
    """
    labels = whole_labels(attributes.get("classlabels_int64s"), attributes.get("classlabels_strings"))
    rows = as_rows(x)
    numbers = number_type(x, attributes)
    trees, nodes, ids, weights = vote_attributes(attributes, "class")
    base = tensor_or(attributes, "base_values")
    kind = attributes.get("post_transform", "NONE")
    binary = len(labels) == 2 and len(ids) > 0 and bool((ids == ids[0]).all())
    forest = forest_of(numbers, node_attributes(attributes), (trees, nodes, 0 * ids if binary else ids, weights))
    total, voted = walked(rows, forest, 1 if binary else len(labels), "SUM")
    if binary:
        shift = base[-1] if len(base) else 0.0
        score = cast(pointwise(lambda s: scalar.add(s, float(shift)), total), f32)
        return of_two_classes(score, labels, kind, all_positive=bool((weights >= 0).all()))
    if len(base):
        total = add(total, constant(base.astype(numbers.numpy)))
    scores = cast(total, f32)
    seen = scores if len(base) or voted is None else masked(scores, voted)
    return labelled(best(seen), labels), transformed(scores, kind)


def masked(scores: Tensor, voted: Tensor) -> Tensor:
    """Replace the scores of classes for which no leaf voted by -infinity, so that they are never the greatest."""
    return compute(f32, scores.shape, lambda *i: scalar.select(at(voted, i), at(scores, i), float("-inf")))


def of_two_classes(score: Tensor, labels: Sequence[int], kind: str, all_positive: bool) -> tuple[Tensor, Tensor]:
    """Return labels and scores where all votes are for one of two classes. With s the sum of the votes, the scores are (1 - s, s)
    if no vote is negative, else (-s, s).

    Softmax leaves these scores unchanged, as in onnxruntime.
    """
    threshold = 0.5 if all_positive else 0.0
    positive = pointwise(lambda s: scalar.apply("gt", s, threshold), score, dtype=boolean)
    label = labelled(cast(view(positive, [score.shape[0]], lambda i: (i, 0)), i64), labels)
    if kind == "PROBIT":
        return label, transformed(score, kind)
    if kind == "LOGISTIC":
        return label, transformed(two_columns(score, scalar.negate), kind)
    return label, two_columns(score, (lambda s: scalar.sub(1, s)) if all_positive else scalar.negate)


def tree_ensemble(
    x: Tensor,
    *,
    aggregate_function: int = 1,
    leaf_targetids: Sequence[int],
    leaf_weights: Array,
    membership_values: Array | None = None,
    n_targets: int = 1,
    nodes_falseleafs: Sequence[int],
    nodes_falsenodeids: Sequence[int],
    nodes_featureids: Sequence[int],
    nodes_hitrates: Array | None = None,
    nodes_missing_value_tracks_true: Sequence[int] | None = None,
    nodes_modes: Array,
    nodes_splits: Array,
    nodes_trueleafs: Sequence[int],
    nodes_truenodeids: Sequence[int],
    post_transform: int = 0,
    tree_roots: Sequence[int],
) -> Tensor:
    """Compute TreeEnsemble: aggregate the votes of the leaves that a row reaches. x: T[n, f] -> T[n, n_targets]. Raises Fail for
    attributes that don't fit.
    """
    if post_transform not in range(len(TRANSFORMS)) or aggregate_function not in range(len(AGGREGATES)):
        raise Fail(f"TreeEnsemble with post_transform {post_transform} and aggregate_function {aggregate_function}")

    def links(ids: Sequence[int], leaves: Sequence[int]) -> Array:
        if len(ids) != len(leaves):
            raise Fail("a tree ensemble whose attributes differ in length")
        return np.where(np.array(leaves, bool), -1 - np.array(ids, np.int64), np.array(ids, np.int64))

    numbers = scalar.wide(x.dtype)
    nans = nodes_missing_value_tracks_true or [0] * len(nodes_featureids)
    forest = Forest(
        np.array(nodes_featureids, np.int64),
        nodes_splits.astype(numbers.numpy),
        nodes_modes.astype(np.uint8),
        np.array(nans, bool),
        links(nodes_truenodeids, nodes_trueleafs),
        links(nodes_falsenodeids, nodes_falseleafs),
        np.array(tree_roots, np.int64),
        np.arange(len(leaf_targetids) + 1, dtype=np.int32),
        np.array(leaf_targetids, np.int64),
        leaf_weights.astype(numbers.numpy),
    )
    total, _ = walked(x, without_members(forest, membership_values), n_targets, AGGREGATES[aggregate_function])
    return cast(transformed(total, TRANSFORMS[post_transform]), x.dtype)


def without_members(forest: Forest, members: Array | None) -> Forest:
    """Replace each node that tests membership in a set by a chain of nodes, each of which tests equality with one member.

    members: the members of all sets, each set ended by a NaN. Raises Fail if a set is missing.
    """
    asking = np.flatnonzero(forest.mode == MEMBER)
    if not len(asking):
        return forest
    ends = np.flatnonzero(np.isnan(members)) if members is not None else np.zeros(0, np.int64)
    if members is None or len(ends) < len(asking):
        raise Fail("a tree ensemble with a membership node that has no set")
    feature, number, mode, nans, yes, no = (
        list(a) for a in (forest.feature, forest.number, forest.mode, forest.nan_is_true, forest.yes, forest.no)
    )
    start = 0
    for node, end in zip(asking, ends, strict=False):
        own = members[start:end]
        start = int(end) + 1
        here, otherwise = int(node), no[node]
        mode[here], number[here] = COMPARISONS.index("eq"), own[0] if len(own) else np.nan
        for value in own[1:]:
            no[here] = len(feature)
            here = len(feature)
            for column, entry in zip(
                (feature, number, mode, nans, yes, no),
                (feature[node], value, mode[node], nans[node], yes[node], otherwise),
                strict=True,
            ):
                column.append(entry)
    return replace(
        forest,
        feature=np.array(feature, np.int64),
        number=np.array(number, forest.number.dtype),
        mode=np.array(mode, np.uint8),
        nan_is_true=np.array(nans, bool),
        yes=np.array(yes, np.int64),
        no=np.array(no, np.int64),
    )


X = reals(7, 3)
NODES: dict[str, Any] = {
    # two trees: one has a root whose children are a leaf and a node with two leaves, the other a root with two leaves
    "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_featureids": [0, 0, 2, 0, 0, 1, 0, 0],
    "nodes_values": [0.1, 0.0, -0.3, 0.0, 0.0, 0.4, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0, 2, 0, 0],
}
MIXED = {**NODES, "nodes_modes": ["BRANCH_GT", "LEAF", "BRANCH_LT", "LEAF", "LEAF", "BRANCH_GTE", "LEAF", "LEAF"]}
LEAVES = ([0, 0, 0, 1, 1], [1, 3, 4, 1, 2])


def voting(prefix: str, ids: list[int], weights: list[float], **more: Any) -> dict[str, Any]:
    """Make attributes of a test case: one vote for each leaf, repeated as often as there are ids."""
    rounds = len(ids) // len(LEAVES[0])
    names = {"treeids": LEAVES[0] * rounds, "nodeids": LEAVES[1] * rounds, "ids": ids, "weights": weights}
    return {f"{prefix}_{k}": v for k, v in names.items()} | more


HALVES = [0.5, 0.25, 0.1, 0.4, 0.2]
SIGNED = [0.5, -0.25, 0.1, 1.4, -0.9]
BINARY = {"classlabels_int64s": [3, 8]}

OPS = (
    Op(
        "TreeEnsembleRegressor",
        since=1,
        domain=DOMAIN,
        kernel=tree_ensemble_regressor,
        reference=trees.regressor,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        tolerance=1e-5,
        cases=(
            Case((X,), NODES | voting("target", [0] * 5, SIGNED, n_targets=1)),
            Case((X,), MIXED | voting("target", [0] * 5 + [1] * 5, SIGNED + HALVES, n_targets=2, base_values=[0.5, 1.0]), "modes"),
            *(Case((X,), NODES | voting("target", [0] * 5, SIGNED, n_targets=1, aggregate_function=a)) for a in AGGREGATES),
            Case((X,), NODES | voting("target", [0, 1, 2] * 5, SIGNED * 3, n_targets=3, post_transform="SOFTMAX"), "votes"),
        ),
    ),
    Op(
        "TreeEnsembleClassifier",
        since=1,
        domain=DOMAIN,
        kernel=tree_ensemble_classifier,
        reference=trees.classifier,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        tolerance=1e-5,
        cases=(
            *(
                Case((X,), NODES | BINARY | voting("class", [0] * 5, w, post_transform=t), outputs=2)
                for w in (HALVES, SIGNED)
                for t in TRANSFORMS[:4]
            ),
            Case(
                (X,),
                NODES | voting("class", [0, 1, 2] * 5, SIGNED * 3, classlabels_int64s=[5, 6, 9], post_transform="SOFTMAX"),
                "three",
                outputs=2,
            ),
        ),
    ),
    Op(
        "TreeEnsemble",
        since=5,
        domain=DOMAIN,
        kernel=tree_ensemble,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case(
                (X,),
                {
                    "n_targets": 2,
                    "tree_roots": [0, 2],
                    "nodes_modes": np.array([0, 4, 2], np.uint8),
                    "nodes_featureids": [0, 2, 1],
                    "nodes_splits": np.array([0.1, -0.3, 0.4], np.float32),
                    "nodes_truenodeids": [0, 1, 3],
                    "nodes_trueleafs": [1, 1, 1],
                    "nodes_falsenodeids": [1, 2, 4],
                    "nodes_falseleafs": [0, 1, 1],
                    "leaf_targetids": [0, 1, 0, 1, 0],
                    "leaf_weights": np.array(SIGNED, np.float32),
                },
            ),
        ),
    ),
)
