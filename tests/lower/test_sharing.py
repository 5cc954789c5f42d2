"""Nests that differ only in their tensors share a kernel; those that differ in more don't."""

import numpy as np
import pytest

from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.ops.linalg import matmul
from sardonyx.ops.windows import pad
from tests.lower.harness import compiled, reals


def layers(x: Tensor, *weights: Tensor) -> Tensor:
    """relu(.. relu(x w0) w1 ..)"""
    for w in weights:
        y = matmul(x, w)
        x = compute(y.dtype, y.shape, lambda *i, y=y: scalar.maximum(at(y, i), 0.0))  # type: ignore[misc]
    return x


def test_equal_layers_share_one_kernel_and_keep_their_weights() -> None:
    weights = [reals(400, 400, seed=s) / 16 for s in range(4)]
    program = compiled(layers, "f32[m, 400]", *weights)
    calls = [c for s in program.lowered.segments for c in s.steps]
    assert len(calls) == 4
    assert len(program.lowered.kernels) == 1
    for rows in (0, 1, 9):
        program.check(reals(rows, 400), tolerance=1e-5)


@pytest.mark.parametrize("second", [(400, 416), (400, 400)])
def test_another_shape_is_another_kernel(second: tuple[int, int]) -> None:
    program = compiled(layers, "f32[m, 400]", reals(400, 400) / 16, reals(*second, seed=1) / 16)
    assert len(program.lowered.kernels) == (1 if second == (400, 400) else 2)
    program.check(reals(5, 400), tolerance=1e-5)


def test_origins_are_each_nests_own() -> None:
    weight = constant(reals(400, 400) / 16)

    def chain(x: Tensor) -> Tensor:
        for name in ("first", "second"):
            with origin(name):
                x = layers(x, weight)
        return x

    program = compiled(chain, "f32[m, 400]")
    calls = [c for s in program.lowered.segments for c in s.steps]
    assert [c.origins for c in calls] == [("first",), ("second",)]
    assert len({c.kernel.name for c in calls}) == 1
    assert np.isfinite(program.run(reals(3, 400))[0]).all()


def test_borders_and_copies_of_all_shapes_share_their_kernels() -> None:
    """A fill and a move are called with extents and strides, fixed ones and formulas alike."""

    def padded(*xs: Tensor) -> list[Tensor]:
        return [pad(x, [0, 1, 2, 0], [0, 2, 1, 0], constant(np.zeros((), np.float32))) for x in xs]

    program = compiled(padded, "f32[2, 5, 8, 16]", "f32[3, 7, 4, 20]", "f32[n, 7, 6, 8]", "f32[n, m, m, 8]")
    calls = [c for s in program.lowered.segments for c in s.steps]
    assert len(calls) == 20
    assert len(program.lowered.kernels) <= 6
    program.check(reals(2, 5, 8, 16), reals(3, 7, 4, 20), reals(2, 7, 6, 8), reals(2, 3, 3, 8))
    program.check(reals(2, 5, 8, 16), reals(3, 7, 4, 20), reals(0, 7, 6, 8), reals(0, 1, 1, 8))


def test_long_moves_are_dealt_out_in_chunks() -> None:
    program = compiled(lambda x, y: [x, y], "f32[20000]", "f32[k]")
    assert len(program.lowered.kernels) == 2  # one in chunks, one for a size that is guessed to be small
    program.check(reals(20000), reals(5))
    program.check(reals(20000), reals(70001), interpreted=False)
