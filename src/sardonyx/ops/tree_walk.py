"""Evaluation of decision trees: one table of all nodes, and one kernel that walks through several trees at once.

A walk is a chain of loads, each of which needs the one before. So several trees (Forest.lanes) are walked side by side, one step of
each at a time, without branches. The table makes that possible:

    node    number, feature, and the offset of a child for each outcome of comparing row[feature] with the number
    leaf    the same, but each child is the leaf itself, so that a finished walk may continue with the others

An offset counts words of the table. Offsets of inner nodes are even. Leaves follow the inner nodes, displaced by one word, so that
their offsets are odd.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from sardonyx.base.dtypes import DType, boolean, f32, from_numpy, i32, i64, u32, u64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, ceil_divide, maximum, minimum
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.require import require_nonnegative
from sardonyx.expr.tensor import Tensor, compute, constant, kernel_outputs
from sardonyx.loop.builder import Array as Buffer
from sardonyx.loop.builder import KernelBuilder, as_index, trusted
from sardonyx.loop.nodes import Expr, Kernel
from sardonyx.loop.values import Value, op, where
from sardonyx.ops.pointwise import mul
from sardonyx.ops.ranks import require_ranks

Array = npt.NDArray[Any]

COMPARISONS = ("le", "lt", "ge", "gt", "eq", "ne")
"""By mode: how x must compare with the node's number for the true branch to be taken."""
OUTCOMES = np.array([(1, 1, 0, 0), (1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 1, 1)], bool)
"""By mode: whether the true branch is taken if x is less, equal, greater, and if x is NaN."""
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
"""aggregate_function, in the order of TreeEnsemble's numbers for it."""
LANES = 8  # trees walked side by side: as many offsets as fit in registers on x86
# With at least MANY_TREES trees, MANY_LANES are walked side by side: cache misses then cost more than offsets on the stack.
MANY_LANES, MANY_TREES = 16, 64
MOST_ROWS = 128  # rows that are walked through a group of trees before the next group, so that a cache holds both
NEUTRAL = {"add": -0.0, "min": math.inf, "max": -math.inf}
WORK = 64  # estimated operations of one row's walk through a tree
SHARES = 8  # least number of blocks of rows, so that threads can share the work


def distinct(values: Array) -> Array:
    """Return the sorted values without duplicates. numpy.unique uses a hash table, which takes longer."""
    values = np.sort(values)
    found: Array = values[np.append(True, np.diff(values) != 0)[: len(values)]]
    return found


class Forest(Struct, frozen=True):
    """All trees of an ensemble. Arrays over inner nodes: feature, number, mode, nan_is_true (NaN takes the true branch), yes and no
    (the children).

    A child >= 0 is an inner node; -1 - k is leaf k, whose votes (target, weight) are those from begin[k] to begin[k + 1]. roots:
    the roots, as children.
    """

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

    @property
    def leaves(self) -> int:
        """Return the number of leaves."""
        return len(self.begin) - 1

    def check(self, targets: int) -> None:
        """Check that every child, feature and target exists and that no path is a cycle. Raises Fail."""
        nodes = len(self.feature)
        if any(a.shape != (nodes,) for a in (self.number, self.mode, self.nan_is_true, self.yes, self.no)):
            raise Fail("a tree ensemble whose attributes differ in length")
        if self.weight.shape != self.target.shape:
            raise Fail("votes whose attributes differ in length")
        for links in (self.yes, self.no, self.roots):
            if len(links) and (links.max() >= nodes or links.min() < -self.leaves):
                raise Fail("a tree ensemble with a branch to a missing node")
        if nodes and (self.feature.min() < 0 or self.mode.min() < 0 or self.mode.max() >= len(COMPARISONS)):
            raise Fail("a tree ensemble with an unknown mode, or a negative feature")
        if len(self.target) and (self.target.min() < 0 or self.target.max() >= targets):
            raise Fail(f"a tree ensemble with a vote for a target outside the {targets} targets")
        self.check_ends()

    def check_ends(self) -> None:
        """Check that every path through a tree ends. Raises Fail."""
        level = distinct(self.roots[self.roots >= 0])
        for _ in range(len(self.feature)):
            if not len(level):
                return
            below = np.concatenate([self.yes[level], self.no[level]])
            level = distinct(below[below >= 0])
        if len(level):
            raise Fail("a tree ensemble whose branches form a cycle")

    def comparison(self) -> str | None:
        """Return the comparison of all nodes if they have the same and no rule for NaN, else None."""
        same = len(self.mode) > 0 and (self.mode == self.mode[0]).all() and not self.nan_is_true.any()
        return COMPARISONS[self.mode[0]] if same else None

    def is_dense(self, targets: int) -> bool:
        """Return whether there are trees and targets, and every leaf has exactly one vote for each target, in the targets' order."""
        if not len(self.roots) or targets < 1 or (np.diff(self.begin) != targets).any():
            return False
        return bool((self.target.reshape(-1, targets) == np.arange(targets)).all())

    def outcomes(self) -> Array:
        """Return bool[nodes, outcomes]: whether a node takes its true branch for each outcome of its comparison.

        If all nodes compare alike, the outcomes are (true, false), else those of OUTCOMES (less, equal, greater, NaN).
        """
        if self.comparison() is not None:
            return np.tile([True, False], (len(self.feature), 1))
        found = OUTCOMES[self.mode]
        found[np.isnan(self.number), :3] = (self.mode[np.isnan(self.number)] == COMPARISONS.index("ne"))[:, None]
        found[:, 3] |= self.nan_is_true
        return found

    @property
    def lanes(self) -> int:
        """Return how many trees are walked side by side: a power of two."""
        trees = len(self.roots)
        return MANY_LANES if trees >= MANY_TREES else min(LANES, 1 << max(trees - 1, 0).bit_length())

    def table(self) -> tuple[Array, Array]:
        """Return the table of nodes and leaves, and the offsets of the roots. An extra leaf without votes serves lanes that have no
        tree.
        """
        word, outcomes = self.number.dtype.str.replace("f", "u"), self.outcomes()
        inner, children = outcomes.shape
        stride = 2 * children

        def place(link: Array) -> Array:
            found: Array = np.where(link >= 0, stride * link, stride * (inner + ~link) + 1)
            return found

        table = np.zeros(stride * (inner + self.leaves + 1) + 1, word)
        nodes = table[: stride * inner].reshape(inner, stride)
        nodes[:, 0], nodes[:, 1] = self.number.view(word), self.feature
        nodes[:, 2 : 2 + children] = np.where(outcomes, place(self.yes)[:, None], place(self.no)[:, None])
        ends = table[stride * inner + 1 :].reshape(self.leaves + 1, stride)
        ends[:, 2 : 2 + children] = place(~np.arange(self.leaves + 1))[:, None]
        roots = np.full(-(-len(self.roots) // self.lanes) * self.lanes, ~self.leaves)
        roots[: len(self.roots)] = self.roots
        return table, place(roots).astype(word)


# ---- the kernel ------------------------------------------------------------------------------------------------------------------


def outcome(comparison: str | None, x: Value, number: Value) -> Value:
    """Return the child (i64) that a comparison of x with a node's number selects: 0 if true, else 1; without a comparison 0 to 3 as
    in OUTCOMES.
    """
    if comparison is not None:
        return (~op(comparison, x, number)).cast(i64)
    return (~(x < number)).cast(i64) + (~(x <= number)).cast(i64) + (x != x).cast(i64)


@functools.cache
def walk_kernel(features: DType, numbers: DType, fn: str, comparison: str | None, dense: bool, lanes: int) -> Kernel:
    """Build the kernel: y[row, target] = fn over the votes of the leaves that the row reaches. voted[row, target]: whether there
    was a vote; absent if votes are dense.

        parallel for block of rows:
          for group of `lanes` trees:
            for row of block:
              offset[:] = roots
              until all are leaves:  offset[:] = offsets of the selected children
              for vote of these leaves:  y[row, target] = fn(y[row, target], weight)
    """
    b = KernelBuilder(f"trees of {features}")
    rows, height, width, groups, nodes, leaves, count, targets = (b.size(s) for s in "rhwgnlvk")
    word, stride = u32 if numbers is f32 else u64, 8 if comparison is None else 4
    x, table, roots = b.input("x", features), b.input("table", word, stride * (nodes + leaves) + 1), b.input("roots", word)
    lists = b.input("begin", i32, leaves + 1), b.input("target", i32, count), b.input("weight", numbers, count)
    votes = Votes(b, fn, lanes, leaves, targets, *lists, b.output("y", numbers), None if dense else b.output("voted", boolean))

    def child(row: Dim, place: Value) -> Value:
        here = table.at(place)
        e = x[row * width + trusted(table[here + 1].cast(i64), width)].cast(numbers)
        return table[table.at(place + 2 + outcome(comparison, e, table[here].bits(numbers)))].cast(i64)

    with b.loop("block", ceil_divide(rows, height), kind="parallel") as block:
        first = height * block
        here = minimum(height, rows - first)
        votes.start(first, here)
        with b.loop("group", groups) as group, b.loop("row", here) as i:
            place = b.scratch("place", i64, lanes)
            for lane in range(lanes):
                place[lane] = roots[group * lanes + lane].cast(i64)
            with b.while_((functools.reduce(operator.and_, [place[lane] for lane in range(lanes)]) & 1) == 0):
                for lane in range(lanes):
                    place[lane] = child(first + i, place[lane])
            for lane in range(lanes):
                place[lane] = (place[lane] >> stride.bit_length() - 1) - as_index(nodes)
            votes.take(first + i, place)
    return b.build()


class Votes(Struct, frozen=True):
    """The votes of all leaves, and the outputs that collect them. Its methods emit the loops. voted: None if votes are dense"""

    builder: KernelBuilder
    fn: str
    lanes: int
    leaves: Dim
    targets: Dim
    begin: Buffer
    target: Buffer
    weight: Buffer
    y: Buffer
    voted: Buffer | None

    def start(self, row: Dim, rows: Dim) -> None:
        """Emit the initialisation of these rows' outputs."""
        with self.builder.loop("k", rows * self.targets, kind="vector") as k:
            self.y[row * self.targets + k] = NEUTRAL[self.fn] if self.voted is None else 0
            if self.voted is not None:
                self.voted[row * self.targets + k] = False

    def take(self, row: Dim, leaves: Buffer) -> None:
        """Emit the votes of the leaves that a row reached in the trees of a group."""
        if self.voted is not None:
            with self.builder.loop("lane", self.lanes) as lane:
                self.take_list(self.voted, row, leaves[lane])
            return
        own = [trusted(leaves[lane], self.leaves) * self.targets for lane in range(self.lanes)]
        with self.builder.loop("k", self.targets, kind="vector") as k:
            out = row * self.targets + k
            self.y[out] = op(self.fn, self.y[out], paired(self.fn, [self.weight[o + k] for o in own]))

    def take_list(self, voted: Buffer, row: Dim, leaf: Value) -> None:
        """Emit the votes of one leaf, a list of any length."""
        b, y = self.builder, self.y
        vote, end = b.local(i64, self.begin[self.begin.at(leaf)].cast(i64)), b.let(self.begin[self.begin.at(leaf + 1)].cast(i64))
        with b.while_(vote.value < end):
            own = self.target.at(vote.value)
            out = row * self.targets + trusted(self.target[own].cast(i64), self.targets)
            y[out] = where(voted[out], op(self.fn, y[out], self.weight[own]), self.weight[own])
            voted[out] = True
            vote.add(1)


def paired(fn: str, values: Sequence[Value]) -> Value:
    """Combine a power of two values by fn in a balanced tree, neighbours first."""
    while len(values) > 1:
        values = [op(fn, p, q) for p, q in zip(values[::2], values[1::2], strict=True)]
    return values[0]


STAND_INS = {
    "le": (-math.inf, np.less_equal),
    "lt": (-math.inf, np.less),
    "ge": (math.inf, np.greater_equal),
    "gt": (math.inf, np.greater),
}
"""By comparison: the number that replaces NaN so that the comparison is true, and the comparison in numpy."""


def without_nan_rules(x: Tensor, forest: Forest) -> tuple[Tensor, Forest]:
    """Remove the rules for NaN from a forest whose nodes all compare alike; other forests are returned unchanged.

    Each feature is given to the kernel twice, the second time with NaN replaced by a number for which the comparison is true. Nodes
    that send NaN to the true branch read the second one. The kernel then needs two outcomes per node instead of four, which halves
    its table. Gradient boosting libraries write such trees. x: T[n, f] -> T[n, 2 f]
    """
    ruled = forest.nan_is_true
    plain = replace(forest, nan_is_true=np.zeros_like(ruled))
    if not ruled.any() or not x.dtype.is_float:
        return x, plain
    stand_in, compare = STAND_INS.get(plain.comparison() or "", (0.0, None))
    if compare is None or not compare(stand_in, forest.number[ruled]).all():
        return x, forest

    def twice(i: Dim, k: Dim) -> Expr:
        e = at(x, (i, k // 2))
        return scalar.select(scalar.logical_and(scalar.is_nan(e), scalar.apply("eq", scalar.index(k % 2), 1)), stand_in, e)

    rows, width = x.shape
    return compute(x.dtype, [rows, 2 * width], twice), replace(plain, feature=2 * forest.feature + ruled)


def walked(x: Tensor, forest: Forest, targets: int, aggregate: str) -> tuple[Tensor, Tensor | None]:
    """Evaluate the trees. x: T[n, f] -> the aggregated votes: T[n, targets], 0 where there is no vote; and bool[n, targets]:
    whether there is a vote, None for always

    Raises Fail for an unknown aggregate, and for trees that are malformed or use more features than x has.
    """
    if aggregate not in AGGREGATES:
        raise Fail(f"aggregate_function {aggregate} is unknown")
    require_ranks("trees need features of shape [n, f], not {}", (x, 2))
    forest.check(targets)
    if len(forest.feature):
        require_nonnegative(x.shape[1] - 1 - int(forest.feature.max()), "trees use more features than {}", x.shape[1])
    x, forest = without_nan_rules(x, forest)
    fn = {"MIN": "min", "MAX": "max"}.get(aggregate, "add")
    numbers, dense = from_numpy(forest.number.dtype), forest.is_dense(targets)
    kernel = walk_kernel(x.dtype, numbers, fn, forest.comparison(), dense, forest.lanes)
    begin = np.append(forest.begin, forest.begin[-1:])
    weight = np.append(forest.weight, np.full(targets if dense else 0, NEUTRAL[fn], forest.weight.dtype))
    target = np.append(forest.target, np.zeros(len(weight) - len(forest.target), np.int32))
    inputs = [x, *(constant(t) for t in (*forest.table(), begin.astype(np.int32), target.astype(np.int32), weight))]
    rows, width = x.shape
    height = minimum(MOST_ROWS, maximum(1, rows // SHARES))
    sizes = [
        rows,
        height,
        width,
        -(-len(forest.roots) // forest.lanes),
        len(forest.feature),
        forest.leaves + 1,
        len(weight),
        targets,
    ]
    outputs = [(numbers, [rows, targets]), (boolean, [rows, targets])]
    work = rows * len(forest.roots) * WORK
    total, *voted = kernel_outputs(kernel, inputs, outputs[: 1 if dense else 2], sizes, work=work)
    if aggregate == "AVERAGE":
        total = mul(total, constant(np.array(1 / max(len(forest.roots), 1), numbers.numpy)))
    return total, voted[0] if voted else None
