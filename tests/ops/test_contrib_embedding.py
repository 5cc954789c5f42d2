"""com.microsoft's embeddings and operators over tokens in random forms, beside numpy, plain Python and onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import SardonyxError
from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"


def run(name: str, inputs: Sequence[Array | None], outputs: int = 1, symbolic: bool = False, **attributes: Any) -> list[Array]:
    return harness.run(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs, symbolic=symbolic)


def theirs(name: str, inputs: Sequence[Array | None], outputs: int = 1, **attributes: Any) -> list[Array]:
    return harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs)


def normalised(x: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon) * gamma + beta


# ---- embeddings ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", [None, 1, 3])
def test_embeddings(segments: bool, masked: bool, positions: int | None) -> None:
    by = np.random.default_rng(1)
    real = lambda *shape: by.standard_normal(shape).astype(np.float32)  # noqa: E731
    whole = lambda n, *shape: by.integers(0, n, shape).astype(np.int32)  # noqa: E731
    ids, words, places, gamma, beta = whole(9, 3, 5), real(9, 6), real(7, 6), real(6), real(6)
    kinds, parts = (whole(2, 3, 5), real(2, 6)) if segments else (None, None)
    mask = whole(2, 3, 5) if masked else None
    at = None if positions is None else whole(7, positions, 5)
    inputs = [ids, kinds, words, places, parts, gamma, beta, mask, at]
    total = words[ids].astype(np.float64) + (places[:5] if at is None else places[at]) + (0 if kinds is None else parts[kinds])
    y, count, sums = run("EmbedLayerNormalization", inputs, 3, symbolic=True, epsilon=1e-5)
    np.testing.assert_allclose(sums, total, 1e-5, 1e-5)
    np.testing.assert_allclose(y, normalised(total, gamma, beta, 1e-5), 1e-4, 1e-4)
    np.testing.assert_array_equal(count, np.zeros(3) if mask is None else (mask == 1).sum(1))
    assert count.dtype == np.int32


@pytest.mark.parametrize("wrong", [9, -1])
def test_words_outside_of_the_table(wrong: int) -> None:
    ids, table, gamma = np.array([[0, wrong]], np.int32), np.ones((9, 4), np.float32), np.ones(4, np.float32)
    with pytest.raises(SardonyxError):
        run("EmbedLayerNormalization", [ids, None, table, table, None, gamma, gamma])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("segments", [False, True])
def test_quantised_embeddings(dtype: Any, segments: bool) -> None:
    by = np.random.default_rng(2)
    limits = np.iinfo(dtype)
    tables = [by.integers(limits.min, limits.max + 1, shape).astype(dtype) for shape in ((9, 6), (7, 6), (2, 6), (6,), (6,))]
    scales, zeros = by.uniform(0.01, 0.03, 5).astype(np.float32), by.integers(-99, 99, 5).astype(dtype)
    real = [(t.astype(np.float64) - z) * s for t, z, s in zip(tables, zeros, scales.astype(np.float64), strict=True)]
    ids, kinds = by.integers(0, 9, (3, 5)).astype(np.int32), by.integers(0, 2, (3, 5)).astype(np.int32)
    parameters = [np.array(s) for s in scales], [np.array(z) for z in zeros]
    inputs = [ids, kinds, *tables, None, *parameters[0], *parameters[1]]
    if not segments:
        for place in (1, 4, 10, 15):
            inputs[place] = None
    y, count = run("QEmbedLayerNormalization", inputs, 2)
    total = real[0][ids] + real[1][:5] + (real[2][kinds] if segments else 0)
    np.testing.assert_allclose(y, normalised(total, real[3], real[4], 1e-12), 1e-4, 1e-4)
    np.testing.assert_array_equal(count, np.zeros(3))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_words_by_their_characters(width: int) -> None:
    by = np.random.default_rng(width)
    text = np.array([[3, 1, 2, 5, 4], [4, 0, 0, 0, 0], [0, 0, 0, 0, 0], [2, 2, 2, 0, 0]], np.int32)
    w, b, c = (by.standard_normal(shape).astype(np.float32) for shape in ((6, 1, width, 4), (6,), (7, 4)))
    expected = np.zeros((4, 6))
    for n, word in enumerate(text):
        if word[0]:
            count = max(int((word > 0).sum()), width) - width + 1
            windows = [np.einsum("fke,ke->f", w[:, 0].astype(np.float64), c[word[i : i + width]]) + b for i in range(count)]
            expected[n] = np.tanh(windows).max(0)
    np.testing.assert_allclose(run("WordConvEmbedding", [text, w, b, c], symbolic=True)[0], expected, 1e-5, 1e-5)


# ---- n-grams ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [0, 2, 12])
def test_tokens_that_repeat_an_ngram(size: int, length: int) -> None:
    by = np.random.default_rng(length)
    ids, scores = by.integers(0, 4, (3, length)), by.standard_normal((3, 6)).astype(np.float32)
    expected = scores.copy()
    for b in range(3):
        tail = ids[b, length - size + 1 :].tolist()
        for i in range(length - size + 1):
            if ids[b, i : i + size - 1].tolist() == tail:
                expected[b, ids[b, i + size - 1]] = -np.inf
    np.testing.assert_array_equal(run("NGramRepeatBlock", [ids, scores], symbolic=True, ngram_size=size)[0], expected)


@pytest.mark.parametrize("seed", range(12))
def test_predicted_tokens_beside_a_source(seed: int) -> None:
    by = np.random.default_rng(seed)
    src, cur = by.integers(0, 4, 2 + seed), by.integers(0, 4, seed % 3)
    begin = int(by.integers(0, len(src) + 1))
    pred = np.concatenate([src[begin:], [3]])
    if len(pred) > 2 and seed % 2:
        pred[by.integers(0, len(pred))] = 7
    inputs = [src, cur, np.array(begin), *([pred] if seed % 4 else [])]
    if not seed % 4 and not len(cur):
        inputs[1] = np.array([1])
    form = {"min_ngram_size": 1 + seed % 2, "max_ngram_size": 3}
    got, expected = (f("BifurcationDetector", inputs, 2, **form) for f in (run, theirs))
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


# ---- hashes and paths -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("seed", [0, 123456])
def test_hashes(dtype: Any, positive: int, seed: int) -> None:
    x = (np.random.default_rng(0).standard_normal((3, 4)) * 1e5).astype(np.int64).astype(dtype)
    form = {"positive": positive, "seed": seed}
    (got,), (expected,) = run("MurmurHash3", [x], symbolic=True, **form), theirs("MurmurHash3", [x], **form)
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == (np.uint32 if positive else np.int32)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 4), (7, 7), (3, 11), (1, 6, 4)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_the_cheapest_path(shape: tuple[int, ...], symbolic: bool) -> None:
    cost = np.random.default_rng(shape[-1]).uniform(0, 1, shape).astype(np.float32)
    (got,) = run("DynamicTimeWarping", [cost], symbolic=symbolic)
    np.testing.assert_array_equal(got, theirs("DynamicTimeWarping", [cost])[0])
