"""Narrow floats: what is kept in f32 between operators, what is rounded, and errors beside onnxruntime's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

import sardonyx
from benchmarks.errors import NARROW, Network, error, output
from sardonyx.base.dtypes import bf16, f16, f32, i32
from sardonyx.codegen import features
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Index, Op
from sardonyx.ops import activation, casts, linalg, movement, norm, softmax, windows
from sardonyx.ops.pointwise import add, along, cast, mul, pointwise, sub, view
from tests.lower.harness import Compiled, compiled, integers

Array = np.ndarray[Any, Any]
HARDWARE = [features.host(), features.AVX2, features.SSE2]
every_target = pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
narrow = pytest.mark.parametrize("dtype", ["f16", "bf16"])
NUMPY = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def kept_dtypes(program: Compiled) -> set[str]:
    """Of the buffers between nests."""
    written = {t for s in program.lowered.segments for q in s.steps for t in q.writes}
    return {t.dtype.name for t in written - set(program.lowered.outputs)}


def two_products(x: Tensor, w: Tensor) -> Tensor:
    return linalg.matmul(linalg.matmul(x, w), w)


def normals(*shape: int, dtype: str = "f16", seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(NUMPY[dtype])


# ---- what is kept in f32 ------------------------------------------------------------------------------------------------


@narrow
@every_target
def test_results_between_nests_are_not_rounded(dtype: str, target: features.Target) -> None:
    """Twice times a matrix: as exact as rounding once, at the end."""
    w = normals(40, 40, dtype=dtype, seed=1)
    program = compiled(two_products, f"{dtype}[m, 40]", w, target=target)
    assert kept_dtypes(program) <= {"f32"}
    x = normals(7, 40, dtype=dtype)
    (got,) = program.run(x)
    wide = x.astype(np.float64) @ w.astype(np.float64) @ w.astype(np.float64)
    step = float(ml_dtypes.finfo(NUMPY[dtype]).eps) / 2
    assert (abs(got.astype(np.float64) - wide) <= step * abs(wide) * 1.01 + 1e-5 * abs(wide).max()).all()


def through(move: Any) -> Any:
    """(x + 1) moved, minus 1: x, if no result between is rounded to f16."""

    def build(x: Tensor) -> Tensor:
        one = pointwise(lambda e: scalar.literal(1, e.dtype), x)
        y = move(add(x, one))
        return sub(y, pointwise(lambda e: scalar.literal(1, e.dtype), y))

    return build


def zero_like(x: Tensor) -> Tensor:
    return constant(np.zeros((), x.dtype.numpy))


MOVES: dict[str, Any] = {
    "nothing": lambda y: y,
    "transpose": lambda y: linalg.transpose(y),
    "reverse": lambda y: view(y, y.shape, lambda i, j: (y.shape[0] - 1 - i, j)),
    "select": lambda y: pointwise(lambda e: scalar.select(scalar.apply("lt", e, 0), e, e), y),
    "maximum": lambda y: along("max", y, [1]),
    "concat": lambda y: movement.concat(y, y, axis=1),
    "pad": lambda y: windows.pad(y, [1, 0], [0, 2], zero_like(y)),
}


@pytest.mark.parametrize("move", MOVES)
def test_moves_keep_what_f16_has_not(move: str) -> None:
    """2048 + 1 is a tie that f16 rounds to 2048; where f32 is kept between, 2048 comes back from 2049 - 1."""
    x = np.full((3, 4), 2050, np.float16)
    x[1] = 2048
    program = compiled(through(MOVES[move]), "f16[m, n]")
    (got,) = program.run(x)
    rounded = (x + np.float16(1)) - np.float16(1)
    assert (rounded != x).any(), "a case in which rounding shows"
    assert set(np.unique(got)) <= {2050, 2048, -1}
    assert {2048, 2050} <= set(np.unique(got))


def test_buffers_of_moved_values_are_f32() -> None:
    """What several nests read lies in memory, in parts of a whole too."""

    def build(x: Tensor, w: Tensor) -> list[Tensor]:
        y = softmax.softmax_over(linalg.matmul(x, w), [1])
        both = movement.concat(y, mul(y, y), axis=1)
        return [linalg.matmul(both, linalg.transpose(both)), linalg.matmul(linalg.transpose(both), both)]

    program = compiled(build, "f16[m, 24]", normals(24, 24, seed=2))
    assert kept_dtypes(program) == {"f32"}
    for m in (0, 1, 5, 33):
        program.check(normals(m, 24))


def test_guarded_reads_stay_guarded() -> None:
    """The row before, zero before the first: nothing outside is read, which the interpreter would see."""

    def build(x: Tensor) -> Tensor:
        y = add(x, x)
        before = compute(y.dtype, y.shape, lambda i, j: at(y, (i - 1, j), Op("ge", Index(i), Index(1))))
        return add(before, along("max", y, [0]))

    program = compiled(build, "f16[m, n]")
    for m, n in ((1, 1), (2, 7), (5, 33)):
        program.check(normals(m, n))


def test_what_only_moves_inputs_and_weights_stays_narrow() -> None:
    """Nothing was rounded: f32 would be more to store, and no more exact."""

    def build(x: Tensor, w: Tensor) -> list[Tensor]:
        whole = movement.concat(x, w, axis=0)
        return [along("add", whole, [0]), along("add", whole, [1])]

    program = compiled(build, "f16[m, 6]", normals(5, 6))
    assert kept_dtypes(program) <= {"f16"}
    program.check(normals(4, 6, seed=3))


# ---- what is rounded ----------------------------------------------------------------------------------------------------


@narrow
def test_a_cast_of_the_model_rounds(dtype: str) -> None:
    """f32 to a narrow float and back, whatever stands between."""
    code = {"f16": f16.code, "bf16": bf16.code}[dtype]
    x = np.linspace(-3, 3, 70, dtype=np.float32).reshape(7, 10)

    def build(x: Tensor) -> list[Tensor]:
        there = casts.cast(add(x, x), code)
        return [casts.cast(there, f32.code), casts.cast(linalg.transpose(there), f32.code), mul(cast(there, f32), x)]

    program = compiled(build, "f32[m, n]")
    plain, turned, scaled = program.check(x)
    wanted = (x + x).astype(NUMPY[dtype]).astype(np.float32)
    np.testing.assert_array_equal(plain, wanted)
    np.testing.assert_array_equal(turned, wanted.T)
    np.testing.assert_array_equal(scaled, wanted * x)


def test_casts_to_integers_see_f16() -> None:
    """2048 + 1 in f16 is 2048."""
    program = compiled(lambda x, y: casts.cast(add(x, y), i32.code), "f16[n]", "f16[n]")
    (got,) = program.run(np.full(5, 2048, np.float16), np.ones(5, np.float16))
    np.testing.assert_array_equal(got, [2048] * 5)


def test_outputs_that_others_read_are_narrow() -> None:
    def build(x: Tensor) -> list[Tensor]:
        y = add(x, x)
        return [y, linalg.transpose(y), along("add", y, [0])]

    first, second, _ = compiled(build, "f16[m, n]").check(normals(5, 9))
    assert first.dtype == second.dtype == np.float16
    np.testing.assert_array_equal(second, first.T)


def test_states_of_loops_are_narrow() -> None:
    """Adding 1 to 2048 in f16, one hundred times: each step rounds."""

    def build(x: Tensor) -> Tensor:
        def step(t: Any, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            return [pointwise(lambda e: scalar.add(e, 1), s)], []

        (final,), _ = scan(100, [x], step)
        return final

    program = compiled(build, "f16[n]")
    (got,) = program.run(np.array([2048, 0, 1900], np.float16))
    np.testing.assert_array_equal(got, [2048, 100, 2000])


@narrow
def test_what_is_not_finite(dtype: str) -> None:
    """Overflow of a result between operators is no infinity where the end is finite; NaN and infinity stay."""
    program = compiled(lambda x: pointwise(lambda e: scalar.mul(e, 0.25), mul(x, x)), f"{dtype}[n]")
    big = 400 if dtype == "f16" else 3
    (got,) = program.run(np.array([big, np.inf, -np.inf, np.nan], NUMPY[dtype]))
    np.testing.assert_array_equal(got.astype(np.float32), [big * big / 4, np.inf, np.inf, np.nan])


@narrow
def test_operators_of_every_kind(dtype: str) -> None:
    """Reductions, guards, data-dependent indices, scalars, empty axes."""

    def build(x: Tensor, w: Tensor) -> list[Tensor]:
        y, _, _ = norm.layer_normalization(linalg.matmul(x, w), w_row(w))
        z = pointwise(activation.sigmoid, y)
        return [softmax.softmax_over(z, [1]), along("max", y, [0, 1]), windows.pad(mul(y, z), [2, 1], [1, 2], zero_like(y))]

    program = compiled(build, f"{dtype}[m, 17]", normals(17, 17, dtype=dtype, seed=4))
    for m in (1, 2, 9, 33):
        program.check(normals(m, 17, dtype=dtype), tolerance=2e-2)


def w_row(w: Tensor) -> Tensor:
    return view(w, (w.shape[1],), lambda j: (0, j))


def test_integers_are_left_alone() -> None:
    compiled(lambda x: add(x, mul(x, x)), "i32[m, n]").check(integers(3, 5, dtype=np.int32))


# ---- beside onnxruntime -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", NARROW)
def test_f16_networks_are_as_exact_as_onnxruntimes(make: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same network with its weights in f32, as they were before they were rounded."""
    n = Network(seed)
    result, shape = make(n)
    x = n.random.standard_normal(shape).astype(np.float16)
    exact = output(onnxruntime, n.model(result, shape, np.float32), x.astype(np.float32))
    half = n.model(result, shape, np.float16)
    theirs = error(output(onnxruntime, half, x), exact)
    for target in ("avx512", "avx2", "sse2"):
        if target == "avx512" and features.host().name != target:
            continue
        monkeypatch.setenv("SARDONYX_TARGET", target)
        ours = output(sardonyx, half, x)
        assert error(ours, exact) <= 1.5 * theirs, target
        assert ours.tobytes() == output(sardonyx, half, x, threads=2).tobytes(), "one and two threads differ"
