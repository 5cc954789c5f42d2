"""Long reductions to few elements: threads share their parts, and the bits are the same for any number of threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sardonyx.base.dtypes import f64, i32
from sardonyx.base.symbolic import Dim
from sardonyx.codegen import features
from sardonyx.expr.scalar import maximum
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import For
from sardonyx.lower.long_reductions import MOST_RESULTS, PART
from sardonyx.lower.parallel import LEAST_SHARED_WORK
from sardonyx.lower.values import extent
from sardonyx.ops.conv import conv
from sardonyx.ops.norm import group_normalization
from sardonyx.ops.pointwise import along, pointwise
from tests.lower.harness import Array, Compiled, compiled
from tests.lower.test_place import statements


def reduce_last(fn: str, kept: int) -> Callable[[Tensor], Tensor]:
    """fn over all axes from `kept` on."""
    return lambda x: along(fn, x, range(kept, x.rank))


def reduce_first(fn: str) -> Callable[[Tensor], Tensor]:
    """fn over all axes but the last."""
    return lambda x: along(fn, x, range(x.rank - 1))


def parts(program: Compiled) -> list[str]:
    return [name for name in program.places() if name.endswith(".part")]


def most_parallel(program: Compiled) -> int:
    """The turns that the kernel with most of them deals to threads."""
    loops = [s for k in program.lowered.kernels.values() for s in statements(k.body) if isinstance(s, For) and s.kind == "parallel"]
    return max(s.hi - s.lo for s in loops if isinstance(s.hi, int) and isinstance(s.lo, int))


def numbers(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(65_536,), (100_003,), (16 * PART,), (40 * PART + 1,), (300, 700), (3, 257, 391)], ids=str)
def test_everything_at_once(shape: tuple[int, ...]) -> None:
    program = compiled(reduce_last("add", 0), f"f32[{', '.join(map(str, shape))}]")
    assert parts(program)
    assert most_parallel(program) >= 8, "several threads share it"
    (y,) = program.check(x := numbers(*shape), tolerance=1e-4, interpreted=False)
    assert abs(y - np.sum(x, dtype=np.float64)) <= 1e-6 * np.sum(np.abs(x))


@pytest.mark.parametrize("fn", ["add", "max", "min"])
@pytest.mark.parametrize("last", [True, False])
def test_sizes_that_a_run_knows(fn: str, last: bool) -> None:
    """None, fewer terms than a part, whole parts, and some more."""
    program = compiled(reduce_last(fn, 1), "f32[a, b, 2100]") if last else compiled(reduce_first(fn), "f32[b, 2100, a]")
    assert parts(program)
    for a, b in ((3, 0), (0, 3), (1, 1), (2, 2), (1, 7), (2, 33), (5, 101), (1, 400)):
        program.check(numbers(a, b, 2100) if last else numbers(b, 2100, a), tolerance=1e-4, interpreted=False)


def test_empty_results() -> None:
    program = compiled(reduce_last("add", 1), "f32[a, 300, 300]")
    assert parts(program)
    program.check(numbers(0, 300, 300), interpreted=False)


@pytest.mark.parametrize("fn", ["add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [i32, f64], ids=str)
def test_other_dtypes(fn: str, dtype: object) -> None:
    program = compiled(reduce_last(fn, 1), f"{dtype}[2, 70001]")
    assert parts(program)
    x = np.random.default_rng(3).integers(-2, 3, (2, 70_001)).astype(np.int32 if dtype is i32 else np.float64)
    program.check(x if fn != "mul" or dtype is i32 else np.exp(x / 1e4), tolerance=1e-9, interpreted=False)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("fn", ["add", "max", "min"])
def test_no_numbers(fn: str, special: float) -> None:
    """Wherever it stands, also in the last part."""
    program = compiled(reduce_last(fn, 0), "f32[70001]")
    for place in (0, PART, 70_000):
        x = numbers(70_001)
        x[place] = special
        program.check(x, interpreted=False, tolerance=1e-4)


@pytest.mark.parametrize("target", [features.AVX2, features.SSE2], ids=lambda t: t.name)
def test_narrower_vectors(target: features.Target) -> None:
    program = compiled(reduce_first("add"), "f32[251, 331, 3]", target=target)
    assert parts(program)
    program.check(numbers(251, 331, 3), tolerance=1e-4, interpreted=False)


def test_what_is_short_or_has_many_results_stays_whole() -> None:
    assert not parts(compiled(reduce_last("add", 1), "f32[4, 5000]"))
    assert not parts(compiled(reduce_last("add", 1), f"f32[{MOST_RESULTS}, 70000]"))
    assert parts(compiled(reduce_last("add", 1), f"f32[{MOST_RESULTS - 1}, 70000]"))


@pytest.mark.parametrize("batch", ["n", "1"])
def test_groups_of_channels_are_normalised_by_all_threads(batch: str) -> None:
    """Of a batch of one: neither the sums nor what is made with them has the batch alone as its loop."""

    def net(x: Tensor, w: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        y = conv(x, w, pads=[1, 1, 1, 1])
        y = group_normalization(y, scale, bias, 8)
        return conv(pointwise(lambda e: maximum(e, 0), y), w, pads=[1, 1, 1, 1])

    w = numbers(32, 32, 3, 3) / np.float32(17)
    program = compiled(net, f"f32[{batch}, 32, 96, 64]", w, numbers(32), numbers(32))
    for nest in program.lowered.nests:
        elements = math.prod(known(n) for n in nest.root.shape) * math.prod(known(extent(s)) for s in nest.root.loops)
        turns = math.prod(known(extent(s)) for s in nest.band)
        assert turns >= 4 or elements <= LEAST_SHARED_WORK, f"{nest.root}: {turns} turns"
    program.check(numbers(1, 32, 96, 64), tolerance=1e-4, interpreted=False)


def known(n: Dim) -> int:
    """A size that the run knows counts as 1."""
    return n if isinstance(n, int) else 1
