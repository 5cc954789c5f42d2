"""Recurrent operators in narrow floats: their states stay in f32. Their cases, in every form, are in the records (test_records.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sardonyx.expr.tensor import Tensor
from sardonyx.ops import rnn
from tests.lower.harness import compiled

OPERATORS: dict[str, tuple[Callable[..., list[Tensor]], int]] = {"RNN": (rnn.rnn, 1), "GRU": (rnn.gru, 3), "LSTM": (rnn.lstm, 4)}


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", OPERATORS)
def test_narrow_floats_are_rounded_once(name: str, direction: str, dtype: str) -> None:
    """Twenty steps give what the same numbers give in f32, rounded at the end."""
    meaning, gates = OPERATORS[name]
    ways, hidden = 2 if direction == "bidirectional" else 1, 24
    kind: Any = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}[dtype]
    generator = np.random.default_rng(gates)
    x, w, r, b = (
        (generator.standard_normal(shape) * scale).astype(kind)
        for shape, scale in (
            ((20, 2, 16), 1.0),
            ((ways, gates * hidden, 16), 0.3),
            ((ways, gates * hidden, hidden), 0.3),
            ((ways, 2 * gates * hidden), 0.1),
        )
    )

    def outputs(x: Tensor, w: Tensor, r: Tensor, b: Tensor) -> list[Tensor]:
        return meaning(x, w, r, b, direction=direction)

    narrow = compiled(outputs, f"{dtype}[t, n, 16]", w, r, b).run(x)
    wide = compiled(outputs, "f32[t, n, 16]", *(a.astype(np.float32) for a in (w, r, b))).run(x.astype(np.float32))
    for got, wanted in zip(narrow, wide, strict=True):
        assert got.dtype == kind
        np.testing.assert_array_equal(got.astype(np.float32), wanted.astype(kind).astype(np.float32))
