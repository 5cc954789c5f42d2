"""Operators with numbers near the ends of 32 and 64 bits: each refuses or computes, and touches no memory but its own."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fuzz.child_process import Limits, Outcome, execute
from fuzz.guard_pages import PAGE, guarded, guarded_copy, guarded_empty
from fuzz.sizes import Sizes, Trial, model, ones, whole

LIMITS = Limits(processor=20, clock=120, memory=3 << 30)


@pytest.fixture(scope="module")
def fuzzer() -> Sizes:
    made = Sizes()
    made.load()
    return made


@pytest.mark.parametrize("batch", range(8))
def test_operators_refuse_or_compute(batch: int, fuzzer: Sizes, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for seed in range(batch * 40, batch * 40 + 40):
        _, outcome = execute(lambda: fuzzer.make(random.Random(seed)), fuzzer.run, LIMITS, tmp_path)  # noqa: B023
        assert not outcome.finding, f"seed {seed}: {outcome}"
        ends[outcome.label.split()[-1]] += 1
    assert ends["computed"] >= 4  # not all is refused,
    assert ends["Fail"] >= 4  # and some is


@pytest.mark.parametrize("ratio", [0, -(2**31), 2**20])
def test_work_without_end_ends(ratio: int, fuzzer: Sizes, tmp_path: Path) -> None:
    """A box of 2^31 rows, each sampled: the run's deadline ends it within one of its kernels."""
    box = np.array([[0, 0, -3, 2.0**31]], np.float32)
    found = Trial("RoiAlign", [ones(1, 2, 5, 5), box, whole(0)], {"sampling_ratio": ratio, "output_height": 5})
    _, outcome = execute(lambda: model(found, False, True), fuzzer.run, LIMITS, tmp_path)
    assert outcome.label in ("RoiAlign Fail", "RoiAlign computed")
    assert not outcome.finding


@pytest.mark.parametrize("where", [-1, PAGE])
def test_an_access_outside_guarded_memory_dies(where: int, tmp_path: Path) -> None:
    """Of whole pages on both sides; less is only guarded at its end."""

    def touch(_: bytes) -> Outcome:
        memory = guarded(PAGE)
        np.lib.stride_tricks.as_strided(memory[PAGE - 1 :], (2,), (where - PAGE + 1,))[1] = 1
        return Outcome("alive")

    assert execute(lambda: b"", touch, LIMITS, tmp_path)[1].label == "SIGSEGV"


def test_guarded_arrays_hold_numbers() -> None:
    x = np.arange(15, dtype=np.int16).reshape(3, 5)
    np.testing.assert_array_equal(guarded_copy(x), x)
    assert guarded_empty((0, 3), np.dtype(np.float64)).shape == (0, 3)
    with pytest.raises(ValueError, match="negative"):
        guarded_empty((-1,), np.dtype(np.int8))
