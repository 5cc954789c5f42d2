"""Operators of com.microsoft on tokens: EmbedLayerNormalization, QEmbedLayerNormalization, WordConvEmbedding, NGramRepeatBlock,
BifurcationDetector, MurmurHash3, DynamicTimeWarping.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md, and of its kernels where the document says too little.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import boolean, f32, f64, i8, i32, i64, u8, u32, u64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, maximum, minimum
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import only
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute, constant, kernel_outputs
from sardonyx.loop.builder import KernelBuilder, as_index, trusted
from sardonyx.loop.nodes import Bitcast, Expr, Kernel
from sardonyx.loop.values import constant as number
from sardonyx.loop.values import where
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.contrib_quantized import real
from sardonyx.ops.movement import concat
from sardonyx.ops.norm import layer_normalization
from sardonyx.ops.pointwise import expand_to, pointwise, reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped

# ---- embeddings ------------------------------------------------------------------------------------------------------------------------


def row_of(ids: Expr, rows: Dim) -> Dim:
    """Return the table row that an id names. The run fails for negative ids and for ids past the end."""
    whole = scalar.cast(ids, i64)
    return element(scalar.select(scalar.apply("lt", whole, 0), scalar.index(rows), whole), rows)


def embed_layer_normalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding: Tensor,
    position_embedding: Tensor,
    segment_embedding: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute EmbedLayerNormalization: LayerNormalization of the sum of the word's, the position's and the segment's embedding.
    Also returns how many elements of each mask are 1, and the sum.

    ids: i32[b, s], mask: i32[b, s], embeddings: T[rows, h], gamma, beta: T[h] -> T[b, s, h], i32[b] (zeros without a mask), T[b, s,
    h]
    """
    require_ranks("embeddings of {} in {} and {}", (input_ids, 2), (word_embedding, 2), (position_embedding, 2))
    require_ranks("embeddings of segments {} in {}", (segment_ids, 2), (segment_embedding, 2))
    if (segment_ids is None) != (segment_embedding is None):
        raise Fail("EmbedLayerNormalization with only one of segment_ids and segment_embedding")
    batch, length = input_ids.shape
    hidden = word_embedding.shape[1]
    for table in (position_embedding, segment_embedding):
        if table is not None:
            require_equal(table.shape[1], hidden, "embeddings {} and {}", word_embedding.shape, table.shape)
    for ids in (segment_ids, mask):
        if ids is not None:
            require_same(ids.shape, input_ids.shape, "words {} with segments or a mask {}", input_ids.shape, ids.shape)
    if position_ids is None:
        require_nonnegative(position_embedding.shape[0] - length, "{} words at {} positions", length, position_embedding.shape[0])

    def total(b: Dim, i: Dim, c: Dim) -> Expr:
        own = row_of(at(position_ids, (b, i)), position_embedding.shape[0]) if position_ids is not None else i
        word = at(word_embedding, (row_of(at(input_ids, (b, i)), word_embedding.shape[0]), c))
        out = scalar.add(word, at(position_embedding, (own, c)))
        if segment_ids is None or segment_embedding is None:
            return out
        return scalar.add(out, at(segment_embedding, (row_of(at(segment_ids, (b, i)), segment_embedding.shape[0]), c)))

    sums = compute(word_embedding.dtype, [batch, length, hidden], total)
    y, _, _ = layer_normalization(sums, gamma, beta, -1, epsilon)
    return y, ones_of(mask, batch), sums


def ones_of(mask: Tensor | None, batch: Dim) -> Tensor:
    """Count the elements of each row that are 1. i32[b, s] -> i32[b]; zeros without a mask"""
    if mask is None:
        return expand_to(constant(np.zeros((), np.int32)), [batch])
    return reduce("add", i32, [batch], [mask.shape[1]], lambda b, i: scalar.cast(scalar.apply("eq", at(mask, (b, i)), 1), i32))


def qembed_layer_normalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding_quant: Tensor,
    position_embedding_quant: Tensor,
    segment_embedding: Tensor | None,
    gamma_quant: Tensor,
    beta_quant: Tensor,
    mask: Tensor | None,
    word_embedding_scale: Tensor,
    position_embedding_scale: Tensor,
    segment_embedding_scale: Tensor | None,
    gamma_scale: Tensor,
    beta_scale: Tensor,
    word_embedding_zero_point: Tensor,
    position_embedding_zero_point: Tensor,
    segment_embedding_zero_point: Tensor | None,
    gamma_zero_point: Tensor,
    beta_zero_point: Tensor,
    epsilon: float = 1e-12,
) -> tuple[Tensor, Tensor]:
    """Compute QEmbedLayerNormalization: EmbedLayerNormalization with quantised tables, each with one scale and one zero point."""
    segments = None
    if segment_embedding is not None:
        if segment_embedding_scale is None:
            raise Fail("QEmbedLayerNormalization without segment_embedding_scale")
        segments = real(segment_embedding, segment_embedding_scale, segment_embedding_zero_point)
    words = real(word_embedding_quant, word_embedding_scale, word_embedding_zero_point)
    positions = real(position_embedding_quant, position_embedding_scale, position_embedding_zero_point)
    gamma, beta = real(gamma_quant, gamma_scale, gamma_zero_point), real(beta_quant, beta_scale, beta_zero_point)
    y, count, _ = embed_layer_normalization(input_ids, segment_ids, words, positions, segments, gamma, beta, mask, None, epsilon)
    return y, count


def word_conv_embedding(
    Sequence: Tensor,
    W: Tensor,
    B: Tensor,
    C: Tensor,
    char_embedding_size: int = -1,
    conv_window_size: int = -1,
    embedding_size: int = -1,
) -> Tensor:
    """Compute WordConvEmbedding: for each word, the maximum over its windows of tanh(W . embeddings of the window's k characters +
    B). A word whose first character is 0 gives zeros.

    Sequence: i32[n, length] of characters, padded with 0; W: f32[m, 1, k, e], B: f32[m], C: f32[characters, e] -> f32[n, m]
    """
    require_ranks("WordConvEmbedding of {} by {}, {} and {}", (Sequence, 2), (W, 4), (B, 1), (C, 2))
    m, _, width, size = W.shape
    for asked, n in ((embedding_size, m), (conv_window_size, width), (char_embedding_size, size)):
        if asked != -1:
            require_equal(n, asked, "WordConvEmbedding by {}, which has {} where an attribute says {}", W.shape, n, asked)
    require_equal(C.shape[1], size, "WordConvEmbedding by {} of characters {}", W.shape, C.shape)
    words, length = Sequence.shape
    room = length - width
    require_nonnegative(room, "WordConvEmbedding of words of {} characters by windows of {}", length, width)

    def is_character(n: Dim, i: Dim) -> Expr:
        return scalar.apply("gt", at(Sequence, (n, i)), 0)

    lengths = reduce("add", i64, [words], [length], lambda n, i: scalar.cast(is_character(n, i), i64))

    def term(n: Dim, f: Dim, i: Dim, k: Dim, e: Dim) -> Expr:
        return scalar.mul(at(W, (f, 0, k, e)), at(C, (row_of(at(Sequence, (n, i + k)), C.shape[0]), e)))

    sums = reduce("add", f32, [words, m, room + 1], [width, size], term)

    def window(n: Dim, f: Dim, i: Dim) -> Expr:
        last = scalar.maximum(scalar.sub(at(lengths, (n,)), scalar.index(width)), 0)
        value = scalar.apply("tanh", scalar.add(at(sums, (n, f, i)), at(B, (f,))))
        return scalar.select(scalar.apply("le", scalar.index(i), last), value, -1e12)

    best = reduce("max", f32, [words, m], [room + 1], window)
    return compute(f32, best.shape, lambda n, f: scalar.select(is_character(n, 0), at(best, (n, f)), 0))


# ---- n-grams ----------------------------------------------------------------------------------------------------------------------------


def ngram_repeat_block(input_ids: Tensor, scores: Tensor, *, ngram_size: int) -> Tensor:
    """Compute NGramRepeatBlock: replace by -infinity the scores of tokens that would repeat an n-gram of the input. input_ids:
    i64[b, s], scores: f32[b, v]
    """
    require_ranks("NGramRepeatBlock of {} and {}", (input_ids, 2), (scores, 2))
    require_equal(input_ids.shape[0], scores.shape[0], "NGramRepeatBlock of {} and {}", input_ids.shape, scores.shape)
    if ngram_size < 1:
        raise Fail(f"NGramRepeatBlock with an ngram_size of {ngram_size}")
    batch, length = input_ids.shape
    count, tail = maximum(length - ngram_size + 1, 0), length - ngram_size + 1

    def is_same(b: Dim, i: Dim, j: Dim) -> Expr:
        return scalar.apply("eq", at(input_ids, (b, i + j)), at(input_ids, (b, tail + j)))

    match = reduce("and", boolean, [batch, count], [ngram_size - 1], is_same)

    def bans(b: Dim, v: Dim, i: Dim) -> Expr:
        token = at(input_ids, (b, i + (ngram_size - 1)))
        return scalar.logical_and(at(match, (b, i)), scalar.apply("eq", token, scalar.index(v)))

    banned = reduce("or", boolean, scores.shape, [count], bans)
    return compute(f32, scores.shape, lambda b, v: scalar.select(at(banned, (b, v)), -math.inf, at(scores, (b, v))))


def bifurcation_detector(
    src_tokens: Tensor,
    cur_tokens: Tensor,
    prev_suffix_match_idx: Tensor,
    pred_tokens: Tensor | None = None,
    max_ngram_size: int = 3,
    min_ngram_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Compute BifurcationDetector, which checks tokens that were predicted from a source text.

    Returns the current tokens followed by the predicted ones, up to the first that differs from the source after the last match.
    Also returns where the source continues after its only match of the longest n-gram of last tokens, or -1.
    src_tokens: i64[n], cur_tokens: i64[m], prev_suffix_match_idx: i64[], pred_tokens: i64[n + 1 - prev] -> i64[tokens], i64[]
    """
    require_ranks("BifurcationDetector of {}, {} and {}", (src_tokens, 1), (cur_tokens, 1), (pred_tokens, 1))
    if not 0 < min_ngram_size <= max_ngram_size:
        raise Fail(f"BifurcationDetector of n-grams from {min_ngram_size} to {max_ngram_size}")
    tokens = cur_tokens if pred_tokens is None else continued(src_tokens, cur_tokens, prev_suffix_match_idx, pred_tokens)
    tokens = view(tokens, tokens.shape, lambda i: (i,))
    source = src_tokens.shape[0]
    found, ended = scalar.literal(-1, i64), scalar.literal(False, boolean)
    for size in range(min_ngram_size, max_ngram_size + 1):
        first, count = ngram_places(src_tokens, tokens, size)
        ended = scalar.apply("or", ended, scalar.apply("eq", count, 0))
        place = scalar.add(first, size)
        at_end = scalar.apply("ge", place, scalar.index(source))
        several = scalar.apply("gt", count, 1)
        new = scalar.select(scalar.logical_and(several, scalar.apply("not", at_end)), -1, place)
        found = scalar.select(ended, found, new)
        ended = scalar.apply("or", ended, at_end)
    return tokens, compute(i64, prev_suffix_match_idx.shape, lambda *_: found)


def continued(src: Tensor, cur: Tensor, prev: Tensor, pred: Tensor) -> Tensor:
    """Return cur and pred, up to the first token of pred that differs from src after `prev`."""
    begin = only(prev, "prev_suffix_match_idx")
    rest = src.shape[0] - begin
    require_nonnegative(begin, "prev_suffix_match_idx {} is negative", begin)
    require_nonnegative(rest, "prev_suffix_match_idx {} is past {} tokens", begin, src.shape[0])
    require_equal(pred.shape[0], rest + 1, "{} predicted tokens for {} of the source", pred.shape[0], rest)

    def differs(i: Dim) -> Expr:
        other = scalar.apply("ne", at(pred, (i,)), at(src, (i + begin,)))
        return scalar.select(other, scalar.index(i), scalar.index(rest))

    agreed = reduce("min", i64, [], [rest], differs)  # over nothing it is the largest number
    same = only(pointwise(lambda e: scalar.minimum(e, scalar.index(rest)), agreed), "the place of the first difference")
    return concat(cur, view(pred, [same + 1], lambda i: (i,)), axis=0)


def ngram_places(src: Tensor, tokens: Tensor, size: int) -> tuple[Expr, Expr]:
    """Return the first position in src where the last `size` tokens occur, and how often they occur; 0 times if there are fewer
    tokens.
    """
    spare = tokens.shape[0] - size
    places = maximum(src.shape[0] - size + 1, 0) * minimum(maximum(spare + 1, 0), 1)

    def is_same(p: Dim, j: Dim) -> Expr:
        return scalar.apply("eq", at(src, (p + j,)), at(tokens, (maximum(spare, 0) + j,)))

    match = reduce("and", boolean, [places], [size], is_same)
    first = reduce("min", i64, [], [places], lambda p: scalar.select(at(match, (p,)), scalar.index(p), scalar.index(src.shape[0])))
    count = reduce("add", i64, [], [places], lambda p: scalar.cast(at(match, (p,)), i64))
    return scalar.minimum(at(first, ()), scalar.index(src.shape[0])), at(count, ())


# ---- hashes -------------------------------------------------------------------------------------------------------------------------------


def murmur_hash_3(X: Tensor, positive: int = 1, seed: int = 0) -> Tensor:
    """Compute MurmurHash3: MurmurHash3_x86_32 of each number's bytes. X: 32- or 64-bit numbers [*d] -> u32[*d], or i32 if positive
    is 0
    """
    count = X.dtype.bits // 32

    def body(*i: Dim) -> Expr:
        bits = at(X, i)
        if count == 1:
            words: list[Expr] = [Bitcast(bits, u32)]
        else:
            whole = Bitcast(bits, u64)
            words = [scalar.cast(scalar.apply("and", whole, 0xFFFFFFFF), u32), scalar.cast(scalar.apply("shr", whole, 32), u32)]
        h: Expr = scalar.literal(seed & 0xFFFFFFFF, u32)
        for word in words:
            h = scalar.apply("xor", h, scalar.mul(rotated(scalar.mul(word, 0xCC9E2D51), 15), 0x1B873593))
            h = scalar.add(scalar.mul(rotated(h, 13), 5), 0xE6546B64)
        return finished(scalar.apply("xor", h, 4 * count))

    hashes = compute(u32, X.shape, body)
    return hashes if positive else compute(i32, X.shape, lambda *i: Bitcast(at(hashes, i), i32))


def rotated(x: Expr, by: int) -> Expr:
    """Rotate the 32 bits of x to the left."""
    return scalar.apply("or", scalar.apply("shl", x, by), scalar.apply("shr", x, 32 - by))


def finished(h: Expr) -> Expr:
    """Apply the final mixing step of MurmurHash3, after which every bit depends on all bits."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = scalar.mul(scalar.apply("xor", h, scalar.apply("shr", h, shift)), factor)
    return scalar.apply("xor", h, scalar.apply("shr", h, 16))


# ---- alignment ------------------------------------------------------------------------------------------------------------------------------


@functools.cache
def warping_kernel() -> Kernel:
    """Build the kernel of DynamicTimeWarping: path[0, t] and path[1, t], for t from `first` on, are the rows and columns of the
    cheapest path through a matrix of costs. A step goes to the next row, the next column, or both.

        for r, c:  best[r, c] = cost[r, c] + the least of best[r - 1, c - 1], best[r - 1, c], best[r, c - 1]
        from the last element back to the first:  follow the steps that gave the least
    """
    b = KernelBuilder("dynamic time warping")
    rows, columns = b.size("rows"), b.size("columns")
    cost = b.input("cost", f32, rows * columns)
    path, first = b.output("path", i32, 2 * (rows + columns)), b.output("first", i64, 1)
    wide = columns + 1
    best, steps = b.scratch("best", f32, (rows + 1) * wide), b.scratch("steps", i64, (rows + 1) * wide)
    with b.loop("i", (rows + 1) * wide) as i:
        best[i] = math.inf
        steps[i] = where(as_index(i) < as_index(wide), number(2, i64), 1)
    best[0] = 0.0
    with b.loop("c", columns) as c, b.loop("r", rows) as r:
        here = (r + 1) * wide + c + 1
        diagonal, above, left = best[here - wide - 1], best[here - wide], best[here - 1]
        by_diagonal = (diagonal < above) & (diagonal < left)
        by_row = (above < diagonal) & (above < left)
        steps[here] = where(by_diagonal, 0, where(by_row, number(1, i64), 2))
        best[here] = cost[r * columns + c] + where(by_diagonal, diagonal, where(by_row, above, left))
    r_now, c_now, t = b.local(i64, as_index(rows)), b.local(i64, as_index(columns)), b.local(i64, as_index(rows + columns))
    with b.while_((r_now.value > 0) | (c_now.value > 0)):
        t.add(-1)
        place = trusted(t.value, rows + columns)
        path[place] = (r_now.value - 1).cast(i32)
        path[place + rows + columns] = (c_now.value - 1).cast(i32)
        step = b.let(steps[trusted(r_now.value, rows + 1) * wide + trusted(c_now.value, columns + 1)])
        r_now.set(where(step == 2, r_now.value, r_now.value - 1))
        c_now.set(where(step == 1, c_now.value, c_now.value - 1))
    first[0] = t.value
    return b.build()


def dynamic_time_warping(input: Tensor) -> Tensor:  # noqa: A002
    """Compute DynamicTimeWarping: the path of least cost from the first to the last element. input: f32[m, n] or f32[1, m, n] ->
    i32[2, steps]
    """
    if input.rank not in (2, 3):
        raise Fail(f"[ShapeInferenceError] DynamicTimeWarping of {list(input.shape)}")
    if input.rank == 3:
        require_equal(input.shape[0], 1, "DynamicTimeWarping of {}", input.shape)
    rows, columns = input.shape[-2:]
    cost = reshaped(input, [rows, columns])
    most = rows + columns
    path, first = kernel_outputs(warping_kernel(), [cost], [(i32, (2, most)), (i64, (1,))], [rows, columns], work=rows * columns)
    begin = only(first, "the path's first place")
    return view(path, [2, most - begin], lambda k, t: (k, t + begin))


# ---- records --------------------------------------------------------------------------------------------------------------------------------


def whole(*numbers: int, dtype: Any = np.int32) -> np.ndarray:
    return np.array(numbers, dtype)


IDS, SEGMENTS, MASKS = integers(2, 5, dtype=np.int32, lo=0, hi=8), integers(2, 5, dtype=np.int32, lo=0, hi=1), whole(1, 1, 0, 1, 0)
WORDS, PLACES, PARTS = reals(9, 8), reals(6, 8), reals(2, 8)
QUANTISED = [integers(n, 8, dtype=np.uint8, lo=0, hi=255) for n in (9, 6, 2)]
FINE, MIDDLE = np.array(0.017, np.float32), np.array(128, np.uint8)
SOURCE = whole(1, 2, 3, 4, 2, 3, 5, dtype=np.int64)
TEXT = whole(3, 1, 4, 1, 5, 9, 2, 6, 3, 1, dtype=np.int64).reshape(1, 10)


def op(name: str, meaning: Callable[..., Any], types: dict[str, Any], *cases: Case, **fields: Any) -> Op:
    kind = {"gradient": Rule.NONE, "quantised": Rule.NONE, "expand": meaning, **fields}
    return Op(name, 1, MICROSOFT, in_standard=False, element_types=types, cases=cases, tolerance=2e-5, **kind)


OPS = (
    op(
        "EmbedLayerNormalization",
        embed_layer_normalization,
        {"input_ids segment_ids mask position_ids": (i32,)},
        Case((IDS, SEGMENTS, WORDS, PLACES, PARTS, reals(8), reals(8), np.stack([MASKS, MASKS * 0 + 1])), outputs=3),
        Case(
            (IDS, None, WORDS, PLACES, None, reals(8), reals(8), None, whole(1, 0, 4, 2, 3)[None]),
            {"epsilon": 1e-3},
            "positions",
            2,
        ),
        gradient=Rule.DERIVED,
    ),
    op(
        "QEmbedLayerNormalization",
        qembed_layer_normalization,
        {
            "input_ids segment_ids mask": (i32,),
            "word_embedding_quant position_embedding_quant segment_embedding gamma_quant beta_quant word_embedding_zero_point "
            "position_embedding_zero_point segment_embedding_zero_point gamma_zero_point beta_zero_point": (u8, i8),
        },
        Case(
            (
                *(IDS, SEGMENTS, *QUANTISED, QUANTISED[0][0].copy(), QUANTISED[1][1].copy(), np.stack([MASKS, MASKS])),
                *([FINE] * 5),
                *([MIDDLE] * 5),
            ),
            outputs=2,
        ),
    ),
    op(
        "WordConvEmbedding",
        word_conv_embedding,
        {"Sequence": (i32,)},
        Case((whole(3, 1, 2, 0, 4, 4, 0, 0, 1, 2, 3, 4).reshape(3, 4), reals(5, 1, 2, 3), reals(5), reals(6, 3))),
    ),
    op("NGramRepeatBlock", ngram_repeat_block, {"input_ids": (i64,)}, Case((TEXT, reals(1, 12)), {"ngram_size": 3})),
    op(
        "BifurcationDetector",
        bifurcation_detector,
        {"src_tokens cur_tokens prev_suffix_match_idx pred_tokens": (i64,)},
        Case((SOURCE, whole(2, 3, dtype=np.int64), np.array(0), whole(1, 2, 3, 9, 2, 3, 5, 0, dtype=np.int64)), outputs=2),
        Case((SOURCE, whole(2, 3, 4, dtype=np.int64), np.array(0)), outputs=2),
    ),
    op(
        "MurmurHash3",
        murmur_hash_3,
        {"X": (i32, u32, i64, u64, f32, f64)},
        Case((whole(3, 4, -5),)),
        Case((whole(3, 1 << 40, -5, dtype=np.int64),), {"positive": 0, "seed": 42}),
        Case((reals(5),), {"seed": 7}),
    ),
    op(
        "DynamicTimeWarping",
        dynamic_time_warping,
        {"input": (f32,)},
        Case((np.abs(reals(4, 6)),)),
        Case((np.abs(reals(1, 5, 3)),)),
        kernel=dynamic_time_warping,
        expand=None,
    ),
)
