"""Rotary embeddings of the domain com.microsoft: RotaryEmbedding, and MRotaryEmbedding for positions in time, height and width.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md; the computation is that of attention.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Tensor, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.attention import PairFactor, rotated, split_heads
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.pointwise import view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule


def rotary_embedding(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """Compute com.microsoft's RotaryEmbedding, see attention.py's `rotated`. x: T[b, s, h d] (or T[b, h, s, d]) -> like x

    position_ids: i64[1], the position of the first token, or i64[b, s]; cos_cache, sin_cache: T[n, r / 2].
    Raises Unsupported for packed batches, for a scale, and if the number of heads can't be determined.
    """
    if is_packed_batching or scale != 1:
        raise Unsupported("RotaryEmbedding with packed batches, or a scale")
    if x.rank not in (3, 4) or position_ids.rank not in (1, 2) or (cos_cache.rank, sin_cache.rank) != (2, 2):
        raise Fail(f"[ShapeInferenceError] RotaryEmbedding of {[list(t.shape) for t in (x, position_ids, cos_cache, sin_cache)]}")
    require_same(
        cos_cache.shape,
        sin_cache.shape,
        "the caches of cosines {} and of sines {} differ in shape",
        cos_cache.shape,
        sin_cache.shape,
    )
    width = cos_cache.shape[1] * 2
    heads = x if x.rank == 4 else split_heads(x, num_heads or head_count(x, rotary_embedding_dim, width))
    places = [1] if position_ids.rank == 1 else [heads.shape[0], heads.shape[2]]
    require_same(position_ids.shape, places, "RotaryEmbedding of {} with position_ids of shape {}", x.shape, position_ids.shape)

    def pair_factor(cache: Tensor) -> PairFactor:
        def number(b: Dim, i: Dim, k: Dim) -> Expr:
            first = at(position_ids, (0,) if position_ids.rank == 1 else (b, i))
            place = scalar.add(first, scalar.index(i)) if position_ids.rank == 1 else first
            return at(cache, (element(place, cache.shape[0]), k))

        return number

    y = rotated(heads, width, bool(interleaved), pair_factor(cos_cache), pair_factor(sin_cache))
    if x.rank == 4:
        return y
    size = heads.shape[3]
    return view(y, x.shape, lambda b, i, c: (b, c // size, i, c % size))


def head_count(x: Tensor, rotary_embedding_dim: int, width: Dim) -> int:
    """Return the number of heads of x: T[b, s, h d] if the node does not say it: every channel is rotated, so a head has `width`
    channels.
    """
    count = x.shape[2] // width
    if rotary_embedding_dim or not isinstance(count, int):
        raise Unsupported("RotaryEmbedding whose number of heads cannot be determined")
    return count


def m_rotary_embedding(
    input: Tensor,  # noqa: A002
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    mrope_section: Sequence[int],
    interleaved: int = 0,
    is_packed_batching: int = 0,
    mrope_layout: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """Compute com.microsoft's MRotaryEmbedding: each pair of numbers is rotated by the position in time, height or width.

    input: T[b, s, h d] (or T[b, h, s, d]), position_ids: i64[3, b, s], caches: T[n, r / 2], mrope_section: how many of the r / 2 pairs
    follow time, height and width -> like input. mrope_layout: 0, one section after the other; 1, interleaved, see `axis_of_pairs`.
    Raises Unsupported for packed batches and for a scale, Fail for sections or shapes that don't fit.
    """
    if is_packed_batching or scale != 1:
        raise Unsupported("MRotaryEmbedding with packed batches, or a scale")
    if input.rank not in (3, 4) or mrope_layout not in (0, 1) or len(mrope_section) != 3 or min(mrope_section) < 0:
        raise Fail(f"MRotaryEmbedding of {list(input.shape)} with sections {list(mrope_section)}, layout {mrope_layout}")
    require_ranks("MRotaryEmbedding with caches {}, {} and positions {}", (cos_cache, 2), (sin_cache, 2), (position_ids, 3))
    require_same(cos_cache.shape, sin_cache.shape, "caches {} of cosines and {} of sines", cos_cache.shape, sin_cache.shape)
    half = sum(mrope_section)
    require_equal(cos_cache.shape[1], half, "a cache of {} for sections {}", cos_cache.shape, list(mrope_section))
    heads = input if input.rank == 4 else split_heads(input, num_heads or head_count(input, rotary_embedding_dim, 2 * half))
    wanted = [3, heads.shape[0], heads.shape[2]]
    require_same(position_ids.shape, wanted, "positions {}, not {}", position_ids.shape, wanted)
    axes = constant(np.array(axis_of_pairs(mrope_section, mrope_layout), np.int64))

    def pair_factor(cache: Tensor) -> PairFactor:
        def number(b: Dim, i: Dim, k: Dim) -> Expr:
            place = at(position_ids, (element(at(axes, (k,)), 3), b, i))
            return at(cache, (element(place, cache.shape[0]), k))

        return number

    y = rotated(heads, 2 * half, bool(interleaved), pair_factor(cos_cache), pair_factor(sin_cache))
    if input.rank == 4:
        return y
    size = heads.shape[3]
    return view(y, input.shape, lambda b, i, c: (b, c // size, i, c % size))


def axis_of_pairs(sections: Sequence[int], layout: int) -> list[int]:
    """Return 0, 1 or 2 (time, height, width) for each pair of channels.

    Interleaved layout: for height (axis number 1) and width (2) with sections of n pairs, every third of the first 3 n pairs
    follows the axis, starting at the axis number; all other pairs follow time.
    """
    if layout == 0:
        return [axis for axis, count in enumerate(sections) for _ in range(count)]
    pairs = range(sum(sections))
    return [k % 3 if k % 3 and k < 3 * sections[k % 3] else 0 for k in pairs]


X, COS, SIN = reals(2, 3, 16), np.cos(reals(9, 2)), np.sin(reals(9, 2))
WIDE, COSINES, SINES = reals(2, 3, 48), np.cos(reals(9, 6)), np.sin(reals(9, 6))
PLACES = integers(3, 2, 3, lo=0, hi=8)


def op(name: str, meaning: Any, *cases: Case) -> Op:
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        element_types={"position_ids": (i64,)},
        expand=meaning,
        gradient=Rule.DERIVED,
        cases=cases,
        tolerance=1e-5,
    )


OPS = (
    op(
        "RotaryEmbedding",
        rotary_embedding,
        Case((X, np.array([2]), COS, SIN), {"num_heads": 4}),
        Case((X, integers(2, 3, lo=0, hi=8), COS, SIN), {"interleaved": 1}),
    ),
    op(
        "MRotaryEmbedding",
        m_rotary_embedding,
        Case((WIDE, PLACES, COSINES, SINES), {"mrope_section": [3, 2, 1], "num_heads": 4, "rotary_embedding_dim": 12}),
        Case(
            (WIDE, PLACES, COSINES, SINES),
            {"mrope_section": [2, 2, 2], "mrope_layout": 1, "interleaved": 1, "num_heads": 4, "rotary_embedding_dim": 12},
        ),
    ),
)
