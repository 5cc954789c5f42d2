"""Nests as loops: reductions of every kind, convolutions, folded loops, element types, and rows that are left over."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, f32, f64
from sardonyx.base.symbolic import round_up, substitute
from sardonyx.codegen import features
from sardonyx.codegen.loop_analysis import all_statements
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.pieces import piecewise
from sardonyx.expr.tensor import Read, Tensor, compute, reduction
from sardonyx.loop.nodes import Alloc, For, Index, Op, Tile
from sardonyx.lower.schedule import Call
from sardonyx.ops import linalg, norm, pointwise, pool, softmax
from sardonyx.ops.conv import conv
from sardonyx.ops.pointwise import add, along, cast, mean_along
from tests.lower.harness import Interpreted, compiled, integers, reals

HARDWARE = [features.host(), features.AVX2, features.SSE2]
SIZES = (0, 1, 2, 7, 16, 33)


# ---- reductions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
@pytest.mark.parametrize("axes", [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_sums_over_any_axes(axes: list[int], target: features.Target) -> None:
    program = compiled(lambda x: along("add", x, axes), "f32[a, b, c]", target=target)
    for shape in ((1, 1, 1), (3, 5, 7), (2, 17, 33), (0, 3, 4), (3, 0, 4), (3, 4, 0), (2, 1, 64)):
        program.check(reals(*shape))


@pytest.mark.parametrize("fn", ["add", "mul", "min", "max"])
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "i32", "i64", "u8", "i8", "u64"])
def test_reductions_in_all_element_types(fn: str, dtype: str) -> None:
    program = compiled(lambda x: [along(fn, x, [1]), along(fn, x, [0])], f"{dtype}[m, n]")
    numpy = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16}.get(dtype)
    kind = numpy or np.dtype({"i": "int", "u": "uint"}[dtype[0]] + dtype[1:])
    for m, n in ((1, 1), (3, 9), (9, 3), (2, 40)):
        low, high = (1, 3) if fn == "mul" else (0, 5)
        program.check(integers(m, min(n, 8) if fn == "mul" else n, low=low, high=high, dtype=kind))


@pytest.mark.parametrize("fn", ["and", "or", "xor"])
def test_reductions_of_bools(fn: str) -> None:
    program = compiled(lambda x: [reduced(fn, x, 1), reduced(fn, x, 0)], "bool[m, n]")
    for m, n in ((1, 1), (3, 40), (40, 3), (0, 2), (2, 0)):
        program.check(integers(m, n, low=0, high=2, dtype=np.bool_))


def reduced(fn: str, x: Tensor, axis: int) -> Tensor:
    n = x.shape[1 - axis]
    return reduction(fn, boolean, [n], [x.shape[axis]], lambda i, r: at(x, (i, r) if axis else (r, i)))


@pytest.mark.parametrize("fn", ["min", "max"])
def test_extremes_of_nothing_and_of_nan(fn: str) -> None:
    program = compiled(lambda x: along(fn, x, [1]), "f32[m, n]")
    program.check(reals(3, 0))
    x = reals(4, 20)
    x[1, 3], x[2, 19], x[3, 0] = np.nan, np.inf, -np.inf
    program.check(x)


def test_a_reduction_over_everything() -> None:
    program = compiled(lambda x: along("add", x, [0, 1]), "f32[m, n]")
    for m, n in ((1, 1), (100, 70), (0, 5), (5, 0), (3, 5000)):
        program.check(reals(m, n), tolerance=1e-5)


def test_a_reduction_of_a_reduction() -> None:
    program = compiled(lambda x: along("max", along("add", x, [1]), [0]), "f32[m, n]")
    for m, n in ((1, 1), (33, 7), (5, 64)):
        program.check(reals(m, n))


def test_a_reduction_of_a_scalar_loop() -> None:
    """Over an axis of one element there is no loop."""
    program = compiled(lambda x: along("add", x, [1]), "f32[m, 1]")
    for m in SIZES:
        program.check(reals(m, 1))


def test_variance_from_nine_nodes_along_each_axis() -> None:
    for axis in (0, 1, 2):

        def variance(x: Tensor, axis: int = axis) -> Tensor:
            d = pointwise.sub(x, mean_along(x, [axis]))
            v = mean_along(pointwise.mul(d, d), [axis])
            return pointwise.div(d, pointwise.pointwise(lambda e: scalar.apply("sqrt", scalar.add(e, 1e-5)), v))

        program = compiled(variance, "f32[a, b, c]")
        for shape in ((1, 1, 1), (3, 5, 7), (2, 17, 33), (0, 3, 4)):
            program.check(reals(*shape), tolerance=2e-5)


# ---- maps ---------------------------------------------------------------------------------------------------------------


def test_loops_fold_where_all_addresses_agree() -> None:
    program = compiled(lambda x, y: add(x, y), "f32[a, b, c]", "f32[a, b, c]")
    (kernel,) = program.lowered.kernels.values()
    assert len(kernel.sizes) == 3
    for shape in ((1, 1, 1), (3, 5, 7), (0, 1, 2), (7, 33, 65)):
        program.check(reals(*shape), reals(*shape, seed=1))


def test_loops_stay_where_one_address_differs() -> None:
    program = compiled(lambda x, y: add(x, linalg.transpose(y, [0, 2, 1])), "f32[a, b, c]", "f32[a, c, b]")
    for a, b, c in ((1, 1, 1), (2, 5, 7), (3, 16, 33), (0, 1, 2)):
        program.check(reals(a, b, c), reals(a, c, b))


def test_scalars() -> None:
    program = compiled(lambda x, y: add(x, y), "f32[]", "f32[]")
    program.check(reals(), reals(seed=1))


def test_few_rows_are_dealt_out_one_by_one() -> None:
    program = compiled(lambda x: softmax.softmax_over(x, [1]), "f32[m, 33]")
    (call,) = program.lowered.segments[0].steps
    assert isinstance(call, Call)
    assert isinstance(call.kernel.body, For)
    sizes = dict(zip(call.kernel.sizes, call.sizes, strict=True))
    blocks = substitute(call.kernel.body.hi, sizes)
    for m, count in ((0, 0), (1, 1), (7, 7), (8, 8), (9, 8), (64, 8), (65, 9), (800, 100)):
        x = reals(m, 33)
        assert Interpreted(program.lowered, [x], program.sizes([x]), []).number(blocks) == count
        program.check(x)


@pytest.mark.parametrize("n", [2047, 2048, 2049, 10_000])
def test_one_long_axis_is_dealt_in_chunks(n: int) -> None:
    compiled(lambda x: add(x, x), "f32[n]").check(reals(n))


@pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("source", "target_type"), [("f32", f64), ("f64", f32), ("i64", f32), ("u8", f32), ("f16", f32), ("bool", f32)]
)
def test_maps_between_element_types(source: str, target_type: object, target: features.Target) -> None:
    program = compiled(lambda x: cast(x, target_type), f"{source}[m, n]", target=target)  # type: ignore[arg-type]
    kinds = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "u8": np.uint8, "f16": np.float16, "bool": np.bool_}
    for m, n in ((0, 3), (1, 1), (5, 33)):
        program.check(integers(m, n, low=0, high=2, dtype=kinds[source]))


# ---- empty tensors everywhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 0, 0)])
def test_fixed_empty_shapes(shape: tuple[int, ...]) -> None:
    signature = f"f32[{', '.join(map(str, shape))}]"
    last = len(shape) - 1
    compiled(lambda x: add(x, x), signature).check(reals(*shape))
    compiled(lambda x: along("add", x, [0]), signature).check(reals(*shape))
    compiled(lambda x: along("add", x, [last]), signature).check(reals(*shape))
    compiled(lambda x: softmax.softmax_over(x, [last]), signature).check(reals(*shape))
    if len(shape) > 1:
        compiled(linalg.matmul, signature, reals(shape[-1], 5)).check(reals(*shape))
        compiled(lambda x: linalg.matmul(x, linalg.transpose(x, [*range(last - 1), last, last - 1])), signature).check(
            reals(*shape)
        )


def test_a_sum_over_nothing_is_zero_in_a_tile() -> None:
    program = compiled(lambda x, w, b: add(linalg.matmul(x, w), b), "f32[m, 0]", reals(0, 20), reals(20))
    for m in SIZES:
        program.check(reals(m, 0))


# ---- convolutions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize(
    ("kernel", "attributes"), [(1, {}), (3, {"pads": [1, 1, 1, 1]}), (3, {"strides": [2, 2]}), (2, {"dilations": [2, 3]})]
)
def test_pictures(channels: int, kernel: int, attributes: dict[str, list[int]], target: features.Target) -> None:
    w = reals(20, channels, kernel, kernel)
    program = compiled(lambda x, w: conv(x, w, **attributes), f"f32[n, {channels}, h, v]", w, target=target)
    for n, h, v in ((1, 5, 7), (2, 9, 4), (0, 5, 5)):
        program.check(reals(n, channels, h, v), tolerance=1e-5)


@pytest.mark.parametrize(("rank", "sizes"), [(1, (9,)), (3, (3, 4, 5))])
def test_lines_and_volumes(rank: int, sizes: tuple[int, ...]) -> None:
    w = reals(10, 4, *[2] * rank)
    for pads in ([0] * 2 * rank, [1] * 2 * rank):
        program = compiled(lambda x, w, pads=pads: conv(x, w, pads=pads), "f32[n, 4, " + ", ".join("abc"[:rank]) + "]", w)
        for n in (0, 1, 3):
            program.check(reals(n, 4, *sizes))


@pytest.mark.parametrize(("groups", "own", "outputs"), [(4, 1, 4), (4, 1, 8), (3, 2, 6), (2, 8, 40), (8, 1, 24), (2, 3, 2)])
def test_groups(groups: int, own: int, outputs: int) -> None:
    """Depthwise, with a multiplier, and groups of several channels."""
    w = reals(outputs, own, 3, 3)
    program = compiled(lambda x, w: conv(x, w, group=groups, pads=[1, 1, 1, 1]), f"f32[n, {groups * own}, h, v]", w)
    for n, h, v in ((1, 5, 5), (2, 4, 9), (0, 3, 3)):
        program.check(reals(n, groups * own, h, v), tolerance=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_small_pictures(size: int) -> None:
    """Rows so short that a tile takes those of several lines or pictures; with a bias, an activation and a residual."""

    def block(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
        y = conv(x, w, b, pads=[1, 1, 1, 1])
        return pointwise.pointwise(lambda e: scalar.maximum(e, 0), add(y, r))

    program = compiled(block, f"f32[n, 16, {size}, {size}]", reals(32, 16, 3, 3), reals(32), f"f32[n, 32, {size}, {size}]")
    for n in (0, 1, 3):
        program.check(reals(n, 16, size, size), reals(n, 32, size, size), tolerance=1e-5)


def test_weights_that_are_fed() -> None:
    program = compiled(lambda x, w: conv(x, w, pads=[1, 1, 1, 1]), "f32[n, 4, h, v]", "f32[m, 4, 3, 3]")
    for n, m, h in ((1, 1, 5), (2, 20, 4), (1, 0, 4)):
        program.check(reals(n, 4, h, h), reals(m, 4, 3, 3))


@pytest.mark.parametrize("dtype", ["f64", "f16"])
def test_convolutions_in_other_floats(dtype: str) -> None:
    kind = {"f64": np.float64, "f16": np.float16}[dtype]
    program = compiled(lambda x, w: conv(x, w), f"{dtype}[n, 4, h, v]", integers(10, 4, 3, 3, low=-2, high=3).astype(kind))
    program.check(integers(2, 4, 5, 6).astype(kind))


def test_a_chain_of_convolutions() -> None:
    """Each picture between two lies as the next one reads it."""

    def chain(x: Tensor, a: Tensor, d: Tensor, b: Tensor) -> Tensor:
        relu = lambda t: pointwise.pointwise(lambda e: scalar.minimum(scalar.maximum(e, 0), 6), t)  # noqa: E731
        y = relu(conv(x, a))
        y = relu(conv(y, d, group=24, pads=[1, 1, 1, 1]))
        return add(conv(y, b), x)

    program = compiled(chain, "f32[n, 8, h, v]", reals(24, 8, 1, 1), reals(24, 1, 3, 3), reals(8, 24, 1, 1))
    for n, h, v in ((1, 4, 4), (2, 7, 5), (1, 1, 1)):
        program.check(reals(n, 8, h, v), tolerance=1e-5)


def test_pools_and_batch_normalisation() -> None:
    def net(x: Tensor, s: Tensor, b: Tensor, mean: Tensor, v: Tensor) -> list[Tensor]:
        y = norm.batch_normalization_7(x, s, b, mean, v)
        made = y if isinstance(y, Tensor) else next(iter(y))
        return [pool.max_pool(made, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])[0], pool.global_average_pool(made)]

    program = compiled(net, "f32[n, 4, h, w]", reals(4), reals(4, seed=1), reals(4, seed=2), np.abs(reals(4, seed=3)) + 1)
    for n, h, w in ((1, 5, 5), (2, 3, 8), (0, 4, 4)):
        program.check(reals(n, 4, h, w), tolerance=1e-5)


# ---- rows that are left over ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", range(30))
def test_every_number_of_rows(m: int) -> None:
    SYMBOLIC.check(reals(m, 16))
    compiled(linalg.matmul, f"f32[{m}, 16]", reals(16, 48)).check(reals(m, 16))


SYMBOLIC = compiled(linalg.matmul, "f32[m, 16]", reals(16, 48))


@pytest.mark.parametrize(("each", "least"), [(1, 1), (2, 2), (3, 3), (9, 4), (49, 4)])
def test_heights_that_a_number_of_rows_can_have(each: int, least: int) -> None:
    """each rows a picture, any number of pictures: no tile is made for blocks that there never are."""
    program = compiled(lambda x, w: linalg.matmul(x, w), f"f32[n, {each}, 40]", reals(40, 32))
    (call,) = program.lowered.segments[0].steps
    assert isinstance(call, Call)
    (tile,) = (s for s in all_statements(call.kernel.body) if isinstance(s, Tile))
    assert tile.heights == tuple(range(least, max(tile.heights) + 1))
    for n in range(20):
        program.check(reals(n, each, 40), tolerance=1e-5)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 80, 95, 96, 97, 130])
def test_every_number_of_columns(n: int) -> None:
    compiled(linalg.matmul, "f32[m, 16]", reals(16, n)).check(reals(5, 16))
    COLUMNS.check(reals(5, 16), reals(16, n))


COLUMNS = compiled(linalg.matmul, "f32[m, 16]", "f32[16, n]")


def test_nan_stays_in_its_row_and_column() -> None:
    x, w = reals(5, 8), reals(8, 20)
    x[2, 3] = np.nan
    program = compiled(linalg.matmul, "f32[m, 8]", "f32[8, 20]")
    (got,) = program.check(x, w)
    assert np.isnan(got[2]).all()
    assert not np.isnan(np.delete(got, 2, 0)).any()


def test_a_map_of_constants_alone() -> None:
    program = compiled(lambda: compute(f32, (3, 4), lambda i, j: scalar.cast(scalar.index(i * 4 + j), f32)))
    program.check()


@pytest.mark.parametrize("n", [1, 5, 6, 7, 40])
def test_arms_of_a_remainder(n: int) -> None:
    """A loop split where it doesn't divide evenly; of one turn; beside reduced loops."""
    many = lambda x, i, k: piecewise(i % 3, [at(x, (i // 3, k)), scalar.mul(at(x, (i, k)), 2), scalar.literal(1.0, f32)])  # noqa: E731
    compiled(lambda x: compute(f32, (n, 20), lambda i, k: many(x, i, k)), f"f32[{n}, 20]").check(reals(n, 20))
    for m in (4, 20):
        compiled(lambda x, m=m: reduction("add", f32, [n], [m], lambda i, k: many(x, i, k)), f"f32[{n}, {m}]").check(reals(n, m))


def test_a_guarded_reader_of_a_row() -> None:
    """y has more rows than the sums: those past the end must not be computed."""

    def extended(x: Tensor, y: Tensor) -> Tensor:
        s = along("add", x, [1])
        return compute(f32, y.shape, lambda i, j: scalar.add(at(y, (i, j)), Read(s, (i, 0), Op("lt", Index(i), Index(s.shape[0])))))

    compiled(extended, "f32[m, 40]", "f32[n, 40]").check(reals(3, 40), reals(40, 40))


@pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("channels", "taps", "stride", "l2"), [(33, 3, 1, 1 << 21), (64, 5, 1, 1 << 21), (80, 3, 2, 1 << 21), (64, 3, 1, 1)]
)
def test_windows_over_many_channels(channels: int, taps: int, stride: int, l2: int, target: features.Target) -> None:
    """In chunks of channels, where a picture fits the cache; the sums of several pixels side by side."""

    def depthwise(x: Tensor, w: Tensor) -> Tensor:
        planes = pointwise.view(x, [x.shape[0], channels, 9, 10], lambda n, c, i, j: (n, i, j, c))
        y = conv(planes, w, group=channels, pads=[taps // 2] * 4, strides=[stride, stride])
        return pointwise.view(y, [y.shape[0], *y.shape[2:], channels], lambda n, i, j, c: (n, c, i, j))

    weights = reals(channels, 1, taps, taps)
    program = compiled(depthwise, f"f32[n, 9, 10, {channels}]", weights, target=target, machine={"fma": target.fma, "l2": l2})
    for n in (0, 1, 3):
        program.check(reals(n, 9, 10, channels), tolerance=1e-5)


@pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
def test_rows_of_scratch_are_whole_vectors(target: features.Target) -> None:
    """So that each row begins where a vector may begin, and the last vector of a row may be stored whole."""
    program = compiled(lambda x: softmax.softmax_over(x, [1]), "f32[n, 37]", target=target)
    kernels = program.lowered.kernels.values()
    sizes = [s.size for k in kernels for s in all_statements(k.body) if isinstance(s, Alloc) and isinstance(s.size, int)]
    row = round_up(37, target.lanes(f32))
    assert [size for size in sizes if size >= 37]
    assert all(size % row == 0 for size in sizes if size >= 37)
