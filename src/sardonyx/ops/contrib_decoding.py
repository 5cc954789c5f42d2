"""Further attention operators of the domain com.microsoft: QAttention, DecoderMaskedMultiHeadAttention, SparseAttention.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md; the computation is that of attention.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import boolean, f16, f32, i8, i32, i64, u8
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import only
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.attention import appended, attend, grouped, merge_heads, rotated, split_heads
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.contrib_attention import (
    FILTER,
    AddedMask,
    attend_packed,
    biased,
    columns,
    mask_of,
    scale_of,
)
from sardonyx.ops.contrib_grouped import Cache, queries_keys_values
from sardonyx.ops.contrib_quantized import matmul_integer_to_float
from sardonyx.ops.pointwise import reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule


def q_attention(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor,
    input_scale: Tensor,
    weight_scale: Tensor,
    mask_index: Tensor | None = None,
    input_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
    past: Tensor | None = None,
    *,
    num_heads: int,
    do_rotary: int = 0,
    mask_filter_value: float = FILTER,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> list[Tensor]:
    """Compute QAttention: com.microsoft's Attention, whose product of input and weights is computed on quantised numbers.

    input: S[b, s, i], weight: U[i, 3 h d], its scale and zero point: one, or one per column, bias: T[3 h d], past: T[2, b, h, p, d]
    -> T[b, s, h d], present: T[2, b, h, p + s, d].
    Raises Unsupported for rotary embedding and for past and present in one buffer, Fail for other ranks.
    """
    if do_rotary or past_present_share_buffer:
        raise Unsupported("QAttention with rotary embedding, or past and present in one buffer")
    require_ranks("QAttention of {} and {}", (input, 3), (weight, 2))
    require_ranks("QAttention with a past of {}", (past, 5))
    packed = matmul_integer_to_float(input, weight, input_scale, weight_scale, input_zero_point, weight_zero_point, bias)
    return attend_packed(packed, mask_index, past, None, num_heads, None, mask_filter_value, scale, unidirectional)


# ---- DecoderMaskedMultiHeadAttention ---------------------------------------------------------------------------------------------------


def decoder_masked_multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    mask_index: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    beam_width: Tensor | None = None,
    cache_indirection: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    num_heads: int,
    mask_filter_value: float = FILTER,
    output_qk: int = 0,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
) -> list[Tensor | None]:
    """Compute DecoderMaskedMultiHeadAttention: attention of one new token in each sequence.

    Self-attention: query, key, value: T[b, 1, h d] (or a packed query T[b, 1, 3 h d]), past: T[b, h, p, d], of which the first
    past_sequence_length tokens are used if past_present_share_buffer is set. cache_indirection: i32[b / w, w, p], the beam (of w)
    that each earlier token comes from. Cross-attention: key, value: T[b, h, t, d].
    -> T[b, 1, h d], present keys and values (None for cross-attention): T[b, h, p (+ 1), d], and scores: T[b, h, 1, t]. Raises Fail
    for inputs that don't fit each other.
    """
    require_ranks("DecoderMaskedMultiHeadAttention of {}", (query, 3))
    require_ranks("DecoderMaskedMultiHeadAttention with a past of {} and {}", (past_key, 4), (past_value, 4))
    require_equal(query.shape[1], 1, "DecoderMaskedMultiHeadAttention of {}, not one token", query.shape)
    present: list[Tensor | None] = [None, None]
    if key is not None and value is not None:
        require_ranks("DecoderMaskedMultiHeadAttention of keys {} and values {}", (key, key.rank), (value, key.rank))
    if key is not None and value is not None and key.rank == 4:
        q = split_heads(query, num_heads)
        q, keys, values = q if bias is None else shifted(q, bias), key, value
    else:
        q, k, v = token_heads(query, key, value, num_heads)
        if bias is not None:
            q, k, v = biased(bias, q, k, v)
        if not past_present_share_buffer:
            keys, values = appended(past_key, k), appended(past_value, v)
            present = [keys, values]
        else:
            if past_key is None or past_value is None or past_sequence_length is None:
                raise Fail("DecoderMaskedMultiHeadAttention in one buffer needs past_key, past_value and past_sequence_length")
            before = only(past_sequence_length, "past_sequence_length")
            buffers = put(past_key, k, before), put(past_value, v, before)
            keys, values = (used(t, before, cache_indirection) for t in buffers)
            present = [*buffers]
    if mask_index is not None and mask_index.rank != 2:
        raise Unsupported(f"DecoderMaskedMultiHeadAttention with a mask of shape {list(mask_index.shape)}")
    mask = AddedMask(mask_of(mask_index, q.shape, keys.shape[2]), attention_bias, False, 0, mask_filter_value)
    stages = attend(q, keys, values, mask, scale_of(scale, q.shape[3]), 0.0, None)
    return [merge_heads(stages[-1]), *present, grouped(stages[0])]


def token_heads(query: Tensor, key: Tensor | None, value: Tensor | None, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values as T[b, h, 1, d], from three tensors or from a packed one."""
    if key is not None and value is not None:
        return split_heads(query, heads), split_heads(key, heads), split_heads(value, heads)
    size = query.shape[2] // 3
    require_equal(size * 3, query.shape[2], "{} columns for queries, keys and values", query.shape[2])
    q, k, v = (split_heads(columns(query, n * size, size), heads) for n in range(3))
    return q, k, v


def shifted(q: Tensor, bias: Tensor) -> Tensor:
    """Add the part of the bias that belongs to queries. q: T[b, h, 1, d]"""
    size = q.shape[3]
    require_nonnegative(bias.shape[0] - q.shape[1] * size, "a bias of shape {} for queries {}", bias.shape, q.shape)
    return compute(q.dtype, q.shape, lambda b, h, i, d: scalar.add(at(q, (b, h, i, d)), at(bias, (h * size + d,))))


def put(old: Tensor, new: Tensor, place: Dim) -> Tensor:
    """Write the new token into the buffer at a position. old: T[b, h, p, d], new: T[b, h, 1, d] -> T[b, h, p, d]"""
    sizes = [*old.shape[:2], old.shape[3]]
    require_same(sizes, [*new.shape[:2], new.shape[3]], "{} behind a past of {}", new.shape, old.shape)
    require_nonnegative(old.shape[2] - place - 1, "a token behind {} others in a buffer for {}", place, old.shape[2])

    def body(b: Dim, h: Dim, j: Dim, d: Dim) -> Expr:
        is_new = scalar.apply("eq", scalar.index(j), scalar.index(place))
        return scalar.select(is_new, at(new, (b, h, 0, d)), at(old, (b, h, j, d)))

    return compute(old.dtype, old.shape, body)


def used(buffer: Tensor, before: Dim, beams: Tensor | None) -> Tensor:
    """Return the earlier tokens and the new one, each from its beam. buffer: T[b, h, p, d] -> T[b, h, before + 1, d]"""
    shape = [*buffer.shape[:2], before + 1, buffer.shape[3]]
    if beams is None:
        return view(buffer, shape, lambda *i: i)
    require_ranks("cache_indirection of shape {}", (beams, 3))
    width = beams.shape[1]
    require_equal(beams.shape[0] * width, buffer.shape[0], "cache_indirection {} for {}", beams.shape, buffer.shape)

    def body(b: Dim, h: Dim, j: Dim, d: Dim) -> Expr:
        is_new = scalar.apply("eq", scalar.index(j), scalar.index(before))
        own = scalar.select(is_new, scalar.index(b % width), scalar.cast(at(beams, (b // width, b % width, j)), i64))
        source = element(scalar.add(own, scalar.index(b // width * width)), buffer.shape[0])
        return at(buffer, (source, h, j, d))

    return compute(buffer.dtype, shape, body)


# ---- SparseAttention --------------------------------------------------------------------------------------------------------------------


class SparseMask(Struct, frozen=True):
    """Mask of SparseAttention: a query sees keys up to itself in the blocks of its head's layout.

    blocks: bool[layouts, rows, columns], of `size` tokens each way; before: the number of keys before the first query of each sequence
    """

    blocks: Tensor
    size: int
    before: Cache

    hides = True
    changes = True

    def apply(self, score: Expr, at_head: tuple[Dim, Dim, Dim, Dim]) -> Expr:
        """Return the score, or -infinity where the key is hidden."""
        b, h, i, j = at_head
        layouts, rows, columns_ = self.blocks.shape
        place = scalar.add(self.before.past(b), scalar.index(i))
        block = scalar.minimum(scalar.div(place, self.size), scalar.index(rows - 1))
        column = scalar.minimum(scalar.index(j // self.size), scalar.index(columns_ - 1))
        listed = at(self.blocks, (h % layouts, element(block, rows), element(column, columns_)))
        return scalar.select(scalar.logical_and(listed, scalar.apply("le", scalar.index(j), place)), score, -math.inf)


def sparse_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor,
    past_value: Tensor,
    block_row_indices: Tensor,
    block_col_indices: Tensor,
    total_sequence_length: Tensor,
    key_total_sequence_lengths: Tensor,
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    *,
    num_heads: int,
    kv_num_heads: int,
    sparse_block_size: int,
    do_rotary: int = 0,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
) -> list[Tensor]:
    """Compute SparseAttention: causal attention over a cache of keys, where each block of queries sees certain blocks of keys only.

    query: T[b, s, h d] (or with keys and values, T[b, s, (h + 2 g) d]), past: T[b, g, p, d], total_sequence_length: i32[],
    key_total_sequence_lengths: i32[b]. block_row_indices: i32[l, rows + 1] and block_col_indices: i32[l, n] list the visible blocks
    of l layouts in CSR form; head i uses layout i modulo l. -> T[b, s, h d], present keys and values: T[b, g, p, d].
    Raises Fail for inputs that don't fit each other.
    """
    if sparse_block_size < 1:
        raise Fail(f"SparseAttention in blocks of {sparse_block_size} tokens")
    require_ranks("SparseAttention with blocks {} and {}", (block_row_indices, 2), (block_col_indices, 2))
    require_ranks("SparseAttention with lengths {}", (key_total_sequence_lengths, 1))
    q, k, v = queries_keys_values(query, key, value, num_heads, kv_num_heads)
    total = only(total_sequence_length, "total_sequence_length")
    lengths = key_total_sequence_lengths
    before = Cache(compute(i32, lengths.shape, lambda b: scalar.sub(at(lengths, (b,)), 1)), total, q.shape[2])
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            raise Fail("SparseAttention with do_rotary and no cache of cosines and sines")
        factors = [before.pair_factor(c, None) for c in (cos_cache, sin_cache)]
        q, k = (rotated(t, cos_cache.shape[1] * 2, bool(rotary_interleaved), *factors) for t in (q, k))
    keys, values = (before.present(p, t, p.shape[2]) for p, t in ((past_key, k), (past_value, v)))
    mask = SparseMask(block_mask(block_row_indices, block_col_indices), sparse_block_size, before)
    y = attend(q, keys, values, mask, scale_of(scale, q.shape[3]), 0.0, None)[-1]
    return [merge_heads(y), keys, values]


def block_mask(rows: Tensor, columns_: Tensor) -> Tensor:
    """Return which blocks a CSR form lists. rows: i32[l, r + 1], columns: i32[l, n] -> bool[l, r, r]"""
    layouts, count = rows.shape[0], rows.shape[1] - 1

    def is_listed(layout: Dim, r: Dim, c: Dim, n: Dim) -> Expr:
        own = scalar.index(n)
        start, end = (scalar.cast(at(rows, (layout, r + o)), i64) for o in (0, 1))
        in_row = scalar.logical_and(scalar.apply("ge", own, start), scalar.apply("lt", own, end))
        column = scalar.cast(at(columns_, (layout, n)), i64)
        return scalar.logical_and(in_row, scalar.apply("eq", column, scalar.index(c)))

    return reduce("or", boolean, [layouts, count, count], [columns_.shape[1]], is_listed)


# ---- records ----------------------------------------------------------------------------------------------------------------------------


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


X, WEIGHTS = integers(2, 3, 6, dtype=np.uint8, lo=0, hi=255), integers(6, 24, dtype=np.int8, lo=-128, hi=127)
FINE, SHIFT = np.array(0.01, np.float32), np.array(128, np.uint8)
COLUMNS = np.abs(reals(24, scale=0.01)) + np.float32(0.003)
PAST = reals(2, 2, 2, 2, 4)
TOKEN, BUFFER = reals(4, 1, 8), reals(4, 2, 5, 4)


def op(name: str, meaning: Any, types: dict[str, Any], *cases: Case) -> Op:
    return Op(
        name, 1, MICROSOFT, in_standard=False, element_types=types, expand=meaning, gradient=Rule.NONE, cases=cases, tolerance=2e-5
    )


OPS = (
    op(
        "QAttention",
        q_attention,
        {
            "input input_zero_point": (u8, i8),
            "weight weight_zero_point": (u8, i8),
            "bias input_scale weight_scale past": (f32, f16),
            "mask_index": (i32,),
        },
        Case((X, WEIGHTS, reals(24), FINE, FINE, None, SHIFT, np.array(3, np.int8)), {"num_heads": 2}),
        Case((X, WEIGHTS, reals(24), FINE, COLUMNS, whole(3, 2), SHIFT), {"num_heads": 2}, "lengths"),
        Case((X, WEIGHTS, reals(24), FINE, COLUMNS, whole(3, 2, 1, 0), SHIFT), {"num_heads": 2}, "starts"),
        Case(
            (X, WEIGHTS, reals(24), FINE, FINE, None, SHIFT, np.array(3, np.int8), PAST),
            {"num_heads": 2, "unidirectional": 1},
            "past",
            outputs=2,
        ),
    ),
    op(
        "DecoderMaskedMultiHeadAttention",
        decoder_masked_multi_head_attention,
        {"mask_index past_sequence_length beam_width cache_indirection": (i32,)},
        Case(
            (TOKEN, TOKEN * 2, TOKEN + 1, None, None, BUFFER, BUFFER[::-1].copy(), whole(3)),
            {"num_heads": 2, "past_present_share_buffer": 1},
            "own",
            outputs=3,
        ),
        Case(
            (TOKEN, reals(4, 2, 6, 4), reals(4, 2, 6, 4)[::-1].copy(), integers(4, 6, dtype=np.int32, lo=0, hi=1)),
            {"num_heads": 2, "scale": 0.4},
            "others",
        ),
    ),
    op(
        "SparseAttention",
        sparse_attention,
        {"block_row_indices block_col_indices total_sequence_length key_total_sequence_lengths": (i32,)},
    ),
)
