"""GroupQueryAttention where the record's cases can't say it: sequences of several lengths, norms, sinks, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sardonyx.base.errors import Fail
from sardonyx.ops.cases import reals
from tests.ops import harness

Array = harness.Array
GROUPED = {"num_heads": 4, "kv_num_heads": 2}
NEW = reals(2, 1, 64), reals(2, 1, 32), reals(2, 1, 32)
BUFFERS = reals(2, 2, 6, 16), reals(2, 2, 6, 16)[:, ::-1].copy()


def lengths(*numbers: int) -> harness.Array:
    return np.array(numbers, np.int32)


@pytest.mark.parametrize("window", [-1, 3])
def test_sequences_of_several_lengths_in_one_cache(window: int) -> None:
    """Past each sequence's end the cache is undefined: the result does not depend on it."""
    inputs = [*NEW, *BUFFERS, lengths(4, 2), lengths(5)]
    attributes = {**GROUPED, "local_window_size": window}
    got = harness.run("GroupQueryAttention", inputs, attributes, domain="com.microsoft", version=1)
    expected = harness.onnxruntime_reference(
        "GroupQueryAttention", inputs, attributes, domain="com.microsoft", version=1, outputs=3
    )
    np.testing.assert_allclose(got[0], expected[0], 1e-5, 1e-5)


FIRST = reals(2, 3, 64), reals(2, 3, 32)[:, ::-1].copy(), reals(2, 3, 32)
NOTHING = np.zeros((2, 2, 0, 16), np.float32)


def run(*further: Array | None, **attributes: Any) -> Array:
    """The outputs for three tokens of two sequences without a past; further: inputs from the caches of cosines on"""
    inputs = [*FIRST, NOTHING, NOTHING, lengths(2, 2), lengths(3), *further]
    got = harness.run("GroupQueryAttention", inputs, {**GROUPED, **attributes}, version=1, domain="com.microsoft")
    return got[0]


def expected(sink: Array | None = None, norms: tuple[Array, Array] | None = None, causal: bool = True) -> Array:
    """The same in numpy's doubles."""
    q, k, v = (x.reshape(2, 3, -1, 16).transpose(0, 2, 1, 3).astype(np.float64) for x in FIRST)
    if norms is not None:
        q, k = (x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w for x, w in zip((q, k), norms, strict=True))
    k, v = np.repeat(k, 2, 1), np.repeat(v, 2, 1)
    scores = np.einsum("bhsd,bhtd->bhst", q, k) / 4
    e = np.exp(np.where(np.tri(3) > 0, scores, -np.inf) if causal else scores)
    total = e.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink.astype(np.float64)).reshape(1, 4, 1, 1))
    return np.einsum("bhst,bhtd->bshd", e / total, v).reshape(2, 3, 64)


@pytest.mark.parametrize("sink", [None, reals(4), np.full(4, -np.inf, np.float32), np.full(4, 30, np.float32)])
def test_sinks(sink: Array | None) -> None:
    np.testing.assert_allclose(run(None, None, None, None, sink), expected(sink), 1e-5, 1e-5)


def test_smooth_softmax_is_a_sink_at_0() -> None:
    np.testing.assert_allclose(run(smooth_softmax=1), expected(np.zeros(4)), 1e-5, 1e-5)


def test_norms_of_queries_and_keys() -> None:
    norms = reals(16), reals(16)[::-1].copy()
    np.testing.assert_allclose(run(*[None] * 7, *norms), expected(norms=norms), 1e-5, 1e-5)
    with pytest.raises(Fail, match="norms alone"):
        run(*[None] * 7, norms[0])


def test_queries_that_see_all_keys() -> None:
    np.testing.assert_allclose(run(causal=0), expected(causal=False), 1e-5, 1e-5)


def test_sinks_for_another_number_of_heads() -> None:
    with pytest.raises(Fail, match="head_sink"):
        run(None, None, None, None, reals(3))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"qk_output": 1}, "qk_output"),
        ({"sliding_window_cache": 1}, "sliding_window_cache"),
        ({"k_quant_type": "PER_TENSOR"}, "quantised"),
    ],
)
def test_forms_that_are_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(harness.NotCompiled, match=message):
        run(**attributes)
