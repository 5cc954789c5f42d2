"""Hashes of n-grams, beside onnxruntime, and in parts beside the whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from tests.ops import harness

Array = harness.Array
DOMAIN = "com.microsoft"


def run(name: str, inputs: Sequence[Array | None], outputs: int = 2, symbolic: bool = False, **attributes: Any) -> list[Array]:
    return harness.run(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs, symbolic=symbolic)


def theirs(name: str, inputs: Sequence[Array | None], outputs: int = 2, **attributes: Any) -> list[Array]:
    return harness.onnxruntime_reference(name, inputs, attributes, version=1, domain=DOMAIN, outputs=outputs)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("eos", [None, 4])
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("most", [2, 4])
def test_hashes_of_ngrams(dtype: Any, past: bool, eos: int | None, segments: bool, most: int) -> None:
    by = np.random.default_rng(most)
    ids, multipliers = by.integers(0, 6, (3, 8)).astype(dtype), by.integers(1, 999, most).astype(dtype)
    sizes = by.integers(5, 50, (most - 1) * 2).astype(dtype)
    before = by.integers(0, 6, (3, most - 1)).astype(dtype) if past else None
    cuts = np.sort(by.integers(0, 3, (3, 8)), 1).astype(np.int32) if segments else None
    inputs = [ids, multipliers, sizes, before, sizes * 7, None if eos is None else np.array(eos, dtype), cuts]
    while inputs[-1] is None:
        inputs.pop()
    form = {"max_ngram_size": most, "n_head_per_ngram": 2, "pad_id": 1, "reset_on_eos": 1}
    got, expected = (f("NGramHashMapping", inputs, **form) for f in (run, theirs))
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_tokens_in_two_parts_have_the_same_hashes() -> None:
    ids, form = np.random.default_rng(0).integers(0, 99, (2, 9)), {"max_ngram_size": 3, "n_head_per_ngram": 2, "pad_id": 0}
    tables = [np.array([3, 5, 7]), np.array([11, 13, 17, 19])]
    whole, last = run("NGramHashMapping", [ids, *tables], **form)
    first, between = run("NGramHashMapping", [ids[:, :4].copy(), *tables], **form)
    second, end = run("NGramHashMapping", [ids[:, 4:].copy(), *tables, between], **form)
    np.testing.assert_array_equal(np.concatenate([first, second], 1), whole)
    np.testing.assert_array_equal(end, last)


def test_too_few_multipliers() -> None:
    with pytest.raises(Fail, match="multipliers"):
        run(
            "NGramHashMapping",
            [np.ones((1, 3), int), np.ones(2, int), np.ones(2, int)],
            max_ngram_size=3,
            n_head_per_ngram=1,
            pad_id=0,
        )


@pytest.mark.parametrize("bounds", [[0, 9], [0, 3, 4, 9], [0, 1, 2, 3, 9]])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("eos", [None, 4])
@pytest.mark.parametrize("segments", ["none", "new", "all"])
def test_packed_sequences_as_onnxruntime(bounds: list[int], past: bool, eos: int | None, segments: str) -> None:
    by, count = np.random.default_rng(len(bounds)), len(bounds) - 1
    ids, sizes = by.integers(0, 6, 9), by.integers(5, 50, 6)
    before = by.integers(0, 6, (count, 3)) if past else None
    cuts = np.sort(by.integers(0, 4, 9)).astype(np.int32) if segments != "none" else None
    old = np.zeros((count, 3), np.int32) if segments == "all" else None
    end = None if eos is None else np.array(eos)
    inputs = [ids, np.array([3, 5, 7, 9]), sizes, np.array(bounds, np.int32), before, sizes * 9, end, cuts, old]
    while inputs[-1] is None:
        inputs.pop()
    form = {"max_ngram_size": 4, "n_head_per_ngram": 2, "pad_id": 1, "reset_on_eos": 1}
    outputs = 2 if cuts is None else 3
    got, expected = (f("VarlenNGramHashMapping", inputs, outputs, **form) for f in (run, theirs))
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def test_packed_sequences_have_the_hashes_of_each_alone() -> None:
    ids, bounds = np.random.default_rng(0).integers(0, 99, 9), [0, 3, 4, 9]
    tables, form = [np.array([3, 5, 7]), np.array([11, 13, 17, 19])], {"max_ngram_size": 3, "n_head_per_ngram": 2, "pad_id": 0}
    hashes, last = run("VarlenNGramHashMapping", [ids, *tables, np.array(bounds, np.int32)], symbolic=True, **form)
    for b, (first, end) in enumerate(itertools.pairwise(bounds)):
        alone = run("NGramHashMapping", [ids[None, first:end].copy(), *tables], **form)
        np.testing.assert_array_equal(hashes[first:end], alone[0][0])
        np.testing.assert_array_equal(last[b], alone[1][0])


def test_counts_without_a_capacity() -> None:
    one = np.ones(3, int)
    inputs = [one, one, one, np.array([0, 3], np.int32), *[None] * 5, np.ones(1, np.int32)]
    with pytest.raises(Fail, match="capture_count"):
        run("VarlenNGramHashMapping", inputs, max_ngram_size=2, n_head_per_ngram=3, pad_id=0)
