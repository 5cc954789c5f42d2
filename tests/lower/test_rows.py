"""Blocks of rows: every row is in one block, blocks are no taller than the tile, and their heights are among those that are compiled."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

from sardonyx.base.symbolic import Symbol, evaluate, symbols
from sardonyx.codegen import features
from sardonyx.lower import nest
from sardonyx.lower.builder import Blocks
from sardonyx.ops import linalg, softmax
from sardonyx.ops.conv import conv
from sardonyx.ops.pointwise import add
from tests.lower.harness import compiled, integers, reals

ROWS = [*range(40), 47, 48, 49, 63, 64, 65, 95, 96, 97, 255, 1000]


def partitioned(*arguments: Any, target: features.Target | None = None) -> list[tuple[Blocks, int]]:
    """The blocks of every nest that is built, each with the tallest height."""
    found: list[tuple[Blocks, int]] = []
    ordinary = nest.partition

    def watched(rows: Any, height: int, builder: Any) -> Blocks:
        blocks = ordinary(rows, height, builder)
        found.append((blocks, height * rows.group))
        return blocks

    with mock.patch.object(nest, "partition", watched):
        compiled(*arguments, target=target)
    return found


def covered(blocks: Blocks, sizes: dict[Symbol, int], tallest: int) -> None:
    """Asserts that the blocks cover the rows once, in pieces of the heights that there are."""

    def number(d: Any, at: dict[Symbol, int]) -> int:
        def of(s: Symbol) -> int:
            return at[s] if s in at else evaluate(s.definition, of)  # type: ignore[attr-defined]

        return evaluate(d, of)

    count = number(blocks.rows.count, sizes) * blocks.rows.group
    own = [s for s in blocks.loops if s.name.startswith(("chunk", "block"))]
    seen: list[int] = []
    for at in np.ndindex(*(number(s.extent, sizes) for s in own)):
        env = {**sizes, **dict(zip(own, map(int, at), strict=True))}
        first, height = number(blocks.start, env) * blocks.rows.group, number(blocks.height, env)
        if height:
            assert height in blocks.heights
            assert height <= tallest
        seen += range(first, first + height)
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("target", [features.host(), features.AVX2, features.SSE2], ids=lambda t: t.name)
@pytest.mark.parametrize("columns", [16, 64, 3072])
def test_every_row_of_a_product_is_in_one_block(columns: int, target: features.Target) -> None:
    for blocks, tallest in partitioned(linalg.matmul, "f32[m, 64]", reals(64, columns), target=target):
        m = [s for s in symbols(blocks.rows.count) if s.extent is None]
        for rows in ROWS:
            covered(blocks, dict.fromkeys(m, rows), tallest)


@pytest.mark.parametrize("factor", [2, 5, 8, 9, 12, 40])
@pytest.mark.parametrize("columns", [32, 3072])
def test_rows_that_are_a_multiple_of_a_number(columns: int, factor: int) -> None:
    """Blocks of fewer rows than follow from the factor have no tile, so there must be none."""
    for blocks, tallest in partitioned(linalg.matmul, f"f32[m, {factor}, 64]", reals(64, columns)):
        for m in range(24):
            covered(blocks, dict.fromkeys((s for s in symbols(blocks.rows.count) if s.extent is None), m), tallest)


def test_every_row_of_a_statement_without_a_tile_is_in_one_block() -> None:
    for blocks, tallest in partitioned(lambda x: softmax.softmax_over(x, [1]), "f32[m, n]"):
        for rows in ROWS:
            covered(blocks, dict.fromkeys((s for s in symbols(blocks.rows.count) if s.extent is None), rows), tallest)


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 13, 14, 15, 28, 29, 100])
def test_a_number_of_rows(m: int) -> None:
    for blocks, tallest in partitioned(linalg.matmul, f"f32[{m}, 32]", reals(32, 48)):
        covered(blocks, {}, tallest)
        assert len(blocks.heights) <= 2, "of nearly equal blocks there are two heights"


@pytest.mark.parametrize("m", [1, 3, 7, 16, 37])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_products_of_few_and_many_rows(batch: int, m: int) -> None:
    """Batches whose rows are counted with them, and those whose B is their own."""
    program = compiled(lambda x, w, b: add(linalg.matmul(x, w), b), "f32[batch, m, 24]", reals(24, 40), reals(40))
    program.check(reals(batch, m, 24))
    own = compiled(linalg.matmul, "f32[batch, m, 24]", "f32[batch, 24, 33]")
    own.check(reals(batch, m, 24), reals(batch, 24, 33, seed=1))


@pytest.mark.parametrize("side", [3, 4, 7, 8])
def test_small_images_stand_for_several_rows(side: int) -> None:
    """A 7 x 7 image has fewer rows than a tile takes: rows of several lines are one block."""
    x = f"f32[n, 32, {side}, {side}]"
    program = compiled(lambda x, w: conv(x, w, None, pads=[1, 1, 1, 1]), x, reals(32, 32, 3, 3))
    for n in (1, 2, 3):
        program.check(reals(n, 32, side, side))


def test_no_rows() -> None:
    program = compiled(linalg.matmul, "f32[m, k]", "f32[k, n]")
    for m, k, n in ((0, 3, 5), (3, 0, 5), (3, 5, 0), (0, 0, 0)):
        program.check(integers(m, k, dtype=np.float32), integers(k, n, dtype=np.float32))
