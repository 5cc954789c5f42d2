"""com.microsoft's attention where the records' cases can't say it: sequences of several lengths, packed forms, refusals."""

from __future__ import annotations

import numpy as np

from sardonyx.ops.cases import reals
from tests.ops import harness


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
