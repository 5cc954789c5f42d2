"""Nests that differ only in their tensors share a kernel; those that differ in more don't."""

import numpy as np
import pytest

from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.tensor import Tensor, compute, constant, origin
from sardonyx.ops.linalg import matmul
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
