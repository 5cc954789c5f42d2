"""Products keep the form that lowering knows: a sum of mul(read, read), each maybe cast, without guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sardonyx.base.dtypes import f16, f32, i8, u8
from sardonyx.expr.tensor import Read, Tensor, constant, input_tensor, operands
from sardonyx.loop.nodes import Cast, Expr, Op
from sardonyx.ops.attention import attention
from sardonyx.ops.conv import conv
from sardonyx.ops.conv_transpose import conv_transpose
from sardonyx.ops.einsum import einsum
from sardonyx.ops.integer_products import conv_integer, matmul_integer
from sardonyx.ops.linalg import gemm, matmul
from sardonyx.ops.rnn import lstm


def t(*shape: int, dtype: Any = f32) -> Tensor:
    return input_tensor("x", dtype, shape)


def sums(outputs: Any) -> list[Tensor]:
    """All sums of products that the outputs are made of."""
    todo = [outputs] if isinstance(outputs, Tensor) else [o for o in outputs if o is not None]
    seen: dict[Tensor, None] = {}
    while todo:
        x = todo.pop()
        if x not in seen:
            seen[x] = None
            todo += operands(x)
    return [x for x in seen if x.fn == "add" and isinstance(x.body, Op) and x.body.fn == "mul"]


def is_bare(e: Expr) -> bool:
    read = e.args[0] if isinstance(e, Cast) else e
    return isinstance(read, Read) and read.guard is None


MAKERS: dict[str, tuple[Callable[[], Any], int]] = {
    # what, and how many contractions there are in it
    "matmul": (lambda: matmul(t(2, 3, 4), t(4, 5)), 1),
    "matmul in f16": (lambda: matmul(t(3, 4, dtype=f16), t(4, 5, dtype=f16)), 1),
    "gemm": (lambda: gemm(t(4, 3), t(5, 4), t(5), transA=1, transB=1), 1),
    "conv": (lambda: conv(t(1, 4, 7, 7), t(8, 4, 3, 3), pads=[1, 1, 1, 1]), 1),
    "grouped conv": (lambda: conv(t(1, 4, 7, 7), t(8, 2, 3, 3), group=2), 1),
    "depthwise conv": (lambda: conv(t(1, 4, 7, 7), t(4, 1, 3, 3), group=4), 1),
    "conv_transpose": (lambda: conv_transpose(t(1, 4, 7, 7), t(4, 2, 3, 3), strides=[2, 2]), 4),
    "einsum": (lambda: einsum(t(2, 3, 4), t(2, 5, 4), equation="bid,bjd->bij"), 1),
    "einsum of three": (lambda: einsum(t(3, 4), t(4, 5), t(5, 2), equation="ij,jk,kl->il"), 2),
    "matmul_integer": (lambda: matmul_integer(t(3, 4, dtype=u8), t(4, 5, dtype=i8), t(dtype=u8), t(dtype=i8)), 1),
    "conv_integer": (lambda: conv_integer(t(1, 4, 7, 7, dtype=u8), t(8, 4, 3, 3, dtype=i8), t(dtype=u8)), 1),
    "attention": (lambda: attention(t(2, 4, 3, 8), t(2, 2, 5, 8), t(2, 2, 5, 6))[0], 2),
    "lstm": (lambda: lstm(t(5, 2, 3), t(2, 16, 3), t(2, 16, 4), direction="bidirectional"), 4),
}


@pytest.mark.parametrize("name", MAKERS)
def test_is_a_sum_of_products_of_reads(name: str) -> None:
    make, count = MAKERS[name]
    found = sums(make())
    assert len(found) == count
    for x in found:
        assert isinstance(x.body, Op)
        assert all(is_bare(e) for e in x.body.args), x.body


def test_depthwise_convolution_sums_over_the_window_alone() -> None:
    (found,) = sums(conv(t(1, 4, 7, 7), t(4, 1, 3, 3), group=4))
    assert [s.extent for s in found.loops] == [3, 3]


def test_zero_points_that_are_known_to_be_zero_cost_nothing() -> None:
    zero = constant(np.zeros((), np.uint8))
    y = matmul_integer(t(3, 4, dtype=u8), t(4, 5, dtype=i8), zero)
    assert y.fn == "add"
    assert sums(y) == [y]
