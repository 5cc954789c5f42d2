"""The numbers of a target: widths and heights of tiles, and where rows lie in the cache."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from sardonyx.base.cache_line import LINE
from sardonyx.base.dtypes import DType, f16, f32, f64
from sardonyx.base.symbolic import Dim, symbol
from sardonyx.codegen.features import AVX2, AVX512, SSE2
from sardonyx.expr import scalar
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Alloc, For, If, Seq, Stmt, Tile
from sardonyx.lower.machine import Machine
from sardonyx.ops import linalg, movement, pointwise
from sardonyx.ops.pointwise import add, along
from sardonyx.runtime.caches import Caches
from tests.lower.harness import Array, Compiled, Interpreted, compiled, integers, machine_for

n, m = symbol("n"), symbol("m")
WIDE = machine_for(AVX512)
MACHINES = [WIDE, machine_for(AVX2), machine_for(SSE2)]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: str(m.lanes))
@pytest.mark.parametrize("clash", [False, True])
@pytest.mark.parametrize("group", [1, 2, 7])
def test_heights_of_known_rows(group: int, clash: bool, machine: Machine) -> None:
    """As few tiles as the registers allow, and none taller than needed for so many."""
    for vectors, tallest in machine.shapes:
        most = max((min(tallest, machine.rows_in_set) if clash else tallest) // group, 1)
        for rows in range(1, 60):
            height = machine.heights(rows, vectors, group, clash)
            assert 1 <= height <= most
            tiles = -(-rows // height)
            assert tiles == -(-rows // most)
            assert height == -(-rows // tiles)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(49, 13), (14, 14), (15, 8), (28, 14), (37, 13), (1, 1), (0, 1)],
)
def test_heights_are_equal(rows: int, wanted: int) -> None:
    assert WIDE.heights(rows, 2) == wanted


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (n, 8),
        (n + 1, 8),
        (n * m, 8),
        (7 * n, 8),  # 7 would leave no remainder, but 8 are more
        (9 * n, 9),
        (12 * n, 12),
        (14 * n, 14),
        (28 * n + 14 * m, 14),
        (28 * n + 13, 8),
        (196 * n, 14),
        (49 * n, 8),
        (3136 * n, 14),
        (30 * n, 10),
    ],
    ids=str,
)
def test_heights_of_symbolic_rows(rows: Dim, wanted: int) -> None:
    """A height that divides the rows whatever the sizes, if it is no less than 8; else 8 or what the registers allow."""
    assert WIDE.heights(rows, 2) == wanted
    assert WIDE.heights(rows, 2, clash=True) == 8
    assert WIDE.heights(rows, 4) == 6
    assert WIDE.heights(rows, 99) == 4


@pytest.mark.parametrize("rows", [1, 5, n, 6 * n], ids=str)
def test_a_height_is_at_least_one(rows: Dim) -> None:
    """A group of more rows than the set or the registers hold."""
    for vectors in (1, 2, 3, 4):
        for group in (5, 7, 9, 20):
            for clash in (False, True):
                assert WIDE.heights(rows, vectors, group, clash) >= 1


@pytest.mark.parametrize("dtype", [f16, f32, f64], ids=str)
def test_rows_are_spaced(dtype: DType) -> None:
    for rows in range(1, 5000):
        step = WIDE.spaced(rows, dtype)
        assert isinstance(step, int)
        size = rows * dtype.itemsize
        assert step - rows == (LINE // dtype.itemsize if size % (WIDE.way // 4) == 0 else 0)
        places = {step * dtype.itemsize * i % WIDE.way // LINE for i in range(8)}
        assert size < LINE or size % LINE or len(places) >= 4


@pytest.mark.parametrize("size", [0, n, 1024 * n, n + 256], ids=str)
def test_rows_of_no_or_unknown_size_are_not_spaced(size: Dim) -> None:
    assert WIDE.spaced(size, f32) == size


# ---- programs: rows in chunks, rows apart -----------------------------------------------------------------------------------

SMALL = {"l2": 1 << 16}
"""A cache so small that B streams by, and few rows of 512 are a chunk."""


def units(*shape: int, seed: int = 0) -> Array:
    """-1, 0 and 1: sums over 512 and more are exact."""
    return integers(*shape, low=-1, high=2, seed=seed).astype(np.float32)


def tiles(s: Stmt) -> list[Tile]:
    if isinstance(s, Seq):
        return [t for part in s.body for t in tiles(part)]
    if isinstance(s, If):
        return tiles(s.then) + (tiles(s.otherwise) if s.otherwise else [])
    return tiles(s.body) if isinstance(s, (For, Alloc)) else [s] if isinstance(s, Tile) else []


def all_tiles(program: Compiled) -> list[Tile]:
    return [t for k in program.lowered.kernels.values() for t in tiles(k.body)]


def test_symbolic_rows_in_chunks() -> None:
    program = compiled(linalg.matmul, "f32[m, 512]", units(512, 200), machine=SMALL)
    assert any(t.ahead is not None for t in all_tiles(program)), "B streams by"
    for rows in (0, 1, 7, 8, 9, 15, 17, 31, 33, 500):
        program.check(units(rows, 512), interpreted=rows < 10)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 17, 31, 65, 129, 500])
def test_fixed_rows_in_chunks(rows: int) -> None:
    program = compiled(
        lambda x, w: pointwise.pointwise(abs_of, linalg.matmul(x, w)), f"f32[{rows}, 512]", units(512, 40), machine=SMALL
    )
    program.check(units(rows, 512), interpreted=rows < 10)


def abs_of(e: scalar.Expr) -> scalar.Expr:
    return scalar.apply("abs", e)


def test_a_matrix_for_each_of_a_batch_in_chunks() -> None:
    """Chunks and panels stand inside the loops that B has."""
    program = compiled(linalg.matmul, "f32[3, m, 512]", units(3, 512, 100), machine=SMALL)
    for rows in (0, 1, 8, 9, 33):
        program.check(units(3, rows, 512), interpreted=False)


@pytest.mark.parametrize("pictures", ["5", "n"])
@pytest.mark.parametrize("plain", [False, True])
def test_seven_rows_of_each_picture_in_chunks(plain: bool, pictures: str) -> None:
    """A tile takes the rows of one picture at the most where they clash: a chunk that is short of pictures has blocks of none."""

    def product(x: Tensor, w: Tensor) -> Tensor:
        y = linalg.matmul(movement.sliced(x, [0], [7], [1], [1]), w)
        return y if plain else add(y, y)

    program = compiled(product, f"f32[{pictures}, 8, 1024]", units(1024, 32), machine={"l2": 1 << 17})
    x = units(5, 8, 1024)
    Interpreted(program.lowered, [x], program.sizes([x]), program.constants).outputs()  # first: it finds what lies outside
    for n in (5,) if pictures == "5" else (0, 1, 5, 7):
        program.check(units(n, 8, 1024), interpreted=False)


@pytest.mark.parametrize("k", [255, 256, 512, 1024])
def test_rows_that_lie_apart(k: int) -> None:
    """What a tile reads lies in rows with gaps: read again by other readers, written in parts, asked for."""

    def clipped(x: Tensor) -> Tensor:
        return pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, -1), 1), x)

    def chain(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> list[Tensor]:
        h = clipped(linalg.matmul(x, a))
        y = linalg.matmul(h, b)
        whole = movement.concat(clipped(x), clipped(y), axis=1)
        return [y, along("add", h, [1]), linalg.transpose(h), linalg.matmul(whole, c)]

    program = compiled(chain, f"f32[m, {k - 40}]", units(k - 40, k), units(k, 40), units(k, 24), machine={"l2": 1 << 14})
    for rows in (0, 1, 2, 9, 30):
        program.check(units(rows, k - 40))


# ---- the processor's caches ---------------------------------------------------------------------------------------------------


def test_a_machine_has_its_processors_caches() -> None:
    """An L1 of 32 KiB in 8 ways: 5 rows in a set instead of 8. Ways of 16 KiB: rows of 64 KiB are spaced."""
    small = machine_for(replace(AVX512, caches=Caches(32 << 10, 8, 1 << 20, 8 << 20)))
    assert (small.way, small.ways, small.rows_in_set, small.l2) == (4096, 8, 5, 1 << 20)
    assert small.heights(40, 2, clash=True) == 5
    assert WIDE.heights(40, 2, clash=True) == 8
    wide_ways = machine_for(replace(AVX512, caches=Caches(64 << 10, 4, 1 << 20, 8 << 20)))
    rows = 4 * wide_ways.way // f32.itemsize
    assert (wide_ways.spaced(rows, f32), wide_ways.way) == (rows + LINE // f32.itemsize, 16 << 10)
