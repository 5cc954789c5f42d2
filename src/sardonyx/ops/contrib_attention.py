"""Attention operators of the domain com.microsoft: Attention, MultiHeadAttention.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md; the computation is that of attention.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import i32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.decide import ask
from sardonyx.expr.index import at
from sardonyx.expr.require import require_same
from sardonyx.expr.tensor import Tensor, assemble, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.attention import (
    Scale,
    appended,
    attend,
    default_scale,
    grouped,
    merge_heads,
    split_heads,
)
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.linalg import product
from sardonyx.ops.pointwise import add, view
from sardonyx.ops.record import Case, Op, Rule

FILTER = -10000.0
"""Default of mask_filter_value: the number added to the score of a key that a mask hides."""


class AddedMask(Struct, frozen=True):
    """Mask of com.microsoft's Attention and MultiHeadAttention, which adds to the scores.

    padding: i32[b], the number of keys of each sequence; or i32[2 b], where each ends and then where each starts; or i32[b, t] or i32[b, s, t], positive where a key may be seen. `filter`
    is added to the scores of the other keys.
    bias: T[b or 1, h or 1, s, t], added to all scores.
    causal: keys after the query get the score -infinity. past: how many keys precede the first query.
    """

    padding: Tensor | None
    bias: Tensor | None
    causal: bool
    past: Dim
    filter: float
    starts: bool = False

    hides = False

    @property
    def changes(self) -> bool:
        """Return whether the mask changes any score."""
        return self.padding is not None or self.bias is not None or self.causal

    def apply(self, score: Expr, at_head: tuple[Dim, Dim, Dim, Dim]) -> Expr:
        """Return the masked score."""
        b, _, i, j = at_head
        out = score
        if self.padding is not None:
            out = scalar.select(self.is_there(self.padding, b, i, j), out, scalar.add(out, self.filter))
        if self.bias is not None:
            out = scalar.add(out, at(self.bias, at_head))
        if self.causal:
            seen = scalar.apply("le", scalar.index(j), scalar.index(i + self.past))
            out = scalar.select(seen, out, -math.inf)
        return out

    def is_there(self, padding: Tensor, b: Dim, i: Dim, j: Dim) -> Expr:
        """Return whether padding lets query i of batch b see key j."""
        if padding.rank == 1:
            before_end = scalar.apply("lt", scalar.index(j), scalar.cast(at(padding, (b,)), i64))
            if not self.starts:
                return before_end
            start = scalar.cast(at(padding, (padding.shape[0] // 2 + b,)), i64)
            return scalar.logical_and(before_end, scalar.apply("ge", scalar.index(j), start))
        return scalar.apply("gt", at(padding, (b, j) if padding.rank == 2 else (b, i, j)), 0)


def scale_of(scale: float, size: Dim) -> Scale:
    """Return the scale, or the default 1 / sqrt(size) if the attribute is 0."""
    return scale or default_scale(size)


def columns(x: Tensor, start: Dim, count: Dim) -> Tensor:
    """Return `count` columns of x from `start` on. x: T[b, s, n] -> T[b, s, count]"""
    return view(x, [*x.shape[:2], count], lambda b, i, c: (b, i, start + c))


# ---- Attention -------------------------------------------------------------------------------------------------------------


def attention(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = FILTER,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> list[Tensor]:
    """Compute com.microsoft's Attention: queries, keys and values come from one product x weights + bias.

    x: T[b, s, i], weights: T[i, q + k + v], bias: T[q + k + v], past: T[2, b, h, p, d] (keys, values) -> T[b, s, v], present: T[2,
    b, h, p + s, d].
    Raises Unsupported for rotary embedding and for past and present in one buffer, Fail for other ranks.
    """
    if do_rotary or past_present_share_buffer or past_sequence_length is not None:
        raise Unsupported("Attention with rotary embedding, or past and present in one buffer")
    if (x.rank, weights.rank) != (3, 2) or (past is not None and past.rank != 5):
        raise Fail(f"[ShapeInferenceError] Attention of {list(x.shape)} and {list(weights.shape)}")
    packed = product(view(x, x.shape, lambda *i: i), weights, x.dtype)
    packed = packed if bias is None else add(packed, bias)
    return attend_packed(
        packed, mask_index, past, attention_bias, num_heads, qkv_hidden_sizes, mask_filter_value, scale, unidirectional
    )


def attend_packed(
    packed: Tensor,
    mask_index: Tensor | None,
    past: Tensor | None,
    attention_bias: Tensor | None,
    num_heads: int,
    qkv_hidden_sizes: Sequence[int] | None,
    mask_filter_value: float,
    scale: float,
    unidirectional: int,
) -> list[Tensor]:
    """Compute attention of queries, keys and values that lie beside each other, see `attention`. packed: T[b, s, q + k + v]"""
    third = packed.shape[2] // 3
    sizes: Sequence[Dim] = qkv_hidden_sizes or [third] * 3
    starts: list[Dim] = [0, sizes[0], sizes[0] + sizes[1]]
    q, k, v = (split_heads(columns(packed, s, n), num_heads) for s, n in zip(starts, sizes, strict=True))
    old = [None, None] if past is None else [view(past, past.shape[1:], lambda *i, h=h: (h, *i)) for h in (0, 1)]
    keys, values = appended(old[0], k), appended(old[1], v)
    before: Dim = past.shape[3] if past is not None else 0
    padding = mask_of(mask_index, q.shape, keys.shape[2])
    causal = bool(unidirectional)
    mask = AddedMask(padding, attention_bias, causal, before, mask_filter_value, has_starts(padding, q.shape[0]))
    y = attend(q, keys, values, mask, scale_of(scale, q.shape[3]), 0.0, None)[-1]
    halves = [view(t, [1, *t.shape], lambda _, *i: i) for t in (keys, values)]
    present = assemble(packed.dtype, [2, *keys.shape], [(t, [h, 0, 0, 0, 0]) for h, t in enumerate(halves)])
    return [merge_heads(y), present]


def has_starts(mask: Tensor | None, batch: Dim) -> bool:
    """Return whether a mask i32[2 b] says where each sequence ends, and then where each starts; one that is i32[b] does not."""
    if mask is None or mask.rank != 1 or mask.shape[0] == batch:
        return False
    return ask(mask.shape[0] - batch * 2, "==")


def mask_of(mask: Tensor | None, queries: Sequence[Dim], keys: Dim) -> Tensor | None:
    """Check that a mask has a shape that AddedMask takes, and return it. queries: [b, h, s, d]

    Raises Unsupported for masks of four axes, Fail for sizes that don't fit.
    """
    if mask is None:
        return None
    if mask.rank not in (1, 2, 3):
        raise Unsupported(f"an attention mask of shape {list(mask.shape)}")
    if has_starts(mask, queries[0]):
        return mask
    forms: list[list[Dim]] = [[queries[0]], [queries[0], keys], [queries[0], queries[2], keys]]
    require_same(mask.shape, forms[mask.rank - 1], "an attention mask has the shape {}, not {}", mask.shape, forms[mask.rank - 1])
    return mask


# ---- MultiHeadAttention --------------------------------------------------------------------------------------------------------


def multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    cache_indirection: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = FILTER,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> list[Tensor]:
    """Compute com.microsoft's MultiHeadAttention.

    query: T[b, s, h d] (or T[b, s, h, 3, d] with keys and values), key: T[b, t, h d] (or T[b, t, h, 2, d] with values, or T[b, h,
    t, d]), value: T[b, t, h e] (or T[b, h, t, e]), bias: T[h d + h d + h e] -> T[b, s, h e], present keys and values T[b, h, p + t,
    ...], and the masked scores.
    """
    if past_sequence_length is not None or cache_indirection is not None:
        raise Unsupported("MultiHeadAttention with past and present in one buffer")
    q, k, v = unpacked(query, key, value, num_heads)
    if bias is not None:
        q, k, v = biased(bias, q, k, v)
    keys, values = appended(past_key, k), appended(past_value, v)
    past: Dim = past_key.shape[2] if past_key is not None else 0
    mask = AddedMask(
        mask_of(key_padding_mask, q.shape, keys.shape[2]), attention_bias, bool(unidirectional), past, mask_filter_value
    )
    stages = attend(q, keys, values, mask, scale_of(scale, q.shape[3]), 0.0, None)
    return [merge_heads(stages[-1]), keys, values, grouped(stages[2])]


def unpacked(query: Tensor, key: Tensor | None, value: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values as T[b, h, n, d], from any form of MultiHeadAttention's inputs. Raises Fail if keys or values
    are missing.
    """
    if query.rank == 5:
        q, k, v = (part(query, n) for n in range(3))
        return q, k, v
    if key is None:
        raise Fail("MultiHeadAttention without keys")
    q = split_heads(query, heads)
    if key.rank == 5:
        return q, part(key, 0), part(key, 1)
    if value is None:
        raise Fail("MultiHeadAttention without values")
    return q, split_heads(key, heads), split_heads(value, heads)


def part(packed: Tensor, n: int) -> Tensor:
    """Return the n-th of several packed tensors: packed[:, :, :, n]. T[b, s, h, parts, d] -> T[b, h, s, d]"""
    b, s, h, _, d = packed.shape
    return view(packed, [b, h, s, d], lambda b, h, i, d: (b, i, h, n, d))


def biased(bias: Tensor, *heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Add to queries, keys and values, each T[b, h, s, d], the part of the bias that belongs to it."""
    out = []
    total = sum((t.shape[1] * t.shape[3] for t in heads), start=0)
    require_same(bias.shape, [total], "a bias of shape {} does not fit {} columns", bias.shape, total)
    start: Dim = 0
    for t in heads:
        size = t.shape[3]

        def body(b: Dim, h: Dim, i: Dim, d: Dim, t: Tensor = t, start: Dim = start, size: Dim = size) -> Expr:
            return scalar.add(at(t, (b, h, i, d)), at(bias, (start + h * size + d,)))

        out.append(compute(t.dtype, t.shape, body))
        start = start + t.shape[1] * size
    q, k, v = out
    return q, k, v


X = reals(2, 3, 16)
WEIGHTS, BIAS = reals(16, 48, scale=0.5), reals(48, scale=0.3)
Q, K, V = reals(2, 3, 16), reals(2, 5, 16)[:, ::-1].copy(), reals(2, 5, 16)
PAST = reals(2, 4, 2, 4), reals(2, 4, 2, 4)
LENGTHS = np.array([5, 2], np.int32)


INTEGERS = {
    **dict.fromkeys(("mask_index", "past_sequence_length", "key_padding_mask", "cache_indirection"), (i32,)),
    **dict.fromkeys(("seqlens_k", "total_sequence_length"), (i32,)),
    "position_ids": (i64,),
}
"""Dtypes of the inputs that are not floats, by name."""


def op(name: str, meaning: Any, *cases: Case) -> Op:
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        element_types=INTEGERS,
        expand=meaning,
        gradient=Rule.DERIVED,
        cases=cases,
        tolerance=1e-5,
    )


OPS = (
    op(
        "Attention",
        attention,
        Case((X, WEIGHTS, BIAS), {"num_heads": 4}),
        Case((X, WEIGHTS, BIAS, integers(2, 3, dtype=np.int32, lo=0, hi=1)), {"num_heads": 4}, "mask"),
        Case((X, WEIGHTS, BIAS, None, np.stack(PAST)), {"num_heads": 4, "unidirectional": 1}, "past", outputs=2),
    ),
    op(
        "MultiHeadAttention",
        multi_head_attention,
        Case((Q, K, V), {"num_heads": 4}),
        Case((Q, K, V, BIAS, LENGTHS), {"num_heads": 4, "scale": 0.3}, "lengths"),
        Case((Q, K, V, None, None, reals(1, 4, 3, 5)), {"num_heads": 4}, "bias"),
        Case((Q, Q[:, ::-1].copy(), Q, None, None, None, *PAST), {"num_heads": 4}, "past", outputs=3),
    ),
)
