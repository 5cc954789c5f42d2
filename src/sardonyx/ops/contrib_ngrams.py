"""Hashes of n-grams of the domain com.microsoft: NGramHashMapping, and VarlenNGramHashMapping for a packed batch.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import i32, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, maximum, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.attention import appended
from sardonyx.ops.cases import integers
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.contrib_recurrent import Packed, packed
from sardonyx.ops.pointwise import view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule


class NGrams(Struct, frozen=True):
    """Attributes and tables of both operators that hash n-grams. most: the longest n-gram; heads: how many hashes there are of each."""

    multipliers: Tensor
    vocab_sizes: Tensor
    head_offsets: Tensor | None
    eos: Tensor | None
    most: int
    heads: int
    pad: int
    reset: bool

    def fill(self) -> Expr:
        """Return what stands for tokens before the first."""
        dtype = self.multipliers.dtype
        return scalar.literal(self.pad, dtype) if self.eos is None else at(self.eos, [0] * self.eos.rank)

    def hash(self, token: Callable[[int], Expr], apart: Callable[[int], Expr | None], o: Dim) -> Expr:
        """Return hash number o. token(k): the k-th token back; apart(k): whether a boundary lies between this token and the one
        after it
        """
        mix: Expr = scalar.mul(token(0), at(self.multipliers, (0,)))
        lost: Expr | None = None
        out: Expr | None = None
        for k in range(1, self.most):
            own = token(k)
            causes = [c for c in (lost, apart(k)) if c is not None]
            if self.reset and self.eos is not None:
                causes.append(scalar.apply("eq", own, self.fill()))
            for cause in causes:
                lost = cause if lost is None or cause is lost else scalar.apply("or", lost, cause)
            seen = own if lost is None else scalar.select(lost, self.fill(), own)
            mix = scalar.apply("xor", mix, scalar.mul(seen, at(self.multipliers, (k,))))
            out = mix if out is None else scalar.select(scalar.apply("lt", scalar.index(o // self.heads + 1), k), out, mix)
        assert out is not None
        number = scalar.apply("mod", out, at(self.vocab_sizes, (o,)))
        return number if self.head_offsets is None else scalar.add(number, at(self.head_offsets, (o,)))


def n_gram_hash_mapping(
    input_ids: Tensor,
    multipliers: Tensor,
    vocab_sizes: Tensor,
    past_ids: Tensor | None = None,
    head_offsets: Tensor | None = None,
    eos_token_id: Tensor | None = None,
    segment_ids: Tensor | None = None,
    *,
    max_ngram_size: int,
    n_head_per_ngram: int,
    pad_id: int,
    reset_on_eos: int = 0,
) -> tuple[Tensor, Tensor]:
    """Compute hashes of the n-grams that end at each token, for n from 2 to max_ngram_size, and return the tokens that the next
    call needs.

    A hash is the xor, over k < n, of the k-th token back times its multiplier, modulo the head's size, plus the head's offset.
    input_ids: T[b, s], multipliers: T[n], vocab_sizes, head_offsets: T[(n - 1) heads], past_ids: T[b, n - 1], eos_token_id: T[],
    segment_ids: i32[b, s] -> T[b, s, (n - 1) heads], T[b, n - 1]. Tokens before the first one, before an end token (with
    reset_on_eos) or in another segment count as the end token, or pad_id.
    """
    grams = n_grams(multipliers, vocab_sizes, head_offsets, eos_token_id, max_ngram_size, n_head_per_ngram, pad_id, reset_on_eos)
    require_ranks("NGramHashMapping of {}", (input_ids, 2))
    batch, length = input_ids.shape
    history = max_ngram_size - 1
    if past_ids is None:
        past_ids = compute(input_ids.dtype, [batch, history], lambda b, i: grams.fill())
    require_same(past_ids.shape, [batch, history], "{} tokens before {}", past_ids.shape, input_ids.shape)
    if segment_ids is not None:
        require_same(segment_ids.shape, input_ids.shape, "segments {} of {}", segment_ids.shape, input_ids.shape)
    whole = joined(past_ids, input_ids)

    def hashed(b: Dim, t: Dim, o: Dim) -> Expr:
        def apart(k: int) -> Expr | None:
            if segment_ids is None:
                return None
            inside = scalar.apply("ge", scalar.index(t), k)
            first, second = (at(segment_ids, (b, maximum(t - k, 0) + step), inside) for step in (0, 1))
            return scalar.logical_and(inside, scalar.apply("ne", first, second))

        return grams.hash(lambda k: at(whole, (b, t + history - k)), apart, o)

    hashes = compute(input_ids.dtype, [batch, length, history * n_head_per_ngram], hashed)
    return hashes, view(whole, [batch, history], lambda b, i: (b, i + length))


def joined(past: Tensor, new: Tensor) -> Tensor:
    """Append new tokens to past ones. T[b, p], T[b, s] -> T[b, p + s]"""
    both = [view(t, [t.shape[0], 1, t.shape[1]], lambda b, _, i: (b, i)) for t in (past, new)]
    whole = appended(*(view(t, [t.shape[0], 1, t.shape[2], 1], lambda b, h, i, _: (b, h, i)) for t in both))
    return view(whole, [whole.shape[0], whole.shape[2]], lambda b, i: (b, 0, i, 0))


def n_grams(
    multipliers: Tensor,
    vocab_sizes: Tensor,
    head_offsets: Tensor | None,
    eos: Tensor | None,
    most: int,
    heads: int,
    pad: int,
    reset: int,
) -> NGrams:
    """Return the checked tables and attributes. Raises Fail if they don't fit each other."""
    if most < 2 or heads < 1:
        raise Fail(f"hashes of n-grams up to {most} by {heads} heads")
    require_ranks("hashes of n-grams by {}, {} and {}", (multipliers, 1), (vocab_sizes, 1), (head_offsets, 1))
    require_nonnegative(multipliers.shape[0] - most, "{} multipliers for n-grams up to {}", multipliers.shape[0], most)
    for t in (vocab_sizes, head_offsets):
        if t is not None:
            require_equal(t.shape[0], (most - 1) * heads, "{} numbers for the hashes of n-grams up to {}", t.shape[0], most)
    if eos is not None:
        require_equal(product(eos.shape), 1, "an eos_token_id of shape {}", eos.shape)
    return NGrams(multipliers, vocab_sizes, head_offsets, eos, most, heads, pad, bool(reset))


# ---- a packed batch -----------------------------------------------------------------------------------------------------------------------


class Line(Struct, frozen=True):
    """Numbers of packed sequences and of those before them. new: T[t], past: T[b, n] or None, where `missing` stands for each: (b) -> T"""

    batch: Packed
    new: Tensor
    past: Tensor | None
    history: int
    missing: Callable[[Dim], Expr]

    def number(self, b: Dim, place: Expr) -> Expr:
        """Return the number at a place of sequence b, which is before its first token where it is negative."""
        is_old = scalar.apply("lt", place, 0)
        token = element(scalar.select(is_old, 0, scalar.add(place, self.batch.start(b))), self.batch.total)
        own = at(self.new, (token,))
        if self.past is None:
            return scalar.select(is_old, self.missing(b), own)
        slot = element(scalar.select(is_old, scalar.add(place, self.history), 0), self.history)
        return scalar.select(is_old, at(self.past, (b, slot)), own)

    def last(self) -> Tensor:
        """Return the last numbers of each sequence: T[b, n]"""

        def body(b: Dim, i: Dim) -> Expr:
            return self.number(b, scalar.add(scalar.index(i - self.history), self.batch.length(b)))

        return compute(self.new.dtype, [self.batch.count, self.history], body)


def varlen_n_gram_hash_mapping(
    input_ids: Tensor,
    multipliers: Tensor,
    vocab_sizes: Tensor,
    cumulative_sequence_length: Tensor,
    past_ids: Tensor | None = None,
    head_offsets: Tensor | None = None,
    eos_token_id: Tensor | None = None,
    segment_ids: Tensor | None = None,
    past_segment_ids: Tensor | None = None,
    capture_count: Tensor | None = None,
    *,
    max_ngram_size: int,
    n_head_per_ngram: int,
    pad_id: int,
    reset_on_eos: int = 0,
    state_update_capacity: int = 0,
    outputs: int = 1,
) -> list[Tensor | None]:
    """Compute NGramHashMapping of a packed batch.

    input_ids: T[t], past_ids: T[b, n - 1], segment_ids: i32[t], past_segment_ids: i32[b, n - 1], capture_count: i32[b] -> T[t, (n - 1)
    heads], the tokens and segments that the next call needs: T[b, n - 1], i32[b, n - 1], and the tokens that it would need after each of
    the first min(capture_count, state_update_capacity) tokens, then pad_id: T[b, state_update_capacity, n - 1].
    Raises Fail for inputs that don't fit each other, or the outputs.
    """
    grams = n_grams(multipliers, vocab_sizes, head_offsets, eos_token_id, max_ngram_size, n_head_per_ngram, pad_id, reset_on_eos)
    if (capture_count is not None) != (state_update_capacity > 0):
        raise Fail("VarlenNGramHashMapping takes capture_count with a state_update_capacity above 0")
    if segment_ids is None and (past_segment_ids is not None or outputs == 3):
        raise Fail("VarlenNGramHashMapping: past_segment_ids and present_segment_ids need segment_ids")
    require_ranks("VarlenNGramHashMapping of {}", (input_ids, 1))
    history = max_ngram_size - 1
    batch = packed(cumulative_sequence_length, input_ids.shape[0])
    for past in (past_ids, past_segment_ids):
        if past is not None:
            require_same(past.shape, [batch.count, history], "{} numbers before {}", past.shape, input_ids.shape)
    tokens = Line(batch, input_ids, past_ids, history, lambda b: grams.fill())
    segments = None
    if segment_ids is not None:
        require_same(segment_ids.shape, input_ids.shape, "segments {} of {}", segment_ids.shape, input_ids.shape)
        segments = Line(batch, segment_ids, past_segment_ids, history, lambda b: first_segment(batch, segment_ids, b))
    hashes = packed_hashes(grams, tokens, segments)
    found = [hashes, tokens.last(), None if segments is None else segments.last()]
    if capture_count is None:
        return [*found, None]
    return [*found, captured_tokens(tokens, capture_count, state_update_capacity, pad_id)]


def first_segment(batch: Packed, segments: Tensor, b: Dim) -> Expr:
    """Return the segment of a sequence's first token, which tokens before it have too."""
    return at(segments, (element(batch.start(b), batch.total),))


def packed_hashes(grams: NGrams, tokens: Line, segments: Line | None) -> Tensor:
    """Return the hashes of each token: T[t, (n - 1) heads]"""
    owners = tokens.batch.owners()

    def hashed(t: Dim, o: Dim) -> Expr:
        b = element(at(owners, (t,)), tokens.batch.count)
        place = scalar.sub(scalar.index(t), tokens.batch.start(b))

        def apart(k: int) -> Expr | None:
            if segments is None:
                return None
            first, second = (segments.number(b, scalar.add(place, step - k)) for step in (0, 1))
            return scalar.apply("ne", first, second)

        return grams.hash(lambda k: tokens.number(b, scalar.sub(place, k)), apart, o)

    return compute(tokens.new.dtype, [tokens.batch.total, (grams.most - 1) * grams.heads], hashed)


def captured_tokens(tokens: Line, count: Tensor, capacity: int, pad: int) -> Tensor:
    """Return the last tokens after each of the first `count` tokens of a sequence. count: i32[b] -> T[b, capacity, n - 1]"""
    batch = tokens.batch

    def body(b: Dim, i: Dim, j: Dim) -> Expr:
        there = scalar.apply("lt", scalar.index(i), scalar.minimum(scalar.cast(at(count, (b,)), i64), batch.length(b)))
        place = scalar.select(there, scalar.index(i + 1 + j - tokens.history), 0)
        return scalar.select(there, tokens.number(b, place), pad)

    return compute(tokens.new.dtype, [batch.count, capacity, tokens.history], body)


# ---- records ------------------------------------------------------------------------------------------------------------------------------

IDS, PRIMES = integers(2, 7, lo=0, hi=9), np.array([11, 13, 17, 19])
ODD, FORM = np.array([3, 5, 7]), {"max_ngram_size": 3, "n_head_per_ngram": 2, "pad_id": 1}
BOUNDS, PAST = np.array([0, 3, 4, 9], np.int32), integers(3, 2, lo=0, hi=9)
PARTS, COUNTS = np.array([1, 1, 2, 5, 5, 5, 6, 6, 6], np.int32), np.array([2, 5, 3], np.int32)
LINE = integers(9, lo=0, hi=9)


def op(name: str, meaning: Any, types: dict[str, Any], *cases: Case) -> Op:
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        element_types=types,
        expand=meaning,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=cases,
    )


OPS = (
    op(
        "NGramHashMapping",
        n_gram_hash_mapping,
        {"input_ids multipliers vocab_sizes past_ids head_offsets eos_token_id": (i32, i64), "segment_ids": (i32,)},
        Case((IDS, ODD, PRIMES), FORM, outputs=2),
        Case(
            (IDS, ODD, PRIMES, IDS[:, :2].copy(), PRIMES * 100, np.array(4), np.array([[0, 0, 1, 1, 1, 2, 2]] * 2, np.int32)),
            {**FORM, "reset_on_eos": 1},
            outputs=2,
        ),
    ),
    op(
        "VarlenNGramHashMapping",
        varlen_n_gram_hash_mapping,
        {
            "input_ids multipliers vocab_sizes past_ids head_offsets eos_token_id": (i32, i64),
            "cumulative_sequence_length segment_ids past_segment_ids capture_count": (i32,),
        },
        Case((LINE, ODD, PRIMES, BOUNDS), FORM, outputs=2),
        Case(
            (LINE, ODD, PRIMES, BOUNDS, PAST, PRIMES, np.array(4), PARTS, PAST.astype(np.int32), COUNTS),
            {**FORM, "reset_on_eos": 1, "state_update_capacity": 4},
            outputs=4,
        ),
        Case((LINE, ODD, PRIMES, BOUNDS, None, None, np.array(4), PARTS), FORM, "segments", outputs=3),
    ),
)
