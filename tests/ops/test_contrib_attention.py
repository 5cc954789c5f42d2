"""com.microsoft's attention where the records' cases can't say it: sequences of several lengths, packed forms, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.ops.cases import reals
from tests.ops import harness

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


def test_packed_queries_keys_and_values() -> None:
    packed = reals(2, 3, 4, 3, 5)
    q, k, v = (packed[:, :, :, n].reshape(2, 3, 20).copy() for n in range(3))
    together = harness.run("MultiHeadAttention", [packed], {"num_heads": 4}, domain="com.microsoft", version=1)
    apart = harness.run("MultiHeadAttention", [q, k, v], {"num_heads": 4}, domain="com.microsoft", version=1)
    np.testing.assert_array_equal(together[0], apart[0])


def test_packed_keys_and_values() -> None:
    q, packed = reals(2, 3, 20), reals(2, 6, 4, 2, 5)
    k, v = (packed[:, :, :, n].reshape(2, 6, 20).copy() for n in range(2))
    together = harness.run("MultiHeadAttention", [q, packed], {"num_heads": 4}, domain="com.microsoft", version=1)
    apart = harness.run("MultiHeadAttention", [q, k, v], {"num_heads": 4}, domain="com.microsoft", version=1)
    np.testing.assert_array_equal(together[0], apart[0])


def test_a_sink_is_refused() -> None:
    inputs = [*NEW, *BUFFERS, lengths(5, 5), lengths(6)]
    with pytest.raises(harness.NotCompiled, match="sink"):
        harness.run("GroupQueryAttention", inputs, {**GROUPED, "smooth_softmax": 1}, domain="com.microsoft", version=1)
