"""Attention operators of the domain com.microsoft: Attention, MultiHeadAttention, GroupQueryAttention.

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
from sardonyx.base.symbolic import Dim, maximum
from sardonyx.base.symbolic import product as product_of
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import only
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Read, Tensor, assemble, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.attention import (
    Mask,
    PairFactor,
    Scale,
    appended,
    attend,
    default_scale,
    grouped,
    merge_heads,
    rotated,
    split_heads,
    visible,
)
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.linalg import product
from sardonyx.ops.pointwise import add, view
from sardonyx.ops.ranks import require_ranks
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
    """Return whether a mask i32[2 b] says where each sequence ends, and then where each starts."""
    return mask is not None and mask.rank == 1 and batch != 0 and mask.shape[0] == batch * 2


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


# ---- GroupQueryAttention -----------------------------------------------------------------------------------------------------------


def group_query_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    seqlens_k: Tensor,
    total_sequence_length: Tensor,
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None,
    attention_bias: Tensor | None = None,
    head_sink: Tensor | None = None,
    *,
    num_heads: int,
    kv_num_heads: int,
    do_rotary: int = 0,
    local_window_size: int = -1,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    smooth_softmax: int = 0,
    softcap: float = 0.0,
    qk_output: int = 0,
    k_quant_type: str = "NONE",
    v_quant_type: str = "NONE",
    kv_cache_bit_width: int = 0,
) -> list[Tensor]:
    """Compute com.microsoft's GroupQueryAttention: causal attention over a cache of keys and values, where groups of query heads
    share a kv head.

    query: T[b, s, h d] (or T[b, s, (h + 2 g) d] with keys and values), key, value: T[b, s, g d], past_key, past_value: T[b, g, p,
    d], seqlens_k: i32[b], the length of each sequence minus 1, cos_cache, sin_cache: T[n, d / 2]. -> T[b, s, h d], present keys and
    values: T[b, g, max(p, total), d].
    Raises Unsupported for sinks, for output of the scores and for quantised caches.
    """
    if head_sink is not None or smooth_softmax > 0:
        raise Unsupported("GroupQueryAttention with a sink")
    if qk_output > 0 or (k_quant_type, v_quant_type) != ("NONE", "NONE") or kv_cache_bit_width > 0:
        raise Unsupported("GroupQueryAttention that gives its scores, or whose cache is quantised")
    q, k, v = queries_keys_values(query, key, value, num_heads, kv_num_heads)
    require_equal(
        product_of(seqlens_k.shape), q.shape[0], "seqlens_k of shape {} does not fit {} sequences", seqlens_k.shape, q.shape[0]
    )
    for old, new in ((past_key, k), (past_value, v)):
        if old is not None:
            require_same(
                [*old.shape[:2], *old.shape[3:]],
                [*new.shape[:2], new.shape[3]],
                "keys or values of shape {} cannot be appended to past ones of shape {}",
                new.shape,
                old.shape,
            )
    if total_sequence_length.shape not in ((), (1,)):
        raise Fail(f"[ShapeInferenceError] GroupQueryAttention with a total length of shape {list(total_sequence_length.shape)}")
    total = only(total_sequence_length, "total_sequence_length")
    before = Cache(seqlens_k, total, q.shape[2])
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            raise Fail("GroupQueryAttention with do_rotary, but without caches of cosines and sines")
        require_ranks(
            "GroupQueryAttention with caches of shapes {} and {} and position_ids of shape {}",
            (cos_cache, 2),
            (sin_cache, 2),
            (position_ids, 2),
        )
        factors = [before.pair_factor(c, position_ids) for c in (cos_cache, sin_cache)]
        width = cos_cache.shape[1] * 2
        q, k = (rotated(t, width, bool(rotary_interleaved), factors[0], factors[1]) for t in (q, k))
    size = maximum(past_key.shape[2], total) if past_key is not None else total
    keys, values = (before.present(p, t, size) for p, t in ((past_key, k), (past_value, v)))
    window = (local_window_size - 1 if local_window_size > 0 else -1, 0)
    mask = Mask(visible(q.shape[2], 0, before.ends(), window), attention_bias)
    y = attend(q, keys, values, mask, scale_of(scale, q.shape[3]), softcap, None)[-1]
    return [merge_heads(y), keys, values]


def queries_keys_values(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values as T[b, h or g, s, d], split from the packed query where key and value are absent."""
    if key is not None and value is not None:
        return split_heads(query, heads), split_heads(key, kv_heads), split_heads(value, kv_heads)
    require_ranks("GroupQueryAttention of a packed query of shape {}, which does not have 3 axes", (query, 3))
    size = query.shape[2] // (heads + 2 * kv_heads)
    require_equal(
        size * (heads + 2 * kv_heads),
        query.shape[2],
        "{} columns cannot be divided among {} heads",
        query.shape[2],
        heads + 2 * kv_heads,
    )
    counts = (heads, kv_heads, kv_heads)
    starts = (0, heads, heads + kv_heads)
    q, k, v = (split_heads(columns(query, s * size, n * size), n) for s, n in zip(starts, counts, strict=True))
    return q, k, v


class Cache(Struct, frozen=True):
    """Lengths of the sequences in a cache of keys.

    lengths: i32[b], each sequence's length minus 1, this step's keys included; new: how many keys this step adds to each sequence;
    total: the length of the longest sequence. At the first step, when total equals new, a sequence has no earlier keys.
    """

    lengths: Tensor
    total: Dim
    new: Dim

    def past(self, b: Dim) -> Expr:
        """Return how many keys of sequence b precede this step's."""
        before = scalar.add(scalar.cast(at(self.lengths, (b, *[0] * (self.lengths.rank - 1))), i64), scalar.index(1 - self.new))
        is_first = scalar.apply("eq", scalar.index(self.total), scalar.index(self.new))
        return scalar.select(is_first, 0, before)

    def ends(self) -> Tensor:
        """Return the number of keys of each sequence, this step's included: i64[b]"""
        return compute(i64, [self.lengths.shape[0]], lambda b: scalar.add(self.past(b), scalar.index(self.new)))

    def pair_factor(self, cache: Tensor, position_ids: Tensor | None) -> PairFactor:
        """Return the function that reads the cosine or sine for pair k of the i-th new token of batch b."""

        def number(b: Dim, i: Dim, k: Dim) -> Expr:
            place = at(position_ids, (b, i)) if position_ids is not None else scalar.add(self.past(b), scalar.index(i))
            return at(cache, (element(place, cache.shape[0]), k))

        return number

    def present(self, past: Tensor | None, new: Tensor, size: Dim) -> Tensor:
        """Write the new keys behind the earlier ones of each sequence. past: T[b, g, p, d], new: T[b, g, s, d] -> T[b, g, size, d]"""

        def body(b: Dim, g: Dim, j: Dim, d: Dim) -> Expr:
            place = scalar.sub(scalar.index(j), self.past(b))
            is_new = scalar.logical_and(scalar.apply("ge", place, 0), scalar.apply("lt", place, scalar.index(self.new)))
            limited = scalar.minimum(scalar.maximum(place, 0), scalar.index(self.new - 1))
            fresh = at(new, (b, g, element(limited, self.new), d))
            if past is None:
                return scalar.select(is_new, fresh, 0)
            there = scalar.apply("lt", scalar.index(j), scalar.index(past.shape[2]))
            return scalar.select(is_new, fresh, Read(past, (b, g, j, d), there))

        return compute(new.dtype, [*new.shape[:2], size, new.shape[3]], body)


X = reals(2, 3, 16)
WEIGHTS, BIAS = reals(16, 48, scale=0.5), reals(48, scale=0.3)
Q, K, V = reals(2, 3, 16), reals(2, 5, 16)[:, ::-1].copy(), reals(2, 5, 16)
PAST = reals(2, 4, 2, 4), reals(2, 4, 2, 4)
LENGTHS = np.array([5, 2], np.int32)
FIRST = reals(2, 3, 64), reals(2, 3, 32)[:, ::-1].copy(), reals(2, 3, 32)
NOTHING, BUFFERS = np.zeros((2, 2, 0, 16), np.float32), (reals(2, 2, 6, 16), reals(2, 2, 6, 16)[:, ::-1].copy())
COS_SIN = np.cos(reals(9, 8)), np.sin(reals(9, 8))


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


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


GROUPED = {"num_heads": 4, "kv_num_heads": 2}

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
    op(
        "GroupQueryAttention",
        group_query_attention,
        Case((*FIRST, NOTHING, NOTHING, whole(2, 2), whole(3)), GROUPED, "first", outputs=3),
        Case(
            (*FIRST, None, None, whole(2, 2), whole(3), *COS_SIN), {**GROUPED, "do_rotary": 1, "softcap": 3.0}, "no_past", outputs=3
        ),
        Case(
            (*(t[:, :1].copy() for t in FIRST), *BUFFERS, whole(5, 5), whole(6), *COS_SIN),
            {**GROUPED, "do_rotary": 1, "local_window_size": 3, "rotary_interleaved": 1},
            "rotary",
            outputs=3,
        ),
        Case((reals(2, 1, 128), None, None, *BUFFERS, whole(5, 5), whole(6)), GROUPED, "packed", outputs=3),
    ),
)
