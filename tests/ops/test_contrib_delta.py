"""GatedDeltaNet in every form beside the recurrence in numpy's doubles and beside onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array


def run(inputs: Sequence[Array | None], **attributes: Any) -> list[Array]:
    return harness.run("GatedDeltaNet", inputs, attributes, version=1, domain="com.microsoft", outputs=2)


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def units(*shape: int, seed: int) -> Array:
    x = draw(*shape, seed=seed)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def recurrence(q: Array, k: Array, v: Array, state: Array, decay: Array | None, beta: Array | None) -> tuple[Array, Array]:
    """Of one sequence. q, k: [t, h, dk], v: [t, g, dv], state: [g, dv, dk], decay: [t, g, dk or 1], beta: [t, g]"""
    each, state, out = v.shape[1] // k.shape[1], state.astype(np.float64), []
    for t in range(len(q)):
        key, query = (np.repeat(x[t], each, 0).astype(np.float64) for x in (k, q))
        state = state if decay is None else state * np.exp(decay[t])[:, None, :]
        fresh = v[t].astype(np.float64)
        if beta is not None:
            fresh = beta[t][:, None] * (fresh - np.einsum("grc,gc->gr", state, key))
        state = state + fresh[:, :, None] * key[:, None, :]
        out.append(np.einsum("grc,gc->gr", state, query) / np.sqrt(q.shape[-1]))
    return np.array(out).reshape(v.shape), state


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("bounds", [[0, 3, 6], [0, 1, 6], [0, 6]])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("by_column", [False, True])
def test_each_sequence_has_a_state(rule: str, bounds: list[int], given: bool, by_column: bool) -> None:
    """Even sequences are given as such, packed and in an axis of their own."""
    q, k, v, count = units(6, 2, 4, seed=1), units(6, 2, 4, seed=2), draw(6, 4, 3, seed=3), len(bounds) - 1
    decay = -np.abs(draw(6, 4, *([4] if by_column else []), seed=4)) if "gated" in rule else None
    beta = np.abs(draw(6, 4, seed=5)) / 2 if "delta" in rule else None
    state = draw(count, 4, 3, 4, seed=6) if given else None
    wide = None if decay is None else decay if by_column else decay[..., None]
    start = np.zeros((count, 4, 3, 4)) if state is None else state
    spans = list(itertools.pairwise(bounds))
    parts = [
        recurrence(*(x[a:b] for x in (q, k, v)), start[n], *(None if x is None else x[a:b] for x in (wide, beta)))
        for n, (a, b) in enumerate(spans)
    ]
    y, final = np.concatenate([p[0] for p in parts]), np.stack([p[1] for p in parts])
    got = run([q, k, v, np.array(bounds, np.int32), decay, beta, state], update_rule=rule)
    np.testing.assert_allclose(got[0], y, 1e-4, 1e-5)
    np.testing.assert_allclose(got[1], final, 1e-4, 1e-5)
    if bounds == [0, 3, 6]:
        even = [None if x is None else x.reshape(2, 3, *x.shape[1:]) for x in (q, k, v, decay, beta)]
        got = run([*even[:3], None, *even[3:], state], update_rule=rule)
        np.testing.assert_allclose(got[0], y.reshape(2, 3, 4, 3), 1e-4, 1e-5)
        np.testing.assert_allclose(got[1], final, 1e-4, 1e-5)


@pytest.mark.parametrize("gate", ["none", "softplus", "qwen", "sigmoid", "kda"])
@pytest.mark.parametrize("bias", [(4,), (4, 4), (16,)])
def test_activations_as_onnxruntime(gate: str, bias: tuple[int, ...]) -> None:
    decay = -np.abs(draw(6, 4, *([4] if bias != (4,) else []), seed=4))
    state, bounds = draw(2, 4, 3, 4, seed=6), np.array([0, 4, 6], np.int32)
    inputs = [draw(6, 2, 4, seed=1), draw(6, 2, 4, seed=2), draw(6, 4, 3, seed=3), bounds, decay, draw(6, 4, seed=5), state]
    inputs += [] if gate == "none" else [draw(4, seed=7), draw(*bias, seed=8)]
    form = {"gate_activation": gate, "beta_activation": "sigmoid", "qk_l2_norm": 1, "gate_lower_bound": -3.0}
    expected = harness.onnxruntime_reference("GatedDeltaNet", inputs, form, version=1, domain="com.microsoft", outputs=2)
    for g, e in zip(run(inputs, **form), expected, strict=True):
        np.testing.assert_allclose(g, e, 1e-4, 1e-5)


def test_captured_updates_are_refused() -> None:
    q, state, count = draw(2, 1, 4), draw(1, 1, 4, 4), np.ones(1, np.int32)
    with pytest.raises(harness.NotCompiled, match="captures updates"):
        run([q, q, q, None, None, None, state, None, None, count], update_rule="linear", state_update_capacity=2)


def test_a_rule_without_what_it_needs() -> None:
    q = draw(2, 1, 4)
    with pytest.raises(Fail, match="needs decay"):
        run([q, q, q, np.array([0, 2], np.int32)])
    with pytest.raises(Fail, match="needs initial_state"):
        run([q, q, q], update_rule="linear")
