"""Forests of any shape, walked side by side, against trees walked one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from sardonyx.base.dtypes import f32, i64
from sardonyx.codegen.features import AVX2, SSE2, Target, host
from sardonyx.expr.tensor import input_tensor
from sardonyx.ops.tree_walk import AGGREGATES, COMPARISONS, LANES, Array, Forest, walked, without_nan_rules
from tests.lower.harness import compiled

WIDTH = 5
INTERPRETED = 7  # rows that the interpreter has time for
NUMBERS = np.array([-2.0, -1, 0, 1, 2, np.inf])
SHAPES = {
    "full": [3] * 11,
    "single leaves": [0] * 3,
    "lopsided": [-30, -3, -8],
    "mixed": [3, 0, -14, 1, 4, 0, -2, 3, 2],
    "as many as lanes": [2] * LANES,
    "one": [4],
    "two": [3, 1],
    "many": [2, 0, 1] * 22 + [3],
    "none": [],
}
"""The depths of the trees; a negative one is that of a tree which is nothing but a branch, with a leaf at each node."""


def grown(shape: str, targets: int, dense: bool, numbers: str = "f4", modes: tuple[int, ...] = (0,)) -> Forest:
    """A forest whose features and numbers are drawn; each leaf votes once for every target, or some times for some."""
    draw = np.random.default_rng(len(shape) + targets)
    yes, no, leaves = [], [], 0

    def leaf() -> int:
        nonlocal leaves
        leaves += 1
        return -leaves

    def grow(depth: int) -> int:
        if depth == 0:
            return leaf()
        here = len(yes)
        yes.append(0), no.append(0)
        sides = (grow(depth - 1), grow(depth - 1)) if depth > 0 else (grow(depth + 1), leaf())
        yes[here], no[here] = sides if draw.random() < 0.5 else sides[::-1]
        return here

    roots = [grow(depth) for depth in SHAPES[shape]]
    counts = np.full(leaves, targets) if dense else draw.integers(0, 4, leaves)
    target = np.tile(np.arange(targets), leaves) if dense else draw.integers(0, targets, counts.sum())
    return Forest(
        draw.integers(0, WIDTH, len(yes)),
        draw.choice(NUMBERS, len(yes)).astype(numbers),
        draw.choice(np.array(modes, np.uint8), len(yes)),
        np.zeros(len(yes), bool),
        np.array(yes, np.int64),
        np.array(no, np.int64),
        np.array(roots, np.int64),
        np.append(0, np.cumsum(counts)),
        target,
        draw.normal(size=len(target)).astype(numbers),
    )


def rows_of(count: int, dtype: str = "f4") -> Array:
    """Features that are as often as not a node's number, an infinity or NaN."""
    return np.random.default_rng(count).choice([*NUMBERS, -np.inf, np.nan, 0.5, 1.5, -7], (count, WIDTH)).astype(dtype)


def leaf_of(forest: Forest, link: int, row: Array) -> int:
    comparisons = (np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal)
    while link >= 0:
        x = row[forest.feature[link]]
        goes_true = comparisons[forest.mode[link]](x, forest.number[link]) or (np.isnan(x) and forest.nan_is_true[link])
        link = forest.yes[link] if goes_true else forest.no[link]
    return ~link


def one_by_one(forest: Forest, x: Array, targets: int, aggregate: str) -> tuple[Array, Array]:
    """(votes f64[n, targets], bool[n, targets] is there one?)"""
    total, voted = np.zeros((len(x), targets)), np.zeros((len(x), targets), bool)
    fn = {"MIN": min, "MAX": max}.get(aggregate, lambda p, q: p + q)
    for i, row in enumerate(x):
        for root in forest.roots:
            leaf = leaf_of(forest, root, row)
            for vote in range(forest.begin[leaf], forest.begin[leaf + 1]):
                place, weight = (i, forest.target[vote]), float(forest.weight[vote])
                total[place] = fn(total[place], weight) if voted[place] else weight
                voted[place] = True
    return total / (max(len(forest.roots), 1) if aggregate == "AVERAGE" else 1), voted


def check(
    forest: Forest, targets: int, aggregate: str = "SUM", counts: tuple[int, ...] = (7,), target: Target | None = None
) -> None:
    """Compiled with one and with two threads, and interpreted, the walk gives what trees one by one give."""
    kind = f"f{8 * forest.number.itemsize}"
    dense = forest.is_dense(targets)
    program = compiled(
        lambda x: [t for t in walked(x, forest, targets, aggregate) if t is not None], f"{kind}[n, {WIDTH}]", target=target
    )
    for count in counts:
        x = rows_of(count, forest.number.dtype.str)
        got = program.check(x, tolerance=1e-5) if count <= INTERPRETED else same(program.run(x), program.run(x, threads=2))
        total, voted = one_by_one(forest, x, targets, aggregate)
        np.testing.assert_allclose(got[0], total, 1e-5, 1e-5)
        assert len(got) == (1 if dense else 2)
        np.testing.assert_array_equal(voted if dense else got[1], voted)


def same(got: list[Array], other: list[Array]) -> list[Array]:
    assert [a.tobytes() for a in got] == [a.tobytes() for a in other], "one and two threads differ"
    return got


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "listed"])
@pytest.mark.parametrize("targets", [1, 3, 17])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, targets: int, dense: bool) -> None:
    forest = grown(shape, targets, dense)
    assert forest.is_dense(targets) == (dense and shape != "none")
    check(forest, targets, counts=(0, 1, 7))


@pytest.mark.parametrize("target", [host(), AVX2, SSE2], ids=lambda t: t.name)
@pytest.mark.parametrize("modes", [(0,), (0, 5)], ids=["one mode", "two modes"])
def test_processors(target: Target, modes: tuple[int, ...]) -> None:
    for dense in (True, False):
        check(grown("mixed", 3, dense, modes=modes), 3, counts=(1, 7, 1000), target=target)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates(aggregate: str) -> None:
    for dense in (True, False):
        check(grown("mixed", 2, dense), 2, aggregate)


@pytest.mark.parametrize("numbers", ["f4", "f8"])
@pytest.mark.parametrize("nan_rule", [False, True], ids=["", "NaN has rules"])
@pytest.mark.parametrize("modes", [*((k,) for k in range(len(COMPARISONS))), tuple(range(len(COMPARISONS)))], ids=str)
def test_modes(modes: tuple[int, ...], nan_rule: bool, numbers: str) -> None:
    """Also of numbers that are NaN, which nothing is equal to."""
    forest = grown("mixed", 1, True, numbers, modes)
    number, nan_is_true = forest.number.copy(), np.zeros(len(forest.number), bool)
    number[::4], nan_is_true[::3] = np.nan, nan_rule
    forest = replace(forest, number=number, nan_is_true=nan_is_true)
    assert forest.comparison() == (COMPARISONS[modes[0]] if len(modes) == 1 and not nan_rule else None)
    check(forest, 1, counts=(40,))


@pytest.mark.parametrize("mode", range(len(COMPARISONS)))
def test_nodes_that_compare_alike_and_send_nan_either_way(mode: int) -> None:
    """As in gradient boosters; with numbers that nothing can stand in for (infinite ones of < and >, NaN) rules are kept."""
    forest = grown("mixed", 1, True, modes=(mode,))
    ruled = np.arange(len(forest.number)) % 2 == 0
    forest = replace(forest, nan_is_true=ruled)
    assert np.isinf(forest.number[ruled]).any()
    for number in (forest.number, np.clip(forest.number, -2, 2), np.full_like(forest.number, -np.inf)):
        check(replace(forest, number=number), 1, counts=(0, 7, 40))


def test_rules_of_nan_that_need_no_table_of_their_own() -> None:
    x = input_tensor("x", f32, [3, WIDTH])
    forest = replace(grown("mixed", 1, True), nan_is_true=np.arange(len(grown("mixed", 1, True).number)) % 3 == 0)
    wide, plain = without_nan_rules(x, forest)
    assert wide.shape == (3, 2 * WIDTH)
    assert plain.comparison() == "le"
    assert set(plain.feature[forest.nan_is_true] % 2) == {1}
    whole = without_nan_rules(input_tensor("x", i64, [3, WIDTH]), forest)
    assert whole[0].shape == (3, WIDTH)
    assert whole[1].comparison() == "le"


@pytest.mark.parametrize(("shape", "lanes"), [("one", 1), ("two", 2), ("single leaves", 4), ("full", 8), ("many", 16), ("none", 1)])
def test_as_many_trees_go_side_by_side_as_there_are_up_to_a_bound(shape: str, lanes: int) -> None:
    assert grown(shape, 1, True).lanes == lanes


def test_branches_that_meet() -> None:
    """Two nodes may share what is below them."""
    forest = grown("full", 1, True)
    check(replace(forest, no=np.where(forest.yes > 0, forest.yes, forest.no)), 1)


def test_many_votes_are_added_precisely() -> None:
    stumps, draw = 3000, np.random.default_rng(0)
    nodes, leaves = np.arange(stumps), -1 - np.arange(2 * stumps)
    forest = Forest(
        draw.integers(0, WIDTH, stumps),
        draw.choice(NUMBERS, stumps).astype("f4"),
        np.zeros(stumps, np.uint8),
        np.zeros(stumps, bool),
        leaves[::2],
        leaves[1::2],
        nodes,
        np.arange(2 * stumps + 1),
        np.zeros(2 * stumps, np.int64),
        draw.uniform(0, 1, 2 * stumps).astype("f4"),
    )
    x = rows_of(3)
    got = compiled(lambda x: walked(x, forest, 1, "SUM")[0], f"f32[n, {WIDTH}]").run(x)
    np.testing.assert_allclose(got[0], one_by_one(forest, x, 1, "SUM")[0], 1e-6)


def test_a_zero_keeps_its_sign() -> None:
    forest = grown("full", 2, True)
    forest = replace(forest, weight=np.full_like(forest.weight, -0.0))
    (got,) = compiled(lambda x: walked(x, forest, 2, "SUM")[0], f"f32[n, {WIDTH}]").run(rows_of(3))
    assert np.signbit(got).all()
