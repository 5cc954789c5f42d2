"""Where long sums are divided: every turn is in one block, and no block is too long."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base.symbolic import Symbol, value
from sardonyx.loop.blocks import BLOCK, Blocks, find_blocks


def test_one_block_is_all() -> None:
    for extents in ([], [1], [BLOCK], [4, BLOCK // 4], [0], [0, 5], [3, 0, 4]):
        assert find_blocks(extents, BLOCK) is None, extents


def test_the_loop_that_is_divided() -> None:
    assert find_blocks([129], 128) == Blocks(0, 65, False)
    assert find_blocks([3072], 128, 2) == Blocks(0, 128, True)
    assert find_blocks([3, 3, 512], 128) == Blocks(2, 128, True)
    assert find_blocks([3, 3, 12], 128) is None
    assert find_blocks([512, 3, 3], 128) == Blocks(0, 14, False)
    assert find_blocks([7, 300], 128) == Blocks(1, 100, True)


def test_sizes_that_are_not_known() -> None:
    n = value(Symbol("n"))
    assert find_blocks([None], 128) == Blocks(0, 128, False)
    assert find_blocks([n], 128) == Blocks(0, 128, False)
    assert find_blocks([n, 3], 128) == Blocks(0, 42, False)
    assert find_blocks([4, n], 128) == Blocks(1, 128, False)
    assert find_blocks([n, 500], 128) == Blocks(1, 125, True)


@given(st.lists(st.integers(0, 700), min_size=1, max_size=4), st.integers(1, 300), st.sampled_from([1, 2, 4, 64]))
def test_blocks_cover_every_turn_and_are_short(extents: list[int], most: int, multiple: int) -> None:
    found = find_blocks(extents, most, multiple)
    total = 1
    for n in extents:
        total *= n
    if found is None:
        assert total <= most
        return
    n = extents[found.depth]
    inside = 1
    for m in extents[found.depth + 1 :]:
        inside *= m
    starts = range(0, n, found.iterations)
    visited = list(itertools.chain.from_iterable(range(s, min(s + found.iterations, n)) for s in starts))
    assert visited == list(range(n))
    assert found.even == (n % found.iterations == 0)
    rounded = multiple - 1 if found.depth == len(extents) - 1 else 0
    assert (found.iterations - rounded) * inside <= most or found.iterations == 1
