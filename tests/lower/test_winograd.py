"""Winograd's minimal filtering: its matrices, which sums take it, and programs against numpy at every awkward size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime
import pytest

import sardonyx
from benchmarks import errors
from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Dim, symbol
from sardonyx.codegen import features
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Read, Tensor, constant, reduction
from sardonyx.loop import semantics
from sardonyx.loop.nodes import Expr, walk
from sardonyx.lower import sharing, winograd
from sardonyx.lower.constants import mark_constants
from sardonyx.lower.epilogue import readers_of
from sardonyx.lower.lowered import reachable
from sardonyx.lower.machine import Machine
from sardonyx.lower.place import inline_views
from sardonyx.lower.schedule import Repeat, Step
from sardonyx.lower.values import Value
from sardonyx.lower.winograd import VARIANTS, Matrix, choose, convolution, is_normalised, matrices, times
from sardonyx.ops import activation, linalg, movement, norm, pointwise, shape, softmax
from sardonyx.ops.conv import conv
from sardonyx.ops.pointwise import add, div, mean_along, mul, sub
from tests.lower.harness import Array, Compiled, compiled, parse, reals

SLOW = 1e6
"""Operations in a second of a core on which products are all that counts: small sums are rewritten too."""
PAD = [1, 1, 1, 1]
F = {v.m: v for v in VARIANTS}
W = reals(16, 16, 3, 3)
variants = pytest.mark.parametrize("m", [2, 4])


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Compiled]:
    """compiled(), every convolution by F(m, 3); asserts that `count` were rewritten."""

    def make(
        m: int,
        build: Callable[..., Any],
        *arguments: str | Array,
        count: int = 1,
        machine: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> Compiled:
        done: list[winograd.Rewrite] = []
        run = winograd.Rewrite.run
        with monkeypatch.context() as patch:
            patch.setattr(winograd, "VARIANTS", (F[m],))
            patch.setattr(winograd.Rewrite, "run", lambda self: [done.append(self), run(self)])
            made = compiled(build, *arguments, machine={"winograd": True, "flops": SLOW, **machine}, **options)
        assert len(done) == count
        return made

    return make


def relu(x: Tensor) -> Tensor:
    return pointwise.pointwise(lambda e: scalar.maximum(e, 0), x)


def same(x: Tensor, w: Tensor, *b: Tensor) -> Tensor:
    return conv(x, w, *b, pads=PAD)


# ---- matrices -----------------------------------------------------------------------------------------------------------


@variants
def test_matrices_give_correlations(m: int) -> None:
    a, b, g = matrices(F[m].points)
    assert (a.shape, b.shape, g.shape) == ((m, m + 2), (m + 2, m + 2), (m + 2, 3))
    for i in range(3):  # bilinear: the units say it all
        for j in range(m + 2):
            got = a @ ((g @ np.eye(3)[i]) * (b @ np.eye(m + 2)[j]))
            np.testing.assert_allclose(got, np.correlate(np.eye(m + 2)[j], np.eye(3)[i], "valid"), atol=1e-13)
    generator = np.random.default_rng(m)
    for _ in range(20):
        k, x = generator.integers(-9, 10, (3, 3)), generator.integers(-9, 10, (m + 2, m + 2))
        got = a @ ((g @ k @ g.T) * (b @ x @ b.T)) @ a.T
        wanted = [[(x[i : i + 3, j : j + 3] * k).sum() for j in range(m)] for i in range(m)]
        np.testing.assert_allclose(got, wanted, atol=1e-10)


@variants
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("fma", [False, True])
def test_times_is_the_product_with_a_matrix(fma: bool, which: int, m: int) -> None:
    matrix = matrices(F[m].points)[which]
    for transposed in (matrix, matrix.T.copy()):
        check_times(transposed, fma, 1e-5)


@pytest.mark.parametrize("fma", [False, True])
def test_times_of_any_matrix(fma: bool) -> None:
    """Rows and columns that mirror each other in every way, single terms, rows that repeat."""
    generator = np.random.default_rng(3)
    for _ in range(60):
        n, k = generator.integers(1, 7, 2)
        matrix = generator.integers(-2, 3, (n, k)).astype(np.float64)
        matrix[np.arange(n), generator.integers(0, k, n)] = generator.choice([-2, -1, 1, 2], n)  # none is zero
        check_times(matrix, fma, 0)


def check_times(matrix: Matrix, fma: bool, tolerance: float) -> None:
    k = matrix.shape[1]
    x = Tensor(f32, (k,), "x")
    exprs = times(matrix, [Read(x, (i,)) for i in range(k)], fma)
    assert fma or not any(getattr(n, "fn", "") == "fma" for e in exprs for n in walk(e))
    numbers = np.random.default_rng(0).integers(-9, 10, k).astype(np.float32)
    got = [evaluated(e, numbers) for e in exprs]
    wanted = matrix @ numbers.astype(np.float64)
    np.testing.assert_allclose(got, wanted, atol=tolerance * (1 + abs(matrix) @ abs(numbers)).max())


def evaluated(e: Expr, numbers: Array) -> Array:
    if isinstance(e, Read):
        return np.asarray(numbers[e.indices])
    if not e.args:
        return semantics.evaluate(e, np.asarray)
    return semantics.apply(e.fn, *(evaluated(a, numbers) for a in e.args))  # type: ignore[attr-defined]


# ---- which sums -----------------------------------------------------------------------------------------------------------


def choices(build: Callable[..., Tensor], *arguments: str | Array, **machine: Any) -> list[int | str | None]:
    """Of each sum: m, "direct" for a convolution that isn't worth it, None for what is no convolution."""
    found = Machine(**{"winograd": True, **machine})
    out = build(*(parse(a, "x") if isinstance(a, str) else constant(a, "w") for a in arguments))
    values = {t: Value(t) for t in reachable([out])}
    mark_constants(values, {out})
    inline_views(values, [out], found)
    sums = [v for v in values.values() if v.fn and v.place is None]
    readers = readers_of(values.values())
    convolutions = [(c, c is not None and is_normalised(v, values, readers)) for v in sums for c in [convolution(v, values)]]
    return [c and (f.m if (f := choose(c, found, exact)) else "direct") for c, exact in convolutions]


def weights(o: int, c: int, *kernel: int) -> Array:
    return np.zeros((o, c, *(kernel or (3, 3))), np.float32)


def test_what_is_a_convolution() -> None:
    slow = {"flops": SLOW}
    assert choices(same, "f32[n, 16, 8, 8]", weights(16, 16), **slow) == [4]
    assert choices(conv, "f32[n, 16, h, v]", weights(16, 16), **slow) == [4]
    assert choices(same, "f32[n, 16, 2, 2]", weights(16, 16), **slow) == [2]
    flat = choices(lambda x, w: conv(x, w, pads=[0, 1, 1] * 2), "f32[n, 16, 4, 8, 8]", weights(16, 16, 1, 3, 3), **slow)
    assert flat == [4], "planes of a volume"
    assert choices(lambda x, w: conv(x, w, pads=PAD, group=2), "f32[n, 32, 8, 8]", weights(32, 16), **slow) == [4]


def test_what_is_none() -> None:
    x, w = "f32[n, 16, 9, 9]", weights(16, 16)
    assert choices(lambda x, w: conv(x, w, strides=[2, 2]), x, w) == [None]
    assert choices(lambda x, w: conv(x, w, dilations=[2, 2]), x, w) == [None]
    assert choices(lambda x, w: conv(x, w, group=16), x, weights(16, 1)) == [None]
    for kernel in ((1, 1), (5, 5), (2, 2), (1, 3), (3, 1)):
        assert choices(conv, x, weights(16, 16, *kernel)) == [None]
    assert choices(conv, "f32[n, 16, 9]", weights(16, 16, 3)) == [None]
    assert choices(conv, "f32[n, 16, 9, 9, 9]", weights(16, 16, 3, 3, 3)) == [None]
    assert choices(conv, x, "f32[16, 16, 3, 3]") == [None], "weights that are fed"
    assert choices(conv, "f64[n, 16, 9, 9]", w.astype(np.float64)) == [None]
    assert choices(conv, "f16[n, 16, 9, 9]", w.astype(np.float16)) == [None]
    assert choices(linalg.matmul, "f32[n, 16]", np.zeros((16, 16), np.float32)) == [None]


def test_what_pays() -> None:
    assert choices(same, "f32[n, 64, 56, 56]", weights(64, 64)) == [4]
    assert choices(same, "f32[n, 64, 56, 56]", weights(64, 64), winograd=False) == ["direct"]
    assert choices(same, "f32[n, 256, h, v]", weights(256, 256)) == [4]
    assert choices(same, "f32[n, 64, 3, 3]", weights(64, 64)) == ["direct"], "few tiles: weights bound it"
    for c, o in ((15, 64), (64, 15), (3, 64)):
        assert choices(same, f"f32[n, {c}, 56, 56]", weights(o, c), flops=SLOW) == ["direct"]
    grouped = choices(lambda x, w: conv(x, w, pads=PAD, group=8), "f32[n, 64, 56, 56]", weights(64, 8), flops=SLOW)
    assert grouped == ["direct"], "few channels in a group"


def grouped_by_instances(y: Tensor) -> Tensor:
    """Group normalization as torch exports it: the groups as channels of an InstanceNormalization."""
    ones = constant(np.ones(8, np.float32))
    groups = shape.reshape(y, constant(np.array([0, 8, -1])))
    return shape.reshape(norm.instance_normalization(groups, ones, ones), constant(np.array([0, 64, 28, 28])))


def by_nine_nodes(y: Tensor) -> Tensor:
    centred = sub(y, mean_along(y, [1]))
    variance = mean_along(pointwise.pointwise(lambda e: scalar.apply("pow", e, 2), centred), [1])
    return div(centred, pointwise.pointwise(lambda v: scalar.apply("sqrt", scalar.add(v, 1e-5)), variance))


NORMALISED: dict[str, Callable[[Tensor], Tensor]] = {
    "instances": lambda y: norm.instance_normalization(y, constant(np.ones(64, np.float32)), constant(np.zeros(64, np.float32))),
    "groups": lambda y: norm.group_normalization(y, constant(np.ones(64, np.float32)), constant(np.zeros(64, np.float32)), 8),
    "groups as instances": grouped_by_instances,
    "nine nodes": by_nine_nodes,
    "after an activation": lambda y: norm.lp_normalization(relu(y), 1),
    "in a whole": lambda y: norm.mean_variance_normalization(movement.concat(y, y, axis=1)),
}
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda y: y,
    "activation": lambda y: pointwise.pointwise(lambda e: scalar.mul(e, activation.sigmoid(e)), y),
    "average": lambda y: mean_along(y, [2, 3]),
    "excitation": lambda y: mul(y, pointwise.pointwise(activation.sigmoid, mean_along(y, [2, 3]))),
    "softmax": lambda y: softmax.softmax_over(y, [1]),
}


@pytest.mark.parametrize("kind", [*NORMALISED, *PLAIN])
def test_a_normalisation_calls_for_the_more_exact_variant(kind: str) -> None:
    after = NORMALISED.get(kind) or PLAIN[kind]
    found = choices(lambda x, w: after(same(x, w)), "f32[1, 64, 28, 28]", weights(64, 64))
    assert [f for f in found if f is not None] == [2 if kind in NORMALISED else 4]


def test_a_normalisation_after_another_convolution_is_not_its_own() -> None:
    def two(x: Tensor, w: Tensor) -> Tensor:
        return NORMALISED["groups"](same(relu(same(x, w)), w))

    assert [f for f in choices(two, "f32[1, 64, 28, 28]", weights(64, 64)) if f is not None] == [4, 2]


def test_squares_that_a_convolution_reads_are_no_norm() -> None:
    def two(x: Tensor, w: Tensor) -> Tensor:
        y = same(x, w)
        return same(mul(y, y), w)

    assert [f for f in choices(two, "f32[1, 64, 28, 28]", weights(64, 64)) if f is not None] == [4, 4]


def test_one_tap_loop_in_both_windows_is_no_convolution() -> None:
    """x[h + p, w + p]: the kernel has a diagonal alone."""

    def diagonal(x: Tensor, w: Tensor) -> Tensor:
        term = lambda n, o, h, v, p, k: scalar.mul(at(x, (n, k, h + p, v + p)), at(w, (o, k, p)))  # noqa: E731
        return reduction("add", f32, [x.shape[0], 16, 6, 6], [3, 16], term)

    machine = {"winograd": True, "flops": SLOW}
    compiled(diagonal, "f32[n, 16, 8, 8]", reals(16, 16, 3), machine=machine).check(reals(2, 16, 8, 8), tolerance=2e-5)


# ---- programs -------------------------------------------------------------------------------------------------------------


def check(p: Compiled, channels: int, sizes: Sequence[tuple[int, ...]], *others: int, **options: Any) -> None:
    """Feeds [n, channels, h, w] of each size, and more of the other numbers of channels."""
    for n, h, v in sizes:
        feeds = [reals(n, c, h, v, seed=i) for i, c in enumerate((channels, *others))]
        p.check(*feeds, **{"tolerance": 2e-5, **options})


@pytest.mark.parametrize(("m", "h", "v"), [(2, 4, 2), (2, 5, 7), (2, 2, 3), (4, 8, 4), (4, 5, 11), (4, 2, 3)])
def test_fixed_sizes(m: int, h: int, v: int, program: Callable[..., Compiled]) -> None:
    pads = PAD if h != 5 else [0, 1, 1, 0]
    p = program(m, lambda x, w: conv(x, w, pads=pads), f"f32[n, 16, {h}, {v}]", W)
    check(p, 16, [(1, h, v), (3, h, v), (0, h, v)], interpreted=m == 2)


@variants
def test_symbolic_sizes(m: int, program: Callable[..., Compiled]) -> None:
    p = program(m, same, "f32[n, 16, h, v]", W)
    check(p, 16, [(1, 4, 4), (2, 5, 7), (1, 1, 1), (1, 1, 9), (0, 4, 4), (2, 3, 2), (1, 8, 6)], interpreted=False)
    check(p, 16, [(1, 3, 5)])


def test_a_block_takes_all_up(program: Callable[..., Compiled]) -> None:
    """Bias, residual and activation join the last transform; the border of the next convolution is written through."""

    def block(x: Tensor, w: Tensor, b: Tensor, u: Tensor, r: Tensor) -> Tensor:
        return same(relu(add(same(x, w, b), r)), u)

    p = program(2, block, "f32[n, 16, h, v]", W, reals(16), reals(20, 16, 3, 3), "f32[n, 16, h, v]", count=2)
    assert p.nests() == 15, "each border five, inputs and sums of each two, the output"
    check(p, 16, [(1, 4, 4), (2, 5, 3), (1, 1, 1), (0, 2, 2)], 16, interpreted=False)


def test_readers_of_every_kind(program: Callable[..., Compiled]) -> None:
    """Asked for itself, read twice, transposed, reduced, as a part of a whole."""

    def readers(x: Tensor, w: Tensor) -> list[Tensor]:
        y = same(x, w)
        kinds = [y, mul(y, y), linalg.transpose(y, [0, 2, 3, 1]), mean_along(y, [2, 3]), movement.depth_to_space(y, 2)]
        return [*kinds, movement.concat(x, same(x, w), axis=1)]

    check(program(2, readers, "f32[n, 16, h, 6]", W, count=2), 16, [(2, 5, 6), (1, 4, 6)], interpreted=False)
    for alone in (2, 3, 4):
        p = program(2, lambda x, w, i=alone: readers(x, w)[i], "f32[n, 16, 5, 6]", W)
        check(p, 16, [(2, 5, 6)], interpreted=False)


@pytest.mark.parametrize("h", ["5", "h"])
@pytest.mark.parametrize("kind", ["softmax", "convolution"])
@pytest.mark.parametrize("first", [False, True], ids=["after", "before"])
def test_a_residual_computed_beside_it(first: bool, kind: str, h: str, program: Callable[..., Compiled]) -> None:
    """The last row of tiles runs past the end: what is computed there must not read past it."""

    def side(x: Tensor, u: Tensor) -> Tensor:
        return softmax.softmax_over(x, [1]) if kind == "softmax" else conv(x, u)

    def block(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return add(side(x, u), same(x, w)) if first else add(same(x, w), side(x, u))

    check(program(2, block, f"f32[n, 16, {h}, 5]", W, reals(16, 16, 1, 1)), 16, [(2, 5, 5)])


def test_no_border_and_groups(program: Callable[..., Compiled]) -> None:
    p = program(2, lambda x, w: conv(x, w, group=2), "f32[n, 32, h, v]", reals(32, 16, 3, 3))
    check(p, 32, [(1, 3, 3), (2, 4, 6), (1, 5, 8), (0, 3, 4)], interpreted=False)


def test_inside_a_loop_and_of_computed_weights(program: Callable[..., Compiled]) -> None:
    def steps(x: Tensor, w: Tensor, s: Tensor) -> Tensor:
        half = mul(w, s)
        return scan(symbol("t") * 0 + 2, [x], lambda _, h: ([same(h, half)], []))[0][0]

    p = program(2, steps, "f32[n, 16, 4, 5]", W, np.full((16, 1, 1, 1), 0.25, np.float32))
    check(p, 16, [(1, 4, 5), (2, 4, 5)], interpreted=False)


@pytest.mark.parametrize("target", [features.AVX2, features.SSE2], ids=lambda t: t.name)
def test_other_targets(target: features.Target, program: Callable[..., Compiled]) -> None:
    p = program(4, lambda x, w: relu(conv(x, w)), "f32[n, 17, 7, 6]", reals(20, 17, 3, 3), target=target)
    check(p, 17, [(2, 7, 6), (0, 7, 6)], interpreted=False)
    p = program(2, conv, "f32[n, 16, 5, 6]", W, target=target)
    check(p, 16, [(1, 5, 6)])


# ---- strips ---------------------------------------------------------------------------------------------------------------


def cache(each: int, m: int, across: int, channels: int = 32) -> dict[str, int]:
    """A machine for strips of `each` rows of tiles, where a picture has more than two such: of so many tiles across, and channels
    in and out. Sizes that are not known are guessed to be six tiles."""
    return {"l2": 2 * each * across * channels * (m + 2) ** 2 * f32.itemsize, "typical": 6 * m}


def strips(p: Compiled) -> list[Dim]:
    """The turns of each body that is repeated for strips, in order."""

    def found(steps: Sequence[Step]) -> Iterator[Dim]:
        for s in steps:
            if isinstance(s, Repeat):
                yield from [s.region.trip] if s.region.step.name.startswith("strip") else []
                yield from found(s.steps)

    return [trip for segment in p.lowered.segments for trip in found(segment.steps)]


def closed(x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    return relu(add(same(x, w, b), r))


@pytest.mark.parametrize(
    ("m", "n", "h", "v", "each", "turns"),
    [
        (2, 1, 9, 5, 2, 3),  # 5 rows of tiles: 2, 2, 1
        (2, 1, 12, 4, 2, 3),
        (2, 3, 9, 5, 2, 8),  # 15 rows, the second picture begins inside a strip
        (2, 2, 9, 2, 1, 10),
        (2, 3, 13, 3, 3, 7),  # 21 rows
        (4, 1, 11, 6, 1, 3),
        (4, 2, 18, 5, 2, 5),
    ],
)
def test_strips_of_fixed_sizes(m: int, n: int, h: int, v: int, each: int, turns: int, program: Callable[..., Compiled]) -> None:
    machine = cache(each, m, -(-v // m))
    p = program(m, same, f"f32[{n}, 16, {h}, {v}]", W, machine=machine)
    assert strips(p) == [turns]
    check(p, 16, [(n, h, v)], interpreted=m == 2)
    p = program(m, closed, f"f32[{n}, 16, {h}, {v}]", W, reals(16), f"f32[{n}, 16, {h}, {v}]", machine=machine)
    assert strips(p) == [turns]
    check(p, 16, [(n, h, v)], 16, interpreted=False)


@variants
@pytest.mark.parametrize("each", [1, 2])
def test_strips_of_many_pictures_of_one_size(each: int, m: int, program: Callable[..., Compiled]) -> None:
    """The batch alone is not known."""
    h, v = 5 * m - 1, 2 * m + 1
    p = program(m, closed, f"f32[n, 16, {h}, {v}]", W, reals(16), f"f32[n, 16, {h}, {v}]", machine=cache(each, m, 3))
    assert len(strips(p)) == 1
    check(p, 16, [(n, h, v) for n in (1, 2, 3, 0, 4)], 16, interpreted=False)


@variants
@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize("pads", [[0] * 4, PAD, [0, 1, 1, 0]])
def test_strips_of_symbolic_sizes(pads: list[int], each: int, m: int, program: Callable[..., Compiled]) -> None:
    p = program(m, lambda x, w: conv(x, w, pads=pads), "f32[n, 16, h, v]", W, machine=cache(each, m, 6))
    assert len(strips(p)) == 1
    sizes = [(1, 9, 4), (2, 9, 7), (3, 5, 3), (1, 3, 3), (0, 6, 6), (2, 6 * m, 2 * m + 1), (1, 4 * m + 3, 3)]
    check(p, 16, sizes, interpreted=False)
    if m == 2:
        check(p, 16, [(2, 7, 4)])


def test_one_strip(program: Callable[..., Compiled]) -> None:
    """One row of tiles, more than the cache holds; a picture of few rows where many were guessed."""
    p = program(2, closed, "f32[1, 16, 2, 5]", W, reals(16), "f32[1, 16, 2, 5]", machine={"l2": 1 << 12})
    assert strips(p) == [1]
    check(p, 16, [(1, 2, 5)], 16)
    p = program(2, closed, "f32[n, 16, h, 5]", W, reals(16), "f32[n, 16, h, 5]", machine=cache(2, 2, 3))
    assert len(strips(p)) == 1
    check(p, 16, [(1, 4, 5), (1, 1, 5), (2, 2, 5)], 16)


def test_no_strips(program: Callable[..., Compiled]) -> None:
    """Where the cache holds a picture's; in a body that is repeated itself; where the rows are of more than pictures."""
    assert not strips(program(2, same, "f32[n, 16, 8, 6]", W, machine=cache(2, 2, 3)))

    def steps(x: Tensor, w: Tensor) -> Tensor:
        return scan(symbol("t") * 0 + 2, [x], lambda _, h: ([mul(same(h, w), scaled)], []))[0][0]

    scaled = constant(np.full((1,), 0.25, np.float32), "scaled")
    p = program(2, steps, "f32[n, 16, h, 5]", W, machine={"l2": 1 << 12})
    assert not strips(p)
    check(p, 16, [(1, 4, 5), (2, 7, 5)], interpreted=False)
    planes = program(2, lambda x, w: conv(x, w), "f32[n, 16, 2, 9, 5]", reals(16, 16, 1, 3, 3), machine={"l2": 1 << 12})
    assert not strips(planes)
    planes.check(reals(2, 16, 2, 9, 5), tolerance=2e-5, interpreted=False)


@pytest.mark.parametrize("h", ["9", "h"])
def test_strips_into_the_next_border(h: str, program: Callable[..., Compiled]) -> None:
    """What is written is a part of the whole that the next strips read; the second convolution has other sizes."""

    def block(x: Tensor, w: Tensor, b: Tensor, u: Tensor, r: Tensor) -> Tensor:
        return same(closed(x, w, b, r), u)

    p = program(
        2, block, f"f32[n, 16, {h}, 5]", W, reals(16), reals(20, 16, 3, 3), f"f32[n, 16, {h}, 5]", count=2, machine=cache(1, 2, 3)
    )
    assert len(strips(p)) == 2
    check(p, 16, [(1, 9, 5), (2, 9, 5), (0, 9, 5)], 16, interpreted=False)
    if h == "h":
        check(p, 16, [(1, 1, 5), (3, 3, 5)], 16, interpreted=False)
        check(p, 16, [(2, 4, 5)], 16)


def test_no_strips_that_read_large_weights_again(program: Callable[..., Compiled]) -> None:
    """At 1e6 operations a second, 2 bytes take as long as the operations of one tile."""
    for across, bandwidth, count in ((6, 4e5, 1), (6, 2e5, 0)):
        p = program(2, same, f"f32[1, 16, h, {2 * across}]", W, machine={**cache(1, 2, across), "bandwidth": bandwidth})
        assert len(strips(p)) == count
        check(p, 16, [(1, 9, 2 * across)])


def test_equal_layers_in_strips_share_kernels(program: Callable[..., Compiled]) -> None:
    """Each layer has a counter of its own; a kernel is built once and called with it."""

    def chain(x: Tensor, *ws: Tensor) -> Tensor:
        for w in ws:
            x = relu(same(x, w))
        return x

    def layers(count: int) -> tuple[Compiled, int]:
        ws = [reals(16, 16, 3, 3, seed=i) / 8 for i in range(count)]
        with mock.patch.object(sharing, "build", wraps=sharing.build) as built:
            made = program(2, chain, "f32[n, 16, 9, 5]", *ws, count=count, machine=cache(2, 2, 3))
        return made, built.call_count

    (few, built), (many, built_of_many) = layers(3), layers(6)
    assert built == built_of_many
    assert few.lowered.kernels.keys() == many.lowered.kernels.keys()
    assert len(strips(many)) == 6
    counters = {s.region.step for segment in many.lowered.segments for s in segment.steps if isinstance(s, Repeat)}
    assert len(counters) == 6
    check(few, 16, [(2, 9, 5)])
    check(many, 16, [(1, 9, 5), (3, 9, 5)], interpreted=False)


def test_strips_of_groups(program: Callable[..., Compiled]) -> None:
    w = reals(32, 16, 3, 3)
    p = program(2, lambda x, w: conv(x, w, pads=PAD, group=2), "f32[n, 32, 9, 5]", w, machine=cache(2, 2, 3, channels=64))
    assert len(strips(p)) == 1
    check(p, 32, [(1, 9, 5), (2, 9, 5), (0, 9, 5)], interpreted=False)
    p = program(2, lambda x, w: relu(conv(x, w, group=2)), "f32[n, 32, h, v]", w, machine=cache(1, 2, 6, channels=64))
    assert len(strips(p)) == 1
    check(p, 32, [(1, 7, 4), (2, 6, 5), (1, 3, 3)])


def test_strips_for_readers_of_every_kind(program: Callable[..., Compiled]) -> None:
    """Asked for itself, read twice, transposed, reduced, as a part of a whole; a residual computed beside it."""

    def readers(x: Tensor, w: Tensor) -> list[Tensor]:
        y = same(x, w)
        kinds = [y, mul(y, y), linalg.transpose(y, [0, 2, 3, 1]), mean_along(y, [2, 3]), movement.depth_to_space(y, 2)]
        return [*kinds, movement.concat(x, same(x, w), axis=1), add(softmax.softmax_over(x, [1]), same(x, w))]

    p = program(2, readers, "f32[n, 16, h, 6]", W, count=3, machine=cache(1, 2, 3))
    assert len(strips(p)) == 3
    check(p, 16, [(2, 9, 6), (1, 4, 6)], interpreted=False)
    for alone in (2, 3, 4, 5, 6):
        p = program(2, lambda x, w, i=alone: readers(x, w)[i], "f32[n, 16, 9, 6]", W, machine=cache(2, 2, 3))
        assert len(strips(p)) == 1
        check(p, 16, [(2, 9, 6), (1, 9, 6)], interpreted=False)


@pytest.mark.parametrize("target", [features.AVX2, features.SSE2], ids=lambda t: t.name)
def test_strips_on_other_targets(target: features.Target, program: Callable[..., Compiled]) -> None:
    p = program(4, lambda x, w: relu(same(x, w)), "f32[n, 17, 14, 6]", reals(20, 17, 3, 3), machine={"l2": 1 << 14}, target=target)
    assert len(strips(p)) == 1
    check(p, 17, [(2, 14, 6), (1, 14, 6), (0, 14, 6)], interpreted=False)


# ---- numbers --------------------------------------------------------------------------------------------------------------


@variants
def test_errors(m: int, program: Callable[..., Compiled]) -> None:
    generator = np.random.default_rng(m)
    x, w = (generator.standard_normal(s).astype(np.float32) for s in ((1, 64, 13, 13), (64, 64, 3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (2, 3))
    wanted = np.einsum("nchwpq,ocpq->nohw", windows, w.astype(np.float64), optimize=True)
    programs = compiled(conv, "f32[1, 64, 13, 13]", w), program(m, conv, "f32[1, 64, 13, 13]", w)
    direct, fast = (abs(p.run(x)[0] - wanted).max() / abs(wanted).max() for p in programs)
    assert fast < 1e-5
    assert fast < 2 * direct + 5e-7


@variants
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_tiles(bad: float, m: int, program: Callable[..., Compiled]) -> None:
    x = reals(1, 16, 14, 14)
    x[0, 5, 6, 9] = bad
    (got,) = program(m, conv, "f32[1, 16, 14, 14]", W).run(x)
    h, v = np.ogrid[:12, :12]
    tile = (h // m * m <= 6) & (h // m * m + m + 2 > 6) & (v // m * m <= 9) & (v // m * m + m + 2 > 9)
    window = (h <= 6) & (h + 3 > 6) & (v <= 9) & (v + 3 > 9)
    assert np.isfinite(got[..., ~tile]).all()
    assert not np.isfinite(got[..., window]).any()


# ---- beside onnxruntime -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [errors.plain, errors.grouped, lambda n: errors.grouped(n, 10, 128, 16, 32)])
def test_networks_are_as_exact_as_onnxruntimes(make: errors.Maker) -> None:
    """Against float64, whose convolutions are direct. By F(4 x 4) the grouped ones would be 2 to 5 times as far off."""
    n = errors.Network(0)
    result, shape = make(n)
    x = n.random.standard_normal(shape).astype(np.float32)
    n.weights = {k: a.astype(np.float32) if a.dtype.kind == "f" else a for k, a in n.weights.items()}
    exact = errors.output(sardonyx, n.model(result, shape, np.float64), x.astype(np.float64))
    model = n.model(result, shape, np.float32)
    ours, theirs = (errors.error(errors.output(p, model, x), exact) for p in (sardonyx, onnxruntime))
    assert ours < 1e-5
    assert ours <= (4 if make is errors.plain else 2) * theirs
