"""Reductions written out, in each lane, along the lanes: extents of 0 and 1, short and long."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.ops import linalg
from tests.lower.harness import compiled, reals


@pytest.mark.parametrize("k", [0, 1, 2, 5, 33])
@pytest.mark.parametrize("columns", [1, 2, 16, 19])
def test_products_over_any_number_of_terms(k: int, columns: int) -> None:
    """Of no terms too, where a short sum of products is written out."""
    program = compiled(lambda x, w: linalg.matmul(x, w), f"f32[b, 1, {k}]", reals(k, columns))
    for batch in (0, 1, 33):
        program.check(reals(batch, 1, k))


def test_a_fixed_product_of_no_terms() -> None:
    program = compiled(lambda x, w: linalg.matmul(x, w), "f32[33, 1, 0]", "f32[0, 1]")
    program.check(np.zeros((33, 1, 0), np.float32), np.zeros((0, 1), np.float32))
