"""What operators take for granted about ranks: refused with the shapes. tests/ops/test_misfits.py tries it on all records."""

from __future__ import annotations

import pytest

from sardonyx.base.dtypes import f32
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import symbol
from sardonyx.expr.tensor import input_tensor
from sardonyx.ops.ranks import require_rank_from, require_ranks

MATRIX, VECTOR = input_tensor("m", f32, [symbol("n"), 3]), input_tensor("v", f32, [4])


def test_ranks_that_fit() -> None:
    require_ranks("{} and {} and {}", (MATRIX, 2), (VECTOR, 1), (None, 7))
    require_rank_from("{}", MATRIX, 1)


def test_ranks_that_do_not_fit() -> None:
    with pytest.raises(Fail, match=r"Gemm of \[n, 3\] and \[4\]"):
        require_ranks("Gemm of {} and {}", (MATRIX, 2), (VECTOR, 2))
    with pytest.raises(Fail, match=r"Det of \[4\]"):
        require_rank_from("Det of {}", VECTOR, 2)
