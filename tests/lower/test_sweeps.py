"""Reductions written out, in each lane, along the lanes: extents of 0 and 1, short and long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sardonyx.base.symbolic import Dim, symbol
from sardonyx.codegen import features
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Alloc, For, Seq, Stmt
from sardonyx.lower.sweeps import rows_beside
from sardonyx.ops import linalg
from sardonyx.ops.conv import conv
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


@pytest.mark.parametrize(
    ("rows", "beside"),
    [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (7, 7),
        (8, 8),
        (9, 0),
        (10, 5),
        (11, 0),
        (12, 6),
        (14, 7),
        (16, 8),
        (26, 0),
        (40, 8),
        (symbol("m"), 0),
    ],
    ids=str,
)
def test_rows_of_windows_side_by_side(rows: Dim, beside: int) -> None:
    """All of them up to eight, else a part that divides them, of four at the least."""
    assert rows_beside(rows) == beside


CHANNELS = 96


def widths(**machine: Any) -> set[Dim]:
    """How many channels the vector loops around windows take, in a depthwise convolution whose channels lie side by side."""
    filters = reals(CHANNELS, 1, 3, 3, seed=1)

    def build(x: Tensor, w: Tensor) -> Tensor:
        picture = linalg.transpose(x, [0, 3, 1, 2])
        return linalg.transpose(conv(picture, w, group=CHANNELS, pads=[1] * 4), [0, 2, 3, 1])

    program = compiled(build, f"f32[1, 12, 12, {CHANNELS}]", filters, target=features.AVX2, machine=machine)
    program.check(reals(1, 12, 12, CHANNELS), tolerance=1e-5)
    found = [s for k in program.lowered.kernels.values() for s in loops(k.body) if s.kind == "vector"]
    return {s.hi - s.lo for s in found if any(inner.kind == "unrolled" for inner in loops(s.body))}


def loops(s: Stmt) -> Iterator[For]:
    if isinstance(s, For):
        yield s
    for part in s.body if isinstance(s, Seq) else (s.body,) if isinstance(s, For | Alloc) else ():
        yield from loops(part)


def test_windows_slide_over_chunks_of_channels() -> None:
    """Two vectors at a time, so that what windows share stays in the first cache; not for a picture that the second one can't hold."""
    picture = 12 * 14 * CHANNELS * 4  # the rows that are begun, with their borders
    assert widths(l2=picture) == {2 * 8}
    assert widths(l2=picture - 1) == {CHANNELS}
    assert widths(l2=picture, lanes=CHANNELS // 2) == {CHANNELS}, "two vectors are all"
