"""Pictures made in strips: which chains take them, and programs against numpy where strips don't divide the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
from msgspec.structs import replace

from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Dim
from sardonyx.codegen import features
from sardonyx.expr import scalar
from sardonyx.expr.tensor import Tensor
from sardonyx.lower import strips
from sardonyx.lower.chains import Chain
from sardonyx.lower.machine import Machine
from sardonyx.lower.schedule import Repeat, Step
from sardonyx.ops import linalg, movement, pointwise
from sardonyx.ops.conv import conv
from sardonyx.ops.pointwise import add, mean_along, mul
from sardonyx.ops.pool import max_pool
from tests.lower.harness import Compiled, compiled, reals

NARROW, WIDE = 3, 20
EXPAND, PROJECT = reals(WIDE, NARROW, 1, 1, seed=1), reals(NARROW, WIDE, 1, 1, seed=2)
BIAS = reals(WIDE, seed=4)


def filters(size: int = 3) -> np.ndarray[Any, Any]:
    return reals(WIDE, 1, size, size, seed=3)


def relu(x: Tensor) -> Tensor:
    return pointwise.pointwise(lambda e: scalar.maximum(e, 0), x)


def depthwise(x: Tensor, w: Tensor, stride: int = 1, pads: Sequence[int] = (1, 1, 1, 1), dilation: int = 1) -> Tensor:
    return conv(x, w, group=WIDE, strides=[stride] * 2, pads=list(pads), dilations=[dilation] * 2)


def block(**options: Any) -> Callable[..., Tensor]:
    """Expand, depthwise, project."""

    def build(x: Tensor, e: Tensor, b: Tensor, d: Tensor, p: Tensor) -> Tensor:
        return conv(relu(depthwise(relu(conv(x, e, b)), d, **options)), p)

    return build


@pytest.fixture
def in_strips(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Compiled]:
    """compiled(), every chain in strips of so many rows; asserts the turns of each repeated body."""

    def make(rows: int, turns: Sequence[Dim], build: Callable[..., Any], *arguments: Any, **options: Any) -> Compiled:
        with monkeypatch.context() as patch:
            patch.setattr(strips, "choose", lambda chain, machine: min(rows, chain.outputs))
            made = compiled(build, *arguments, **options)
        assert repeated(made) == list(turns)
        return made

    return make


def repeated(p: Compiled) -> list[Dim]:
    def found(steps: Sequence[Step]) -> Iterator[Dim]:
        for s in steps:
            if isinstance(s, Repeat):
                yield s.region.trip
                yield from found(s.steps)

    return [trip for segment in p.lowered.segments for trip in found(segment.steps)]


def check(p: Compiled, *sizes: tuple[int, int, int], **options: Any) -> None:
    for n, h, v in sizes:
        p.check(reals(n, NARROW, h, v), **{"tolerance": 2e-5, **options})


# ---- programs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("h", "rows", "turns", "options"),
    [
        (6, 3, 2, {}),
        (7, 3, 3, {}),  # the last strip begins where the one before has not ended
        (5, 1, 5, {}),
        (5, 5, 1, {}),
        (9, 2, 3, {"stride": 2}),
        (8, 2, 2, {"stride": 2, "pads": (0, 1, 1, 0)}),
        (7, 2, 3, {"pads": (0, 1, 0, 1)}),
        (9, 3, 4, {"pads": (2, 2, 2, 2)}),
        (9, 4, 3, {"pads": (2, 1, 2, 1), "dilation": 2}),
        (11, 2, 2, {"stride": 3, "pads": (1, 0, 0, 0)}),
    ],
)
def test_strips_of_one_image(h: int, rows: int, turns: int, options: dict[str, Any], in_strips: Callable[..., Compiled]) -> None:
    p = in_strips(rows, [turns], block(**options), f"f32[1, {NARROW}, {h}, 6]", EXPAND, BIAS, filters(), PROJECT)
    check(p, (1, h, 6))


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_strips_of_many_images(rows: int, in_strips: Callable[..., Compiled]) -> None:
    made = compiled(block(), f"f32[n, {NARROW}, 7, 5]", EXPAND, BIAS, filters(), PROJECT)
    (n, *_) = made.inputs[0].shape
    assert repeated(made) == [], "small pictures stay whole"
    with mock.patch.object(strips, "choose", return_value=rows):
        p = compiled(block(), f"f32[n, {NARROW}, 7, 5]", EXPAND, BIAS, filters(), PROJECT)
    assert [str(t) for t in repeated(p)] == [str(n * -(-7 // rows))]
    check(p, (1, 7, 5), (3, 7, 5), (0, 7, 5))


def test_symbolic_width(in_strips: Callable[..., Compiled]) -> None:
    p = in_strips(3, [3], block(), f"f32[1, {NARROW}, 8, v]", EXPAND, BIAS, filters(), PROJECT)
    check(p, (1, 8, 5), (1, 8, 1), (1, 8, 17))


def test_windows_of_five(in_strips: Callable[..., Compiled]) -> None:
    p = in_strips(2, [4], block(pads=(2, 2, 2, 2)), f"f32[1, {NARROW}, 7, 6]", EXPAND, BIAS, filters(5), PROJECT)
    check(p, (1, 7, 6))


def test_windows_that_are_full_sums_and_pools(in_strips: Callable[..., Compiled]) -> None:
    full = reals(5, WIDE, 3, 3, seed=6)
    p = in_strips(2, [4], lambda x, e, w: relu(conv(relu(conv(x, e)), w, pads=[1] * 4)), f"f32[1, {NARROW}, 7, 6]", EXPAND, full)
    check(p, (1, 7, 6))

    def pooled(x: Tensor, e: Tensor) -> Tensor:
        return max_pool(relu(conv(x, e)), [3, 3], strides=[2, 2], pads=[1] * 4)[0]

    check(in_strips(2, [2], pooled, f"f32[1, {NARROW}, 8, 6]", EXPAND), (1, 8, 6))


def test_what_goes_before_and_after(in_strips: Callable[..., Compiled]) -> None:
    """A sum over windows makes the picture; the last sum takes a residual and goes into the border of the next one."""

    def build(x: Tensor, e: Tensor, d: Tensor, p: Tensor) -> Tensor:
        y = relu(add(conv(relu(depthwise(relu(conv(x, e, pads=[1] * 4)), d)), p), x))
        return conv(y, e, pads=[1] * 4)

    p = in_strips(3, [3], build, f"f32[1, {NARROW}, 8, 6]", reals(WIDE, NARROW, 3, 3), filters(), PROJECT)
    check(p, (1, 8, 6))


def test_windows_whose_result_is_read_twice_end_the_chain(in_strips: Callable[..., Compiled]) -> None:
    def squeezed(x: Tensor, e: Tensor, d: Tensor, p: Tensor) -> Tensor:
        y = relu(depthwise(conv(x, e), d))
        return conv(mul(y, mean_along(y, [2, 3])), p)

    check(in_strips(3, [3], squeezed, f"f32[1, {NARROW}, 8, 6]", EXPAND, filters(), PROJECT), (1, 8, 6))


def test_several_blocks_follow_each_other(in_strips: Callable[..., Compiled]) -> None:
    def two(x: Tensor, *weights: Tensor) -> Tensor:
        y = block()(x, *weights)
        return add(block(stride=2)(y, *weights), block(stride=2)(x, *weights))

    p = in_strips(2, [4, 2, 2], two, f"f32[1, {NARROW}, 7, 6]", EXPAND, BIAS, filters(), PROJECT)
    check(p, (1, 7, 6), interpreted=False)


@pytest.mark.parametrize("target", [features.AVX2, features.SSE2], ids=lambda t: t.name)
def test_other_targets(target: features.Target, in_strips: Callable[..., Compiled]) -> None:
    p = in_strips(3, [3], block(), f"f32[1, {NARROW}, 8, 6]", EXPAND, BIAS, filters(), PROJECT, target=target)
    check(p, (1, 8, 6))


def test_nan_and_infinity_stay_where_their_windows_are(in_strips: Callable[..., Compiled]) -> None:
    p = in_strips(2, [4], block(), f"f32[1, {NARROW}, 8, 6]", EXPAND, BIAS, filters(), PROJECT)
    x = reals(1, NARROW, 8, 6)
    x[0, 0, 3, 2] = np.nan
    (got,) = p.run(x)
    bad = np.isnan(got).any(axis=(0, 1))
    assert bad[2:5, 1:4].all()
    assert bad.sum() == 9


# ---- which chains -----------------------------------------------------------------------------------------------------------


def test_what_is_no_chain(in_strips: Callable[..., Compiled]) -> None:
    x = f"f32[1, {NARROW}, 8, 6]"

    def asked_for(x: Tensor, e: Tensor, d: Tensor) -> list[Tensor]:
        y = movement.pad_2(conv(x, e), [0, 0, 1, 1] * 2)
        return [y, depthwise(y, d, pads=(0, 0, 0, 0))]

    def read_twice(x: Tensor, e: Tensor, d: Tensor) -> Tensor:
        y = movement.pad_2(conv(x, e), [0, 0, 1, 1] * 2)
        return add(depthwise(y, d, pads=(0, 0, 0, 0)), depthwise(y, d, pads=(0, 0, 0, 0)))

    for build in (asked_for, read_twice):
        check(in_strips(2, [], build, x, EXPAND, filters()), (1, 8, 6), interpreted=False)
    tall = in_strips(2, [], block(), f"f32[1, {NARROW}, h, 6]", EXPAND, BIAS, filters(), PROJECT)
    check(tall, (1, 8, 6), (1, 3, 6), interpreted=False)
    in_strips(2, [], linalg.matmul, "f32[8, 16]", reals(16, 16))


def chosen(machine: dict[str, Any], n: str = "n", c: int = 144, size: int = 56) -> list[int | None]:
    found: list[int | None] = []
    choose = strips.choose

    def spy(chain: strips.Chain, machine: Any) -> int | None:
        found.append(choose(chain, machine))
        return None

    def build(x: Tensor, e: Tensor, d: Tensor, p: Tensor) -> Tensor:
        return conv(conv(conv(x, e), d, group=c, pads=[1] * 4), p)

    weights = [np.zeros(s, f32.numpy) for s in ((c, 24, 1, 1), (c, 1, 3, 3), (24, c, 1, 1))]
    with mock.patch.object(strips, "choose", spy):
        compiled(build, f"f32[{n}, 24, {size}, {size}]", *weights, machine=machine)
    return found


def test_what_pays() -> None:
    assert chosen({}) == [28], "half of L2 for 30 rows of 58 pixels in 144 channels, and the weights"
    assert chosen({}, c=192, size=28) == [28], "one image at a time"
    assert chosen({}, c=192, n="1", size=28) == [None], "one image fits"
    assert chosen({}, size=14) == [None], "too few points"
    assert chosen({"l2": 8 << 20}) == [None], "it all stays in the cache"
    assert chosen({"bandwidth": 1e12}) == [None], "memory costs nothing"


# ---- how many rows --------------------------------------------------------------------------------------------------------

H, V = 120, 30
MACHINE = Machine(flops=1e12, bandwidth=1e9)  # strips pay
FILTERS = WIDE * (NARROW + 9 + NARROW) * 4  # bytes of weights that a block reads


class Enough(Exception):
    """What a test asks is known."""


def rows_for(shape: str, machines: Sequence[Machine], **options: Any) -> list[int | None]:
    """What `choose` says of a block's chain for each machine."""
    ordinary, found = strips.choose, list[int | None]()

    def ask(chain: Chain, _: Machine) -> None:
        found.extend(ordinary(chain, machine) for machine in machines)
        raise Enough

    with mock.patch.object(strips, "choose", ask), pytest.raises(Enough):
        compiled(block(**options), shape, EXPAND, BIAS, filters(), PROJECT)
    return found


ONE, MANY = f"f32[1, {NARROW}, {H}, {V}]", f"f32[n, {NARROW}, {H}, {V}]"
ROW = WIDE * (V + 2) * 4
"""Bytes of a row of the picture, its border too."""


@pytest.mark.parametrize("step", [1, 2])
def test_as_few_and_as_equal_strips_as_the_cache_allows(step: int) -> None:
    """Half of L2 holds the weights and the rows of the picture that a strip reads."""
    most = [m for m in (18, 19, 40, 41, 59, 60, 61, 100) if step * m + 3 <= H]
    rooms = [2 * (ROW * (step * (m - 1) + 3) + FILTERS) + more for m in most for more in (0, 2 * ROW * step - 2)]
    wanted = [-(-H // step // -(-H // step // m)) for m in most for _ in range(2)]
    assert rows_for(ONE, [replace(MACHINE, l2=l2) for l2 in rooms], stride=step) == wanted


def test_what_fits_stays_whole() -> None:
    whole = 2 * (ROW * H + FILTERS)
    assert rows_for(ONE, [replace(MACHINE, l2=l2) for l2 in (whole, whole - 2, 8 * whole)]) == [None, H // 2, None]


def test_few_points_stay_whole() -> None:
    """Strips of 256 points at the least: nine rows of thirty."""
    nine = 2 * (ROW * 11 + FILTERS)
    assert rows_for(ONE, [replace(MACHINE, l2=l2) for l2 in (nine, nine - 2, FILTERS, 0)]) == [9, None, None, None]


def test_one_image_at_a_time() -> None:
    """Where a picture takes more than a quarter of L2, and fits in the half of it."""
    picture, room = ROW * H, 2 * FILTERS
    sizes = (2 * picture + room, 4 * picture - 4, 4 * picture, 2 * picture + room - 2)
    assert rows_for(MANY, [replace(MACHINE, l2=l2) for l2 in sizes]) == [H, H, None, H // 2]


@pytest.mark.parametrize("most", [20, 40])
def test_strips_must_save_more_time_than_they_cost(most: int) -> None:
    """What is computed twice, and five microseconds a strip, beside three times the picture's way to memory."""
    machine = replace(MACHINE, l2=2 * (ROW * (most + 2) + FILTERS))
    count = H // most
    again, saved = (count * (most + 2) - H) * 2 * WIDE * V * NARROW, 3 * ROW * H
    machines = [
        replace(machine, flops=flops, bandwidth=share * saved / (1.5 * (again / flops + count * 5e-6)))
        for flops in (1e8, 1e11)
        for share in (0.99, 1.01)
    ]
    assert rows_for(ONE, machines) == [most, None, most, None]
