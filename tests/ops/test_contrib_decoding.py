"""QAttention, attention of one token and of blocks, in random forms beside numpy's doubles and onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"


def run(name: str, inputs: Sequence[Array | None], outputs: int = 1, symbolic: bool = False, **attributes: Any) -> list[Array]:
    return harness.run(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs, symbolic=symbolic)


def theirs(name: str, inputs: Sequence[Array | None], outputs: int = 1, **attributes: Any) -> list[Array]:
    return harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs)


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def attend(q: Array, k: Array, v: Array, added: Array | float = 0.0) -> Array:
    """q: [b, h, s, d], k, v: [b, h, t, d] -> [b, s, h d]"""
    scores = np.einsum("bhsd,bhtd->bhst", q.astype(np.float64), k) / np.sqrt(q.shape[-1]) + added
    e = np.exp(scores - scores.max(-1, keepdims=True))
    y = np.einsum("bhst,bhtd->bshd", e / e.sum(-1, keepdims=True), v)
    return y.reshape(*y.shape[:2], -1)


def heads(x: Array, count: int) -> Array:
    return x.reshape(*x.shape[:2], count, -1).transpose(0, 2, 1, 3)


# ---- QAttention -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("mask", [None, "lengths", "starts", "keys", "scores"])
@pytest.mark.parametrize("past", [0, 2])
def test_quantised_attention(by_column: bool, mask: str | None, past: int) -> None:
    by = np.random.default_rng(past)
    x, w = by.integers(0, 256, (2, 4, 6)).astype(np.uint8), by.integers(-128, 128, (6, 24)).astype(np.int8)
    columns = [24] if by_column else []
    scale, zero = by.uniform(0.005, 0.01, columns).astype(np.float32), by.integers(-9, 9, columns).astype(np.int8)
    given = {
        "lengths": np.array([4, 2]),
        "starts": np.array([4, 3, 1, 0]),
        "keys": by.integers(0, 2, (2, 4 + past)),
        "scores": by.integers(0, 2, (2, 4, 4 + past)),
    }
    padding = None if mask is None else given[mask].astype(np.int32)
    before = draw(2, 2, 2, past, 4) if past else None
    inputs = [x, w, draw(24), np.array(0.02, np.float32), scale, padding, np.array(120, np.uint8), zero, before]
    form = {"num_heads": 2, "unidirectional": int(past > 0)}
    got, expected = (f("QAttention", inputs, 2, **form) for f in (run, theirs))
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, 1e-4, 1e-4)
    packed = (x.astype(np.float64) - 120) * np.float32(0.02) @ ((w.astype(np.float64) - zero) * scale) + inputs[2]
    keys = np.concatenate([*([before[0]] if past else []), heads(packed[..., 8:16], 2)], 2)
    np.testing.assert_allclose(got[1][0], keys, 1e-4, 1e-4)


def test_rotation_of_quantised_attention_is_refused() -> None:
    inputs = [np.ones((1, 2, 4), np.uint8), np.ones((4, 12), np.uint8), draw(12), *[np.array(1, np.float32)] * 2]
    with pytest.raises(harness.NotCompiled, match="rotary"):
        run("QAttention", inputs, num_heads=2, do_rotary=1)


# ---- one token --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 3, 4])
@pytest.mark.parametrize("form", ["plain", "bias", "mask", "packed", "scores added"])
def test_one_token_behind_others_in_a_buffer(before: int, form: str) -> None:
    q, k, v = (draw(3, 1, 8, seed=s) for s in range(3))
    buffers = [draw(3, 2, 5, 4, seed=s) for s in (4, 5)]
    bias = draw(24, seed=6) if form == "bias" else None
    mask = np.random.default_rng(1).integers(0, 2, (3, before + 1)).astype(np.int32) if form == "mask" else None
    added = draw(1, 2, 1, before + 1, seed=7) if form == "scores added" else None
    parts = [np.concatenate([q, k, v], 2), None, None] if form == "packed" else [q, k, v]
    inputs = [*parts, mask, added, *buffers, np.array([before], np.int32), None, None, bias]
    while inputs[-1] is None:
        inputs.pop()
    y, keys, values = run("DecoderMaskedMultiHeadAttention", inputs, 3, num_heads=2, past_present_share_buffer=1)
    tokens = [x + (0 if bias is None else bias[8 * n : 8 * n + 8]) for n, x in enumerate((q, k, v))]
    for present, buffer, new in ((keys, buffers[0], tokens[1]), (values, buffers[1], tokens[2])):
        expected = buffer.copy()
        expected[:, :, before] = new.reshape(3, 2, 4)
        np.testing.assert_allclose(present, expected, 1e-6)
    extra = np.where(mask == 0, -10000.0, 0)[:, None, None] if mask is not None else added if added is not None else 0.0
    expected = attend(heads(tokens[0], 2), keys[:, :, : before + 1], values[:, :, : before + 1], extra)
    np.testing.assert_allclose(y, expected, 1e-4, 1e-5)


def test_tokens_of_several_beams() -> None:
    q, k, v = (draw(4, 1, 8, seed=s) for s in range(3))
    buffers = [draw(4, 2, 5, 4, seed=s) for s in (4, 5)]
    beams = np.random.default_rng(0).integers(0, 2, (2, 2, 5)).astype(np.int32)
    inputs = [q, k, v, None, None, *buffers, np.array([3], np.int32), np.array([2], np.int32), beams]
    y, keys, values = run("DecoderMaskedMultiHeadAttention", inputs, 3, num_heads=2, past_present_share_buffer=1)
    chosen = [np.empty((4, 2, 4, 4)), np.empty((4, 2, 4, 4))]
    for b in range(4):
        for j in range(4):
            source = b // 2 * 2 + beams[b // 2, b % 2, j] if j < 3 else b
            for own, present in zip(chosen, (keys, values), strict=True):
                own[b, :, j] = present[source, :, j]
    np.testing.assert_allclose(y, attend(heads(q, 2), *chosen), 1e-4, 1e-5)


def test_one_token_to_others() -> None:
    q, k, v, bias = draw(3, 1, 8), draw(3, 2, 6, 4, seed=1), draw(3, 2, 6, 4, seed=2), draw(24, seed=3)
    (y,) = run("DecoderMaskedMultiHeadAttention", [q, k, v, *[None] * 7, bias], num_heads=2)
    np.testing.assert_allclose(y, attend(heads(q + bias[:8], 2), k, v), 1e-4, 1e-5)


@pytest.mark.parametrize("length", [None, 5])
def test_buffers_without_or_with_too_many_tokens(length: int | None) -> None:
    q, buffer = draw(3, 1, 8), draw(3, 2, 5, 4)
    inputs = [q, q, q, None, None, buffer, buffer, *([] if length is None else [np.array([length], np.int32)])]
    with pytest.raises(Fail):
        run("DecoderMaskedMultiHeadAttention", inputs, num_heads=2, past_present_share_buffer=1)


# ---- blocks -----------------------------------------------------------------------------------------------------------------------------

LAYOUTS = np.array(
    [[[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]]
)
ROWS = np.array([[0, 1, 3, 5, 8], [0, 1, 3, 6, 9]], np.int32)
COLUMNS = np.array([[0, 0, 1, 1, 2, 1, 2, 3, -1], [0, 0, 1, 0, 1, 2, 0, 2, 3]], np.int32)


@pytest.mark.parametrize("new", [1, 60])
@pytest.mark.parametrize("packed", [False, True])
def test_blocks_that_are_seen(new: int, packed: bool) -> None:
    """The layouts are the example of onnxruntime's documentation."""
    total, batch = 60, 2
    past = total - new
    q, k, v = draw(batch, new, 64, seed=1), draw(batch, new, 32, seed=2), draw(batch, new, 32, seed=3)
    caches = [draw(batch, 2, 64, 16, seed=s) for s in (4, 5)]
    parts = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
    lengths = np.full(batch, total, np.int32)
    inputs = [*parts, *caches, ROWS, COLUMNS, np.array(total, np.int32), lengths]
    y, keys, values = run("SparseAttention", inputs, 3, num_heads=4, kv_num_heads=2, sparse_block_size=16)
    np.testing.assert_array_equal(keys[:, :, past:total], heads(k, 2))
    np.testing.assert_array_equal(values[:, :, :past], caches[1][:, :, :past])
    seen = np.repeat(np.repeat(LAYOUTS, 16, 1), 16, 2)[[0, 1, 0, 1], past:total, :total]
    causal = np.arange(total) <= np.arange(past, total)[:, None]
    added = np.where((seen > 0) & causal, 0, -np.inf)[None]
    wide = [np.repeat(t[:, :, :total], 2, 1) for t in (keys, values)]
    np.testing.assert_allclose(y, attend(heads(q, 4), *wide, added), 1e-4, 1e-5)
