"""com.microsoft's operators that go over tokens with a state, in random forms beside numpy and onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"


def run(name: str, inputs: Sequence[Array | None], outputs: int = 2, symbolic: bool = False, **attributes: Any) -> list[Array]:
    return harness.run(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs, symbolic=symbolic)


def theirs(name: str, inputs: Sequence[Array | None], outputs: int = 2, **attributes: Any) -> list[Array]:
    return harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs)


def assert_close(got: Sequence[Array], expected: Sequence[Array]) -> None:
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, 1e-4, 1e-5)


def draw(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) / 2).astype(np.float32)


# ---- linear attention -----------------------------------------------------------------------------------------------------------------


def recurrence(q: Array, k: Array, v: Array, state: Array, decay: Array | None, beta: Array | None) -> tuple[Array, Array]:
    """q: [b, t, h, dk], k: [b, t, g, dk], v: [b, t, g, dv], state: [b, g, dk, dv], decay: [b, t, g, dk or 1], beta: [b, t, g]"""
    state, heads = state.astype(np.float64), max(q.shape[2], k.shape[2])
    out = []
    for t in range(q.shape[1]):
        if decay is not None:
            state = state * np.exp(decay[:, t])[..., None]
        fresh = v[:, t].astype(np.float64)
        if beta is not None:
            fresh = beta[:, t][..., None] * (fresh - np.einsum("bgij,bgi->bgj", state, k[:, t]))
        state = state + np.einsum("bgi,bgj->bgij", k[:, t], fresh)
        wide = [np.repeat(x, heads // x.shape[1], 1) for x in (q[:, t], state)]
        out.append(np.einsum("bhi,bhij->bhj", *wide) / np.sqrt(q.shape[-1]))
    return np.stack(out, 1).reshape(q.shape[0], q.shape[1], -1), state


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize(("h", "g"), [(2, 2), (4, 2), (1, 3), (2, 4)])
@pytest.mark.parametrize("past", [False, True])
def test_linear_attention(rule: str, h: int, g: int, past: bool) -> None:
    q, k, v = draw(2, 3, h * 4, seed=1), draw(2, 3, g * 4, seed=2), draw(2, 3, g * 5, seed=3)
    decay = -np.abs(draw(2, 3, g, seed=4)) if "gated" in rule else None
    beta = np.abs(draw(2, 3, g, seed=5)) if "delta" in rule else None
    state = draw(2, g, 4, 5, seed=6) if past else None
    inputs = [q, k, v, state, decay, beta]
    while inputs[-1] is None:
        inputs.pop()
    form = {"q_num_heads": h, "kv_num_heads": g, "update_rule": rule}
    got = run("LinearAttention", inputs, **form)
    wide = q.reshape(2, 3, h, 4), k.reshape(2, 3, g, 4), v.reshape(2, 3, g, 5)
    start = np.zeros((2, g, 4, 5)) if state is None else state
    assert_close(got, recurrence(*wide, start, None if decay is None else decay[..., None], beta))
    assert_close(got, theirs("LinearAttention", inputs, **form))


def test_a_window_of_states_is_refused() -> None:
    x = draw(1, 2, 4)
    with pytest.raises(harness.NotCompiled, match="state_window"):
        run("LinearAttention", [x, x, x], q_num_heads=1, kv_num_heads=1, update_rule="linear", state_window=2)


# ---- convolutions -----------------------------------------------------------------------------------------------------------------------


def convolved(x: Array, state: Array, w: Array, bias: Array | float, dilation: int, silu: bool) -> tuple[Array, Array]:
    """x: [c, n], state: [c, kept], w: [c, 1, k] -> [c, n], [c, kept]"""
    whole, taps, n = np.concatenate([state, x], 1).astype(np.float64), w.shape[2], x.shape[1]
    y = sum(whole[:, j * dilation : j * dilation + n] * w[:, :, j] for j in range(taps)) + np.reshape(bias, (-1, 1))
    return y / (1 + np.exp(-y)) if silu else y, whole[:, n:]


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("form", ["plain", "state", "channels_last"])
def test_convolution_over_the_last_tokens(taps: int, dilation: int, length: int, form: str) -> None:
    kept = (taps - 1) * dilation
    x, w, bias, state = draw(2, 6, length, seed=1), draw(6, 1, taps, seed=2), draw(6, seed=3), draw(2, 6, kept, seed=4)
    pairs = [convolved(x[b], state[b] * (form != "plain"), w, bias, dilation, True) for b in range(2)]
    expected = [np.stack(both) for both in zip(*pairs, strict=True)]
    attributes = {"activation": "silu", "dilation": dilation}
    if form == "channels_last":
        turned = [np.ascontiguousarray(t.transpose(0, 2, 1)).reshape(2, -1, 2, 3) for t in (x, state, *expected)]
        assert_close(run("CausalConvWithState", [turned[0], w, bias, turned[1]], channels_last=1, **attributes), turned[2:])
    else:
        assert_close(run("CausalConvWithState", [x, w, bias, *([state] if form == "state" else [])], **attributes), expected)


@pytest.mark.parametrize("bounds", [[0, 3, 4, 9], [0, 9], [0, 1, 2, 8, 9]])
@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("capacity", [0, 4])
def test_convolution_of_packed_sequences(bounds: list[int], taps: int, dilation: int, capacity: int) -> None:
    count, kept = len(bounds) - 1, (taps - 1) * dilation
    x, w, bias, state = draw(9, 4, seed=1), draw(4, 1, taps, seed=2), draw(4, seed=3), draw(count, 4, kept, seed=4)
    captured = np.random.default_rng(0).integers(-1, 6, count).astype(np.int32)
    inputs = [x, w, np.array(bounds, np.int32), bias, state, *([captured] if capacity else [])]
    form = {"dilation": dilation, "activation": "swish", "state_update_capacity": capacity}
    got = run("VarlenCausalConvWithState", inputs, 3 if capacity else 2, **form)
    updates = np.zeros((count, capacity, 4))
    for b, (first, end) in enumerate(itertools.pairwise(bounds)):
        y, new = convolved(x[first:end].T, state[b], w, bias, dilation, True)
        assert_close([got[0][first:end], got[1][b]], [y.T, new])
        n = min(max(captured[b], 0), capacity, end - first)
        updates[b, :n] = x[first : first + n]
    if capacity:
        np.testing.assert_array_equal(got[2], updates)


@pytest.mark.parametrize("attribute", ["state_window", "state_update_capacity", "input_channels", "state_length"])
def test_forms_for_other_devices_are_refused(attribute: str) -> None:
    with pytest.raises(harness.NotCompiled, match="GPUs"):
        run("CausalConvWithState", [draw(1, 2, 3), draw(2, 1, 2)], **{attribute: 1})
