"""Random numbers: the generator's published answers, distributions, repeatability."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import u32, u64
from sardonyx.expr import draws, scalar
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.index import at
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import compute, constant
from sardonyx.ops import random
from tests.ops.harness import run

# Known answers of Random123 for philox2x32 with 10 rounds: counter (low word first), key, result.
ANSWERS = [
    ((0x00000000, 0x00000000), 0x00000000, (0xFF1DAE59, 0x6CD10DF2)),
    ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
    ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
]


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_philox(counter: tuple[int, int], key: int, answer: tuple[int, int]) -> None:
    whole = constant(np.array(counter[0] | counter[1] << 32, u64.numpy))
    outputs = [compute(u32, (), lambda word=word: random.philox(at(whole, ()), scalar.literal(key, u32))[word]) for word in (0, 1)]
    assert tuple(int(x) for x in evaluate(outputs, {}, {})) == answer


@pytest.mark.parametrize("dtype", [1, 10, 11, 16])
def test_uniform(dtype: int) -> None:
    (y,) = run("RandomUniform", [], {"shape": [100, 100], "low": -1.0, "high": 3.0, "seed": 2.5, "dtype": dtype})
    numbers = y.astype(np.float64)
    assert y.shape == (100, 100)
    assert numbers.min() >= -1
    assert numbers.max() <= 3
    assert abs(numbers.mean() - 1) < 0.05
    assert abs(numbers.std() - 4 / 12**0.5) < 0.05


@pytest.mark.parametrize("dtype", [1, 10, 11])
def test_normal(dtype: int) -> None:
    (y,) = run("RandomNormalLike", [np.zeros((100, 100), np.float32)], {"mean": 2.0, "scale": 3.0, "seed": 1.0, "dtype": dtype})
    numbers = (y.astype(np.float64) - 2) / 3
    assert np.isfinite(numbers).all()
    assert abs(numbers.mean()) < 0.05
    assert abs(numbers.std() - 1) < 0.05
    assert abs((np.abs(numbers) < 1).mean() - 0.6827) < 0.02
    assert abs(np.corrcoef(numbers.ravel()[:-1], numbers.ravel()[1:])[0, 1]) < 0.05


def test_bernoulli() -> None:
    p = np.repeat(np.array([[0.0], [0.25], [0.8], [1.0]], np.float32), 4000, axis=1)
    (y,) = run("Bernoulli", [p], {"seed": 3.0, "dtype": 9})
    assert y.dtype == bool
    np.testing.assert_allclose(y.mean(1), [0, 0.25, 0.8, 1], atol=0.03)


def test_multinomial() -> None:
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.0, 0.5]], np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(p) + 5
    (y,) = run("Multinomial", [logits], {"sample_size": 4000, "seed": 4.0, "dtype": 7})
    assert y.dtype == np.int64
    shares = np.stack([np.bincount(row, minlength=3) / 4000 for row in y])
    np.testing.assert_allclose(shares, p, atol=0.03)


def test_seed_and_name_decide() -> None:
    def draw(name: str, **seed: float) -> np.ndarray:
        with origin(name):
            return evaluate([random.random_uniform([4], **seed)], {draws.state: np.array([1, 2], np.uint32)}, {})[0]

    np.testing.assert_array_equal(draw("a", seed=1.0), draw("b", seed=1.0))
    np.testing.assert_array_equal(draw("a"), draw("a"))
    assert not np.array_equal(draw("a"), draw("b"))
    assert not np.array_equal(draw("a", seed=1.0), draw("a", seed=2.0))
