"""Long nests of little work are taken apart; the numbers stay, and no barrier comes with it."""

from __future__ import annotations

import pytest

from sardonyx.expr.tensor import Tensor
from sardonyx.lower.schedule import Call, calls
from sardonyx.ops.activation import sigmoid
from sardonyx.ops.pointwise import add, along, lifted, mul, sub
from tests.lower.harness import compiled, reals

LENGTH = 24
sigma = lifted(sigmoid)


def chain(x: Tensor, *weights: Tensor) -> Tensor:
    """s = sigmoid(x w); x = s + s (s - x), again and again, with each weight in its turn."""
    for turn in range(LENGTH):
        s = sigma(mul(x, weights[turn % len(weights)]))
        x = add(s, mul(s, sub(s, x)))
    return x


def sums(x: Tensor, *weights: Tensor) -> Tensor:
    """The chain, with what all of a row add up to between its steps."""
    for w in weights:
        s = sigma(mul(x, w))
        x = mul(s, along("add", mul(s, x), [x.rank - 1]))
    return x


@pytest.mark.parametrize("shape", [(16,), (2, 16), (3, 5)])
def test_statements_of_the_same_form_share_a_kernel(shape: tuple[int, ...]) -> None:
    weights = [reals(*shape, seed=s) for s in range(4)]
    program = compiled(chain, f"f32{list(shape)}", *weights)
    (segment,) = program.lowered.segments
    found = list(calls(segment.steps))
    assert len(found) >= LENGTH // 2
    assert len(program.lowered.kernels) < len(found) // 3
    assert all(isinstance(c, Call) and c.single_threaded and not c.barrier for c in found)
    program.check(reals(*shape), tolerance=1e-5)


@pytest.mark.parametrize("shape", [(16,), (2, 7)])
def test_sums_along_rows(shape: tuple[int, ...]) -> None:
    weights = [reals(*shape, seed=s) for s in range(12)]
    compiled(sums, f"f32{list(shape)}", *weights).check(reals(*shape), tolerance=1e-4)


def test_what_takes_time_stays_together() -> None:
    weights = [reals(64, 256, seed=s) for s in range(4)]
    program = compiled(chain, "f32[64, 256]", *weights)
    assert len(list(calls(program.lowered.segments[0].steps))) < LENGTH // 4
    program.check(reals(64, 256), tolerance=1e-5)
