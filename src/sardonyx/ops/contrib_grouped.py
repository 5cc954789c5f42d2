"""GroupQueryAttention of the domain com.microsoft, and its cache of keys and values.

Its definition is that of ONNX Runtime's docs/ContribOperators.md; the computation is that of attention.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import FLOATS, f8e4m3fn, f32, i8, i32, i64, u8
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, maximum
from sardonyx.base.symbolic import product as product_of
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import only
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Read, Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.attention import Mask, PairFactor, attend, merge_heads, rotated, split_heads, visible
from sardonyx.ops.cases import reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.contrib_attention import columns, scale_of
from sardonyx.ops.norm import rms_normalization
from sardonyx.ops.pointwise import expand_to
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule


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
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    q_norm_weight: Tensor | None = None,
    k_norm_weight: Tensor | None = None,
    query_seqlens: Tensor | None = None,
    *,
    num_heads: int,
    kv_num_heads: int,
    causal: int = 1,
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
    k_norm_epsilon: float = 0.0,
    q_norm_epsilon: float = 0.0,
    qk_norm_epsilon: float = 1e-6,
    sliding_window_cache: int = 0,
) -> list[Tensor]:
    """Compute com.microsoft's GroupQueryAttention: causal attention over a cache of keys and values, where groups of query heads
    share a kv head.

    query: T[b, s, h d] (or T[b, s, (h + 2 g) d] with keys and values), key, value: T[b, s, g d], past_key, past_value: T[b, g, p,
    d], seqlens_k: i32[b], the length of each sequence minus 1, cos_cache, sin_cache: T[n, d / 2]. -> T[b, s, h d], present keys and
    values: T[b, g, max(p, total), d].
    head_sink: T[h], scores of keys without a value that each head sees too, which smooth_softmax puts at 0. q_norm_weight,
    k_norm_weight: T[d], of an RMS norm of queries and keys. causal = 0: queries see all keys.
    Raises Unsupported for output of the scores, quantised or windowed caches and padded queries.
    """
    if qk_output > 0 or sliding_window_cache or query_seqlens is not None:
        raise Unsupported("GroupQueryAttention with qk_output, sliding_window_cache or query_seqlens")
    if (k_quant_type, v_quant_type) != ("NONE", "NONE") or kv_cache_bit_width > 0 or k_scale is not None or v_scale is not None:
        raise Unsupported("GroupQueryAttention whose cache is quantised")
    if causal not in (0, 1) or (not causal and local_window_size > 0) or (q_norm_weight is None) != (k_norm_weight is None):
        raise Fail("GroupQueryAttention with causal other than 0 and 1, a window without it, or one of the two norms alone")
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
    if q_norm_weight is not None and k_norm_weight is not None:
        q = rms_normalization(q, q_norm_weight, -1, q_norm_epsilon or qk_norm_epsilon)
        k = rms_normalization(k, k_norm_weight, -1, k_norm_epsilon or qk_norm_epsilon)
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
    window = (local_window_size - 1 if local_window_size > 0 else -1, 0 if causal else -1)
    mask = Mask(visible(q.shape[2], 0, before.ends(), window), attention_bias)
    y = attend(q, keys, values, mask, scale_of(scale, q.shape[3]), softcap, None, sink_of(q, head_sink, smooth_softmax))[-1]
    return [merge_heads(y), keys, values]


def sink_of(q: Tensor, head_sink: Tensor | None, smooth_softmax: int) -> Tensor | None:
    """Return each head's sink, if there is any: T[h]"""
    heads = q.shape[1]
    if head_sink is not None:
        require_same(head_sink.shape, [heads], "a head_sink of shape {} for {} heads", head_sink.shape, heads)
        return head_sink
    return expand_to(constant(np.zeros((), q.dtype.numpy)), [heads]) if smooth_softmax > 0 else None


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


FIRST = reals(2, 3, 64), reals(2, 3, 32)[:, ::-1].copy(), reals(2, 3, 32)
NOTHING, BUFFERS = np.zeros((2, 2, 0, 16), np.float32), (reals(2, 2, 6, 16), reals(2, 2, 6, 16)[:, ::-1].copy())
COS_SIN = np.cos(reals(9, 8)), np.sin(reals(9, 8))
GROUPED = {"num_heads": 4, "kv_num_heads": 2}


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def op(name: str, meaning: Any, *cases: Case) -> Op:
    types = {
        "seqlens_k total_sequence_length query_seqlens": (i32,),
        "position_ids": (i64,),
        "k_scale v_scale": (f32,),
        "past_key past_value": (*FLOATS, u8, i8, f8e4m3fn),
    }
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        element_types=types,
        expand=meaning,
        gradient=Rule.DERIVED,
        cases=cases,
        tolerance=1e-5,
    )


OPS = (
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
        Case((*FIRST, NOTHING, NOTHING, whole(2, 2), whole(3)), {**GROUPED, "smooth_softmax": 1}, "smooth", outputs=3),
        Case((*FIRST, NOTHING, NOTHING, whole(2, 2), whole(3), None, None, None, None, reals(4)), GROUPED, "sinks", outputs=3),
    ),
)
