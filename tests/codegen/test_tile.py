"""The contraction kernel: every height, static and symbolic strides, steps, dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from sardonyx.base.dtypes import DType, bf16, f16, f32, f64, i8, i32, u8
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, Symbol, minimum, value
from sardonyx.codegen.compile import compile_kernel, ir_text
from sardonyx.codegen.features import SSE2, Target, host
from sardonyx.loop.blocks import BLOCK
from sardonyx.loop.groups import PAIRS, QUADS, Group
from sardonyx.loop.nodes import Buffer, For, Kernel, Step, Stmt, Tile, sequence
from sardonyx.loop.printer import text
from tests.codegen.harness import TARGETS, run

M, K = Symbol("m"), Symbol("k")
m = value(M)
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def matmul(
    k: Dim, panels: int, vectors: int, target: Target, dtypes: tuple[DType, DType, DType], ahead: bool
) -> tuple[Kernel, int]:
    """c[m, panels * width] = a[m, k] times b, packed in panels of [k, width]; rows in blocks. -> (kernel, width)"""
    a, b, c = (Buffer(n, d) for n, d in zip("abc", dtypes, strict=True))
    width = vectors * target.lanes(dtypes[2])
    most = target.tile_rows(vectors)
    columns = panels * width
    blocks, panel = Symbol("r", (m + most - 1) // most), Symbol("p", panels)
    r, p = value(blocks) * most, value(panel)
    tile = Tile(
        rows=minimum(m - r, most),
        heights=tuple(range(1, most + 1)),
        width=width,
        a=a,
        a_offset=r * k,
        a_row=k,
        b=b,
        b_offset=p * k * width,
        c=c,
        c_offset=r * columns + p * width,
        c_row=columns,
        steps=(Step(k, 1, width),),
        ahead=(p + 1) * k * width if ahead else None,
    )
    sizes = (M, K) if not isinstance(k, int) else (M,)
    rows = For(blocks, 0, (m + most - 1) // most, "serial", tile)
    return Kernel("matmul", (a, b, c), sizes, For(panel, 0, panels, "parallel", rows)), width


def whole(shape: tuple[int, ...], dtype: DType, seed: int) -> np.ndarray:
    low = 0 if dtype.kind == "uint" else -5
    return np.random.default_rng(seed).integers(low, 6, shape).astype(dtype.numpy)


@every_target
@pytest.mark.parametrize("k", [0, 1, 3, 4, 37, None])
@pytest.mark.parametrize("dtypes", [(f32, f32, f32), (f64, f64, f64), (u8, i8, i32), (f32, bf16, f32), (bf16, bf16, f32)], ids=str)
def test_matmul(dtypes: tuple[DType, DType, DType], k: int | None, target: Target) -> None:
    kernel, width = matmul(value(K) if k is None else k, 2, 2, target, dtypes, ahead=k != 4)
    depth = 21 if k is None else k
    for rows in (1, 2, 7, 15, 30):
        a, b = whole((rows, depth), dtypes[0], 1), whole((depth, 2 * width), dtypes[1], 2)
        packed = np.ascontiguousarray(b.reshape(depth, 2, width).swapaxes(0, 1))
        c = np.full((rows, 2 * width), 99, dtypes[2].numpy)
        run(kernel, [a, packed, c], {"m": rows, "k": depth}, target, threads=2)
        np.testing.assert_array_equal(c, a.astype(np.float64) @ b.astype(np.float64))


@every_target
@pytest.mark.parametrize("k", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5, None])
@pytest.mark.parametrize("dtypes", [(f32, f32, f32), (f64, f64, f64), (u8, i8, i32)], ids=str)
def test_a_long_k_in_blocks(dtypes: tuple[DType, DType, DType], k: int | None, target: Target) -> None:
    """Every product is summed once, at each height, into memory that held something else."""
    kernel, width = matmul(value(K) if k is None else k, 1, 4, target, dtypes, ahead=True)
    for depth in (0, 5, 300, 4 * BLOCK + 3) if k is None else (k,):
        for rows in (1, 2, 3, 4):
            a, b = whole((rows, depth), dtypes[0], 1), whole((depth, width), dtypes[1], 2)
            c = np.full((rows, width), 99, dtypes[2].numpy)
            run(kernel, [a, b, c], {"m": rows, "k": depth}, target)
            np.testing.assert_array_equal(c, a.astype(np.float64) @ b.astype(np.float64))


@every_target
@pytest.mark.parametrize("extents", [(3, 3, 90), (2, 3, 300), (300, 2), (5, 1, 257), (1, 700), (0, 300), (300, 0)], ids=str)
@pytest.mark.parametrize("symbolic", [False, True])
def test_blocks_of_nested_steps(extents: tuple[int, ...], symbolic: bool, target: Target) -> None:
    """The last loop, one around it, or none is divided; the loops' extents are numbers, or the first one's is known at run time."""
    a, b, c = Buffer("a", f32), Buffer("b", f32), Buffer("c", f32)
    width, depth = target.lanes(f32), int(np.prod(extents))
    moves = [int(np.prod(extents[i + 1 :])) for i in range(len(extents))]
    counts: list[Dim] = [value(K) if symbolic and i == 0 else n for i, n in enumerate(extents)]
    steps = tuple(Step(n, move, move * width) for n, move in zip(counts, moves, strict=True))
    for rows in (1, 3, 6):
        tile = Tile(rows, (rows,), width, a, 0, depth, b, 0, c, 0, width, steps)
        kernel = Kernel("nested", (a, b, c), (K,) if symbolic else (), tile)
        x, w = whole((rows, depth), f32, 1), whole((depth, width), f32, 2)
        got = np.full((rows, width), 99, np.float32)
        run(kernel, [x, w, got], {"k": extents[0]}, target)
        np.testing.assert_array_equal(got, x @ w)


@every_target
@pytest.mark.parametrize("k", [14_000, None])
def test_a_long_sum_is_nearly_exact(k: int | None, target: Target) -> None:
    """Of equal products, whose rounding errors add up: one running sum is 9e-5 off."""
    kernel, width = matmul(value(K) if k is None else k, 1, 1, target, (f32, f32, f32), ahead=False)
    for rows in (1, 4):
        a, b = np.ones((rows, 14_000), np.float32), np.full((14_000, width), 1e-4, np.float32)
        c = np.zeros((rows, width), np.float32)
        run(kernel, [a, b, c], {"m": rows, "k": 14_000}, target)
        exact = 14_000 * float(np.float32(1e-4))
        assert abs(c - exact).max() < 4e-6 * exact


@every_target
def test_what_is_not_finite_passes_through_blocks(target: Target) -> None:
    kernel, width = matmul(3 * BLOCK, 1, 1, target, (f32, f32, f32), ahead=False)
    a, b = np.ones((4, 3 * BLOCK), np.float32), np.ones((3 * BLOCK, width), np.float32)
    a[1, 0], a[2, BLOCK], a[3, -1] = np.inf, np.nan, -np.inf
    c = np.zeros((4, width), np.float32)
    run(kernel, [a, b, c], {"m": 4}, target)
    np.testing.assert_array_equal(c[:, 0], [3 * BLOCK, np.inf, np.nan, -np.inf])


@every_target
def test_every_shape(target: Target) -> None:
    for vectors, rows in target.tile_shapes:
        kernel, width = matmul(9, 1, vectors, target, (f32, f32, f32), ahead=True)
        a, b = whole((rows, 9), f32, 1), whole((9, width), f32, 2)
        c = np.zeros((rows, width), np.float32)
        run(kernel, [a, b, c], {"m": rows}, target)
        np.testing.assert_array_equal(c, a @ b)


@every_target
@pytest.mark.parametrize("symbolic", [False, True])
def test_convolution_window(symbolic: bool, target: Target) -> None:
    """Rows are output pixels, k runs over the window's rows and over (column, channel) in one: two steps."""
    a, b, c = Buffer("a", f32), Buffer("b", f32), Buffer("c", f32)
    width, channels, rows = target.lanes(f32), 3, 5
    line: Dim = value(K) if symbolic else (rows + 2) * channels
    steps = (Step(3, line, 3 * channels * width), Step(3 * channels, 1, width))
    tile = Tile(rows, (rows,), width, a, 0, channels, b, 0, c, 0, width, steps)
    kernel = Kernel("window", (a, b, c), (K,) if symbolic else (), tile)
    x, w = whole((3, rows + 2, channels), f32, 1), whole((3, 3, channels, width), f32, 2)
    got = np.zeros((rows, width), np.float32)
    run(kernel, [x, w, got], {"k": (rows + 2) * channels}, target)
    want = [np.tensordot(x[:, i : i + 3], w, 3) for i in range(rows)]
    np.testing.assert_array_equal(got, want)


def window(rows: int, lines: int | None, symbolic: bool, width: int) -> Kernel:
    """A 3 x 3 window in three steps over lines of `rows` + 2 pixels with 5 channels."""
    a, b, c = Buffer("a", f32), Buffer("b", f32), Buffer("c", f32)
    line: Dim = value(K) if symbolic else (rows + 2) * 5
    steps = (Step(3, line, 15 * width), Step(3, 5, 5 * width), Step(5, 1, width))
    ahead = None if lines is None else 45 * width
    tile = Tile(rows, (rows,), width, a, 0, 5, b, 0, c, 0, width, steps, ahead, lines=lines or 1)
    return Kernel("window", (a, b, c), (K,) if symbolic else (), tile)


@every_target
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("rows", [1, 5, None])
def test_prefetching_changes_no_bits(rows: int | None, symbolic: bool, target: Target) -> None:
    """Whatever its rate, over nested steps, past the end of b."""
    rows = rows or target.tile_shapes[0][1]
    width = target.tile_shapes[0][0] * target.lanes(f32)
    generator = np.random.default_rng(rows)
    x, w = (generator.standard_normal(n, np.float32) for n in (3 * (rows + 2) * 5, 45 * width))
    got = []
    for lines in (None, 1, 2, 3, 7):
        out = np.zeros((rows, width), np.float32)
        run(window(rows, lines, symbolic, width), [x, w, out], {"k": (rows + 2) * 5}, target)
        got.append(out)
    picture, kernel = x.reshape(3, rows + 2, 5), w.reshape(3, 3, 5, width)
    wanted = [np.tensordot(picture[:, i : i + 3], kernel, 3) for i in range(rows)]
    np.testing.assert_allclose(got[0], wanted, rtol=1e-4, atol=1e-4)
    assert len({g.tobytes() for g in got}) == 1


@every_target
def test_the_rate_of_prefetching(target: Target) -> None:
    """Lines for every two turns of k; at least one a turn of the loop that is written."""
    width = target.lanes(f32)
    assert "ahead" not in text(window(5, None, False, width))
    assert "prefetch" not in ir_text(window(5, None, False, width), target)
    for lines in (1, 2, 3, 7):
        kernel = window(5, lines, False, width)
        assert f"ahead {45 * width} by {lines}" in text(kernel)
        found = ir_text(kernel, target)
        assert f".ahead{lines}" in found
        assert found.count('call void @"llvm.prefetch.p0"') == lines, "two turns of k are written out"
    kernel = window(5, 2, False, width)
    assert isinstance(kernel.body, Tile)
    both = replace(kernel, body=sequence([kernel.body, replace(kernel.body, lines=3)]))
    assert ".ahead2" in ir_text(both, target), "tiles of one shape and two rates are two functions"
    assert ".ahead3" in ir_text(both, target)


def test_what_has_no_tile() -> None:
    a, b, c = Buffer("a", f16), Buffer("b", f32), Buffer("c", f32)
    tile = Tile(1, (1,), 16, a, 0, 1, b, 0, c, 0, 16, (Step(2, 1, 16),))
    with pytest.raises(Unsupported, match="f16"):
        compile_kernel(Kernel("t", (a, b, c), (), tile), SSE2)
    with pytest.raises(Unsupported, match="17 columns"):
        compile_kernel(Kernel("t", (b, b, c), (), Tile(1, (1,), 17, b, 0, 1, b, 0, c, 0, 17, (Step(2, 1, 17),))), host())


@every_target
@pytest.mark.parametrize("group", [PAIRS, QUADS], ids=["pairs", "quads"])
@pytest.mark.parametrize("groups", [1, 2, 9, None])
def test_groups_along_k(groups: int | None, group: Group, target: Target) -> None:
    """Rows of A and columns of B hold groups of neighbours along k; sums wrap as i32 does."""
    kernel, width = matmul(value(K) if groups is None else groups, 2, 2, target, (group.a, group.b, i32), ahead=True)
    kernel = replace(kernel, body=grouped(kernel.body, group.count))
    if group not in target.groups:
        with pytest.raises(Unsupported, match="groups"):
            compile_kernel(kernel, target)
        return
    depth = 5 if groups is None else groups
    for rows in (1, 3, 15):
        by = np.random.default_rng(rows)
        a, b = (
            by.choice([np.iinfo(d.numpy).min, np.iinfo(d.numpy).max, 1, 0], size).astype(d.numpy)
            for d, size in ((group.a, (rows, depth * group.count)), (group.b, (depth * group.count, 2 * width)))
        )
        packed = np.ascontiguousarray(b.reshape(depth, group.count, 2, width).transpose(2, 0, 3, 1))
        c = np.full((rows, 2 * width), 99, np.int32)
        run(kernel, [a, packed, c], {"m": rows, "k": depth}, target, threads=2)
        np.testing.assert_array_equal(c, (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32))


def grouped(s: Stmt, count: int) -> Stmt:
    """The tile inside s, over groups: each step of k is one group."""
    if isinstance(s, For):
        return replace(s, body=grouped(s.body, count))
    assert isinstance(s, Tile)
    steps = tuple(Step(t.extent, count, t.b * count) for t in s.steps)
    ahead = None if s.ahead is None else s.ahead * count
    return replace(
        s, group=count, steps=steps, ahead=ahead, a_offset=s.a_offset * count, a_row=s.a_row * count, b_offset=s.b_offset * count
    )
