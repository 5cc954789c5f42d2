"""Ensembles of decision trees: TreeEnsemble, TreeEnsembleRegressor, TreeEnsembleClassifier. One kernel walks them, row by row.

All trees lie in one table. A child >= 0 is an inner node, -1 - k is leaf k, whose votes are those from begin[k] to begin[k + 1].
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import DType, boolean, f32, f64, from_numpy, i32, i64, u8
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.require import require_nonnegative
from sardonyx.expr.tensor import Tensor, compute, constant, kernel_outputs
from sardonyx.loop.builder import KernelBuilder, trusted
from sardonyx.loop.nodes import Kernel
from sardonyx.loop.values import Value, op, where
from sardonyx.ops.cases import reals
from sardonyx.ops.ml import DOMAIN, as_rows, best, carrier, labelled, transformed, two_columns, whole_labels
from sardonyx.ops.pointwise import add, cast, mul, pointwise, view
from sardonyx.ops.record import Case, Op, Rule

Array = npt.NDArray[Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
COMPARISONS = ("le", "lt", "ge", "gt", "eq", "ne")
"""What x is to the node's number, by mode, for the true branch to be taken."""
MEMBER = 6
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass(frozen=True, slots=True)
class Forest:
    """The table: of inner nodes feature, number, mode, whether NaN goes the true way, children; of leaves their votes."""

    feature: Array
    number: Array
    mode: Array
    nan_is_true: Array
    yes: Array
    no: Array
    roots: Array
    begin: Array
    target: Array
    weight: Array

    def check(self, targets: int) -> None:
        """Raises Fail unless every child, feature and target exists, and no way leads in a circle."""
        nodes, leaves = len(self.feature), len(self.begin) - 1
        if any(len(a) != nodes for a in (self.number, self.mode, self.nan_is_true, self.yes, self.no)):
            raise Fail("a tree ensemble whose attributes differ in length")
        for links in (self.yes, self.no, self.roots):
            if len(links) and (links.max() >= nodes or links.min() < -leaves):
                raise Fail("a tree ensemble with a branch to nowhere")
        if nodes and (self.feature.min() < 0 or self.mode.min() < 0 or self.mode.max() >= len(COMPARISONS)):
            raise Fail("a tree ensemble with an unknown mode, or a negative feature")
        if len(self.target) and (self.target.min() < 0 or self.target.max() >= targets):
            raise Fail(f"a tree ensemble that votes for one of {targets} targets that is none")
        self.check_ends()

    def check_ends(self) -> None:
        """Raises Fail if a way through a tree does not end."""
        level = np.unique(self.roots[self.roots >= 0])
        for _ in range(len(self.feature)):
            if not len(level):
                return
            below = np.unique(np.concatenate([self.yes[level], self.no[level]]))
            level = below[below >= 0]
        if len(level):
            raise Fail("a tree ensemble whose branches lead in a circle")


@functools.cache
def walk_kernel(features: DType, numbers: DType, fn: str, mode: int | None, nan_matters: bool) -> Kernel:
    """y[row, target] = fn over the votes of the leaves that the row reaches; voted: is there one? mode: that of all nodes, or None.

    parallel for row:  for tree:  node = root;  while node is no leaf: node = its child;  for vote: y[row, target] = fn(.., weight)
    """
    b = KernelBuilder(f"trees of {features}")
    rows, width, trees, nodes, leaves, votes, targets = (b.size(s) for s in "rwtnlvk")
    x = b.input("x", features, rows * width)
    feature, number, modes = b.input("feature", i32, nodes), b.input("number", numbers, nodes), b.input("mode", u8, nodes)
    nan_is_true = b.input("nan is true", boolean, nodes)
    yes, no = b.input("yes", i32, nodes), b.input("no", i32, nodes)
    roots, begin = b.input("roots", i32, trees), b.input("begin", i32, leaves + 1)
    target, weight = b.input("target", i32, votes), b.input("weight", numbers, votes)
    y, voted = b.output("y", numbers, rows * targets), b.output("voted", boolean, rows * targets)

    def goes_true(row: Dim, node: Dim) -> Value:
        e = x[row * width + trusted(feature[node].cast(i64), width)].cast(numbers)
        if mode is not None:
            out = op(COMPARISONS[mode], e, number[node])
        else:
            out = op("le", e, number[node])
            for k, name in enumerate(COMPARISONS[1:], 1):
                out = where(modes[node] == k, op(name, e, number[node]), out)
        return out | ((e != e) & nan_is_true[node]) if nan_matters else out

    with b.loop("row", rows, kind="parallel") as row:
        with b.loop("k", targets) as k:
            y[row * targets + k] = 0
            voted[row * targets + k] = False
        with b.loop("tree", trees) as tree:
            node = b.local(i64, roots[tree].cast(i64))
            with b.while_(node.value >= 0):
                here = trusted(node.value, nodes)
                node.set(where(goes_true(row, here), yes[here], no[here]).cast(i64))
            leaf = trusted(-1 - node.value, leaves)
            vote = b.local(i64, begin[leaf].cast(i64))
            end = b.let(begin[trusted(-node.value, leaves + 1)].cast(i64))
            with b.while_(vote.value < end):
                own = trusted(vote.value, votes)
                place = row * targets + trusted(target[own].cast(i64), targets)
                y[place] = where(voted[place], op(fn, y[place], weight[own]), weight[own])
                voted[place] = True
                vote.add(1)
    return b.build()


def walked(x: Tensor, forest: Forest, targets: int, aggregate: str) -> tuple[Tensor, Tensor]:
    """(T[n, targets] the votes of each row, added or the least or the greatest, 0 where there is none; bool[n, targets] is there one?)"""
    if aggregate not in AGGREGATES:
        raise Fail(f"aggregate_function {aggregate}")
    forest.check(targets)
    if len(forest.feature):
        require_nonnegative(x.shape[1] - 1 - int(forest.feature.max()), f"trees of more features than {x.shape[1]}")
    mode = int(forest.mode[0]) if len(forest.mode) and (forest.mode == forest.mode[0]).all() else None
    fn = {"MIN": "min", "MAX": "max"}.get(aggregate, "add")
    numbers = from_numpy(forest.number.dtype)
    kernel = walk_kernel(x.dtype, numbers, fn, mode, bool(forest.nan_is_true.any()))
    tables = (forest.feature, forest.number, forest.mode, forest.nan_is_true, forest.yes, forest.no, forest.roots)
    inputs = [x, *(constant(t) for t in (*tables, forest.begin, forest.target, forest.weight))]
    counts = [len(forest.roots), len(forest.feature), len(forest.begin) - 1, len(forest.target), targets]
    shape = [x.shape[0], targets]
    total, voted = kernel_outputs(kernel, inputs, [(numbers, shape), (boolean, shape)], [*x.shape, *counts])
    if aggregate == "AVERAGE":
        total = mul(total, constant(np.array(1 / max(len(forest.roots), 1), numbers.numpy)))
    return total, voted


# ---- tables from attributes ------------------------------------------------------------------------------------------------------


def forest_of(
    numbers: DType,
    nodes: dict[str, Any],
    votes: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[float] | Array],
) -> Forest:
    """The table from the attributes of before opset 5: nodes and leaves in one list, named by (tree, node); votes of (tree, node)."""
    trees, ids, modes = nodes["treeids"], nodes["nodeids"], nodes["modes"]
    places = {key: k for k, key in enumerate(zip(trees, ids, strict=True))}
    is_leaf = np.array([m == "LEAF" for m in modes], bool)
    unknown = {m for m in modes if m not in MODES and m != "LEAF"}
    if unknown or len(places) != len(ids) or not all(len(a) == len(ids) for a in nodes.values() if a is not None):
        raise Fail(f"trees with nodes of one name, attributes that differ in length, or unknown modes {sorted(unknown)}")
    link = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1).astype(np.int32)
    inner = np.flatnonzero(~is_leaf)

    def children(key: str) -> Array:
        found = [places.get((trees[k], nodes[key][k]), -1) for k in inner]
        if -1 in found:
            raise Fail("a tree ensemble with a branch to nowhere")
        return link[np.array(found, np.int64)]

    yes, no = children("truenodeids"), children("falsenodeids")
    missing = nodes["missing_value_tracks_true"]
    return Forest(
        np.array([nodes["featureids"][k] for k in inner], np.int32),
        np.array(nodes["values"], numbers.numpy)[inner],
        np.array([MODES.index(modes[k]) for k in inner], np.uint8),
        np.array([bool(missing[k]) if missing else False for k in inner], bool),
        yes,
        no,
        np.setdiff1d(link, np.concatenate([yes, no])) if len(inner) else link,
        *votes_by_leaf(numbers, places, link, int(is_leaf.sum()), votes),
    )


def votes_by_leaf(
    numbers: DType,
    places: dict[tuple[int, int], int],
    link: Array,
    leaves: int,
    votes: tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[float] | Array],
) -> tuple[Array, Array, Array]:
    """(begin, target, weight), the votes in the order of their leaves."""
    trees, ids, targets, weights = votes
    if len({len(trees), len(ids), len(targets), len(weights)}) > 1:
        raise Fail("votes whose attributes differ in length")
    found = [places.get(key, -1) for key in zip(trees, ids, strict=True)]
    leaf = -1 - link[np.array(found, np.int64)] if found else np.zeros(0, np.int64)
    if -1 in found or (leaf < 0).any():
        raise Fail("votes of a node that is no leaf")
    order = np.argsort(leaf, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(leaf, minlength=leaves))]).astype(np.int32)
    return begin, np.array(targets, np.int32)[order], np.array(weights, numbers.numpy)[order]


def tensor_or(tensor: Array | None, numbers: Sequence[float] | None) -> Any:
    """An attribute that comes as a tensor of doubles, or as floats."""
    return tensor.ravel() if tensor is not None else (numbers or [])


def node_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """The nodes_* attributes, by the rest of their names."""
    names = ("treeids", "nodeids", "featureids", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    out = {n: attributes.get(f"nodes_{n}") or (None if n.startswith("missing") else []) for n in names}
    out["values"] = tensor_or(attributes.get("nodes_values_as_tensor"), attributes.get("nodes_values"))
    return out


def number_type(x: Tensor, attributes: dict[str, Any]) -> DType:
    """f64 if the features or the numbers of the nodes are, else f32."""
    return f64 if attributes.get("nodes_values_as_tensor") is not None else carrier(x.dtype)


# ---- the operators -------------------------------------------------------------------------------------------------------------


def tree_ensemble_regressor(x: Tensor, **attributes: Any) -> Tensor:
    """x: T[n, f] -> f32[n, n_targets]: the votes of the leaves that a row reaches, aggregated, and base values"""
    rows = as_rows(x)
    numbers = number_type(x, attributes)
    weights = tensor_or(attributes.get("target_weights_as_tensor"), attributes.get("target_weights"))
    votes = tuple(attributes.get(f"target_{n}") or [] for n in ("treeids", "nodeids", "ids"))
    forest = forest_of(numbers, node_attributes(attributes), (*votes, weights))
    targets = attributes.get("n_targets", 1)
    total, _ = walked(rows, forest, targets, attributes.get("aggregate_function", "SUM"))
    base = tensor_or(attributes.get("base_values_as_tensor"), attributes.get("base_values"))
    if len(base):
        total = add(total, constant(np.array(base, numbers.numpy)))
    kind = attributes.get("post_transform", "NONE")
    return finished(cast(total, f32), kind)


def finished(scores: Tensor, kind: str) -> Tensor:
    """post_transform of a regressor: of one target only PROBIT changes anything, as in onnxruntime."""
    return scores if scores.shape[1] == 1 and kind != "PROBIT" else transformed(scores, kind)


def tree_ensemble_classifier(x: Tensor, **attributes: Any) -> tuple[Tensor, Tensor]:
    """x: T[n, f] -> labels i64[n], scores f32[n, classes]. Raises Unsupported for labels that are strings."""
    labels = whole_labels(attributes.get("classlabels_int64s"), attributes.get("classlabels_strings"))
    rows = as_rows(x)
    numbers = number_type(x, attributes)
    weights = tensor_or(attributes.get("class_weights_as_tensor"), attributes.get("class_weights"))
    trees, nodes, ids = (attributes.get(f"class_{n}") or [] for n in ("treeids", "nodeids", "ids"))
    base = tensor_or(attributes.get("base_values_as_tensor"), attributes.get("base_values"))
    kind = attributes.get("post_transform", "NONE")
    binary = len(labels) == 2 and len(set(ids)) == 1
    forest = forest_of(numbers, node_attributes(attributes), (trees, nodes, [0] * len(ids) if binary else ids, weights))
    total, voted = walked(rows, forest, 1 if binary else len(labels), "SUM")
    if binary:
        shift = base[-1] if len(base) else 0.0
        score = cast(pointwise(lambda s: scalar.add(s, float(shift)), total), f32)
        return of_two_classes(score, labels, kind, all_positive=bool(np.all(np.array(weights) >= 0)))
    if len(base):
        total = add(total, constant(np.array(base, numbers.numpy)))
    scores = cast(total, f32)
    seen = compute(f32, scores.shape, lambda *i: scalar.select(at(voted, i), at(scores, i), float("-inf")))
    return labelled(best(seen if not len(base) else scores), labels), transformed(scores, kind)


def of_two_classes(score: Tensor, labels: Sequence[int], kind: str, all_positive: bool) -> tuple[Tensor, Tensor]:
    """The labels and both scores where all votes are for one class: a share of 1 if no vote is negative, else for and against.

    Both softmaxes leave them as they are, as in onnxruntime.
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
    """x: T[n, f] -> T[n, n_targets]: the votes of the leaves that a row reaches, aggregated"""
    if post_transform not in range(len(TRANSFORMS)) or aggregate_function not in range(len(AGGREGATES)):
        raise Fail(f"TreeEnsemble with post_transform {post_transform} and aggregate_function {aggregate_function}")

    def links(ids: Sequence[int], leaves: Sequence[int]) -> Array:
        return np.where(np.array(leaves, bool), -1 - np.array(ids, np.int64), np.array(ids, np.int64)).astype(np.int32)

    numbers = scalar.wide(x.dtype)
    nans = nodes_missing_value_tracks_true or [0] * len(nodes_featureids)
    forest = Forest(
        np.array(nodes_featureids, np.int32),
        nodes_splits.astype(numbers.numpy),
        nodes_modes.astype(np.uint8),
        np.array(nans, bool),
        links(nodes_truenodeids, nodes_trueleafs),
        links(nodes_falsenodeids, nodes_falseleafs),
        np.array(tree_roots, np.int32),
        np.arange(len(leaf_targetids) + 1, dtype=np.int32),
        np.array(leaf_targetids, np.int32),
        leaf_weights.astype(numbers.numpy),
    )
    total, _ = walked(x, without_members(forest, membership_values), n_targets, AGGREGATES[aggregate_function])
    return cast(finished(total, TRANSFORMS[post_transform]), x.dtype)


def without_members(forest: Forest, members: Array | None) -> Forest:
    """Each node that asks for membership in a set becomes a chain of nodes that ask for one member each. Sets end with NaN."""
    asking = np.flatnonzero(forest.mode == MEMBER)
    if not len(asking):
        return forest
    ends = np.flatnonzero(np.isnan(members)) if members is not None else np.zeros(0, np.int64)
    if members is None or len(ends) < len(asking):
        raise Fail("a tree ensemble with a node without its set")
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
    return Forest(
        np.array(feature, np.int32),
        np.array(number, forest.number.dtype),
        np.array(mode, np.uint8),
        np.array(nans, bool),
        np.array(yes, np.int32),
        np.array(no, np.int32),
        forest.roots,
        forest.begin,
        forest.target,
        forest.weight,
    )


X = reals(7, 3)
NODES: dict[str, Any] = {
    # two trees: a node with a leaf and a node with two leaves; a node with two leaves
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
    """Attributes of a case: one vote for each leaf, or as many rounds of that as there are."""
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
