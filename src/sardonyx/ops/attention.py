"""Attention and RotaryEmbedding, expanded into tensor expressions.

Several heads of queries may share one head of keys. Inside this file queries are therefore indexed by
[batch, kv head, query head within the group of that kv head, position, channel].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType, boolean, f32, float_of_code
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, equals
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, assemble, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import along, cast, pointwise, reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule


class Masking(Protocol):
    """Rule that changes the scores of attention before the softmax.

    hides: whether some query may see no key at all, so that its whole row of scores is -infinity.
    changes: whether the rule changes any score.
    apply: the new score, from the old one and its index (batch, query head, query position, key position).
    """

    @property
    def hides(self) -> bool: ...

    @property
    def changes(self) -> bool: ...

    def apply(self, score: Expr, at_head: tuple[Dim, Dim, Dim, Dim]) -> Expr: ...


class Mask(Struct, frozen=True):
    """Mask of the standard's Attention: keys hidden by their position (`allowed`), by a mask tensor (`given`), or by both.

    allowed(batch, query, key) -> bool, or None if every position is allowed.
    given: bool or float, broadcast to [batch, head, query, key]; floats are added to the scores.
    """

    allowed: Callable[[Dim, Dim, Dim], Expr] | None
    given: Tensor | None

    @property
    def hides(self) -> bool:
        """Return whether some query may see no key."""
        return self.allowed is not None or self.given is not None

    @property
    def changes(self) -> bool:
        """Return whether the mask changes any score."""
        return self.hides

    def apply(self, score: Expr, at_head: tuple[Dim, Dim, Dim, Dim]) -> Expr:
        """Return the masked score: -infinity where the key is hidden; a mask of floats is added."""
        b, _, i, j = at_head
        out = score
        if self.given is not None:
            out = self.apply_given(out, at_head)
        if self.allowed is not None:
            out = scalar.select(self.allowed(b, i, j), out, -math.inf)
        return out

    def apply_given(self, score: Expr, at_head: tuple[Dim, Dim, Dim, Dim]) -> Expr:
        """Apply the mask tensor. Keys past the end of a mask that is shorter than the keys are hidden."""
        given = self.given
        assert given is not None
        key, length = at_head[-1], given.shape[-1]
        there = scalar.apply("lt", scalar.index(key), scalar.index(length))
        short = isinstance(length, int) and length > 1
        place = [own_place(i, n) for i, n in zip(at_head[4 - given.rank :], given.shape, strict=True)]
        seen = at(given, place, there if short else None)
        if given.dtype is boolean:
            return scalar.select(seen, score, -math.inf)  # past the end of a short mask, the guarded read gives false
        out = scalar.add(score, scalar.cast(seen, score.dtype))
        return scalar.select(there, out, -math.inf) if short else out


def own_place(i: Dim, n: Dim) -> Dim:
    """Return the index into a broadcast axis of n elements: 0 if n is 1 (perhaps only known at run time), else i."""
    return i if isinstance(n, int) else i * (1 - equals(n, 1))


def softmax_of_scores(scores: Tensor, hides: bool, sink: Tensor | None = None) -> Tensor:
    """Compute softmax over the last axis. sink: a further score, of nothing, which the probabilities leave its share.

    hides: a row may consist of -infinity alone; such a row gives zeros instead of NaN, as ONNX demands.
    """
    axis = [scores.rank - 1]
    largest = along("max", scores, axis)
    if sink is not None:
        largest = pointwise(scalar.maximum, largest, sink)
    if hides:
        largest = pointwise(lambda m: scalar.select(scalar.apply("eq", m, -math.inf), 0, m), largest)
    e = pointwise(lambda s, m: scalar.apply("exp", scalar.sub(s, m)), scores, largest)
    total = along("add", e, axis)
    if sink is not None:
        total = pointwise(lambda t, m, s: scalar.add(t, scalar.apply("exp", scalar.sub(s, m))), total, largest, sink)
    if hides:
        total = pointwise(lambda t: scalar.select(scalar.apply("eq", t, 0), 1, t), total)
    return pointwise(scalar.div, e, total)


Scale = float | Expr
"""Factor of the scores: a number, or an f32 expression if the size of a head is known only at run time."""


def default_scale(size: Dim) -> Scale:
    """Return 1 / sqrt(size), where size is the number of channels of a head."""
    if isinstance(size, int):
        return 1 / math.sqrt(size) if size else 1.0
    return scalar.div(1, scalar.apply("sqrt", scalar.cast(scalar.index(size), f32)))


def scaled(x: Tensor, scale: Scale) -> Tensor:
    """Multiply x by scale in the dtype of x."""
    factor = scalar.cast(scale, x.dtype) if isinstance(scale, Expr) else scale
    return pointwise(lambda e: scalar.mul(e, factor), x)


def scores_of(q: Tensor, k: Tensor, scale: Scale) -> Tensor:
    """Compute scale q k^T for each head. q: T[b, h, s, d], k: T[b, g, t, d] -> T[b, g, h / g, s, t]

    Products are summed in the accumulator dtype and rounded to T once.
    """
    each = q.shape[1] // k.shape[1]
    compute_dtype = scalar.wide(q.dtype)

    def term(b: Dim, g: Dim, r: Dim, i: Dim, j: Dim, d: Dim) -> Expr:
        return scalar.mul(
            scalar.cast(at(q, (b, g * each + r, i, d)), compute_dtype), scalar.cast(at(k, (b, g, j, d)), compute_dtype)
        )

    shape = [q.shape[0], k.shape[1], each, q.shape[2], k.shape[2]]
    return cast(scaled(reduce("add", compute_dtype, shape, [q.shape[3]], term), scale), q.dtype)


def weighted_values(p: Tensor, v: Tensor) -> Tensor:
    """Multiply probabilities by values for each head. p: T[b, g, r, s, t], v: T[b, g, t, d] -> T[b, g, r, s, d]"""
    compute_dtype = scalar.wide(v.dtype)

    def term(b: Dim, g: Dim, r: Dim, i: Dim, d: Dim, j: Dim) -> Expr:
        return scalar.mul(scalar.cast(at(p, (b, g, r, i, j)), compute_dtype), scalar.cast(at(v, (b, g, j, d)), compute_dtype))

    return reduce("add", v.dtype, [*p.shape[:4], v.shape[3]], [v.shape[2]], term)


def grouped(t: Tensor) -> Tensor:
    """Merge the axes of kv heads and of query heads within a group. T[b, g, r, s, t] -> T[b, g r, s, t]"""
    b, g, r, s, n = t.shape
    return view(t, [b, g * r, s, n], lambda b, h, i, j: (b, h // r, h % r, i, j))


def split_heads(x: Tensor, heads: int | None) -> Tensor:
    """Split channels into heads: T[b, s, h d] -> T[b, h, s, d]. A tensor of rank 4 is returned unchanged.

    Raises Fail if the rank is neither 3 nor 4, or the channels are not divisible by `heads`.
    """
    if x.rank == 4:
        return x
    if x.rank != 3 or not heads:
        raise Fail(
            f"[ShapeInferenceError] attention over {list(x.shape)} with {heads} heads: needs 4 axes, or 3 axes and a number of heads"
        )
    if heads < 0:
        raise Fail(f"the number of heads is {heads}; it must not be negative")
    require_equal(x.shape[2] % heads, 0, "{} columns cannot be divided among {} heads", x.shape[2], heads)
    size = x.shape[2] // heads
    return view(x, [x.shape[0], heads, x.shape[1], size], lambda b, h, i, d: (b, i, h * size + d))


def merge_heads(y: Tensor) -> Tensor:
    """Merge heads into channels. T[b, g, r, s, d] -> T[b, s, g r d]"""
    b, g, r, s, d = y.shape
    return view(y, [b, s, g * r * d], lambda b, i, c: (b, c // (r * d), (c // d) % r, i, c % d))


def appended(past: Tensor | None, new: Tensor) -> Tensor:
    """Append new keys or values to those of earlier steps. past: T[b, h, p, *d] or None, new: T[b, h, s, *d] -> T[b, h, p + s, *d]"""
    if past is None:
        return view(new, new.shape, lambda *i: i)
    if past.rank != new.rank:
        raise Fail(
            f"[ShapeInferenceError] keys or values of shape {list(new.shape)} cannot be appended to past ones of shape {list(past.shape)}"
        )
    require_same(
        past.shape[:2] + past.shape[3:],
        new.shape[:2] + new.shape[3:],
        "keys or values of shape {} cannot be appended to past ones of shape {}",
        new.shape,
        past.shape,
    )
    around, place = [*new.shape[:2]], list(new.shape[3:])
    parts = [compute(t.dtype, [*around, t.shape[2], *place], lambda *i, t=t: at(t, i)) for t in (past, new)]
    start: list[list[Dim]] = [[0, 0, n, *[0] * len(place)] for n in (0, past.shape[2])]
    shape = [*around, past.shape[2] + new.shape[2], *place]
    return assemble(new.dtype, shape, list(zip(parts, start, strict=True)))


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> list[Tensor]:
    """Compute ONNX's Attention: softmax(scale q k^T + mask) v for each head.

    q: T[b, h, s, d] (or [b, s, h d]), k: T[b, g, t, d], v: T[b, g, t, e], where g divides h; p past keys may come before the t new
    ones.
    Returns Y: T[b, h, s, e] (or [b, s, h e]), present keys and values: T[b, g, p + t, ...], and the scores or probabilities that
    qk_matmul_output_mode selects: T[b, h, s, p + t].

    Raises Fail if the heads don't fit, or if only one of past_key and past_value is given.
    """
    if (past_key is None) != (past_value is None):
        raise Fail("past_key and past_value must be given together")
    if qk_matmul_output_mode not in range(4):
        raise Fail(f"qk_matmul_output_mode must be 0, 1, 2 or 3, not {qk_matmul_output_mode}")
    if past_key is not None and nonpad_kv_seqlen is not None:
        raise Fail("nonpad_kv_seqlen and past_key must not be given together")
    queries = split_heads(q, q_num_heads)
    keys, values = appended(past_key, split_heads(k, kv_num_heads)), appended(past_value, split_heads(v, kv_num_heads))
    require_nonnegative(keys.shape[1] - 1, "attention to keys of shape {}, which have no head", k.shape)
    require_equal(
        queries.shape[1] % keys.shape[1],
        0,
        "the {} heads of queries are not a multiple of the {} heads of keys",
        queries.shape[1],
        keys.shape[1],
    )
    require_equal(queries.shape[3], keys.shape[3], "the heads of queries {} and of keys {} differ in size", q.shape, k.shape)
    if attn_mask is not None and attn_mask.rank > 4:
        raise Fail(f"[ShapeInferenceError] attention with a mask of shape {list(attn_mask.shape)}, which has more than 4 axes")
    past: Dim = past_key.shape[2] if past_key is not None else 0
    window = (left_window_size, 0 if is_causal else right_window_size)
    mask = Mask(visible(queries.shape[2], past, nonpad_kv_seqlen, window), attn_mask)
    factor = scale if scale is not None else default_scale(queries.shape[3])
    stages = attend(queries, keys, values, mask, factor, softcap, softmax_precision)
    y = merge_heads(stages[-1]) if q.rank == 3 else grouped(stages[-1])
    return [y, keys, values, grouped(stages[qk_matmul_output_mode])]


def visible(queries: Dim, past: Dim, lengths: Tensor | None, window: tuple[int, int]) -> Callable[[Dim, Dim, Dim], Expr] | None:
    """Return the condition under which query i of batch b may see key j, or None if every query sees every key.

    window: how many keys before and after its own position a query sees; -1 means no limit.
    lengths: i64[b], the number of valid keys; the queries are then the last ones of them. Without lengths the queries follow `past`
    keys.
    """
    before, after = window
    if lengths is None and before < 0 and after < 0:
        return None

    def allowed(b: Dim, i: Dim, j: Dim) -> Expr:
        key, place = scalar.index(j), scalar.index(i + past)
        conditions = []
        if lengths is not None:
            end = at(lengths, (b,))
            place = scalar.add(scalar.index(i - queries), end)
            conditions.append(scalar.apply("lt", key, end))
        if after >= 0:
            conditions.append(scalar.apply("le", key, scalar.add(place, after)))
        if before >= 0:
            conditions.append(scalar.apply("ge", key, scalar.sub(place, before)))
        out = conditions[0]
        for c in conditions[1:]:
            out = scalar.logical_and(out, c)
        return out

    return allowed


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Masking,
    scale: Scale,
    softcap: float,
    precision: int | None,
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the stages of attention. q: T[b, h, s, d], k: T[b, g, t, d], v: T[b, g, t, e]

    Returns scores, scores after softcap, masked scores and probabilities, each T[b, g, h / g, s, t], and the result T[b, g, h / g,
    s, e].
    softcap: c > 0 replaces each score x by c tanh(x / c). precision: ONNX's code of the dtype that the softmax is computed in, None
    for T. sink: T[h], a further score for each head, see `softmax_of_scores`.
    """
    sizes = "attention of queries {}, keys {} and values {}", q.shape, k.shape, v.shape
    require_same([q.shape[0], q.shape[3]], [k.shape[0], k.shape[3]], *sizes)
    require_same(k.shape[:3], v.shape[:3], *sizes)
    scores = scores_of(q, k, scale)
    capped = scores
    if softcap > 0:
        capped = pointwise(lambda e: scalar.mul(scalar.apply("tanh", scalar.div(e, softcap)), softcap), scores)
    each = scores.shape[2]

    def masked_at(b: Dim, g: Dim, r: Dim, i: Dim, j: Dim) -> Expr:
        return mask.apply(at(capped, (b, g, r, i, j)), (b, g * each + r, i, j))

    masked = compute(q.dtype, scores.shape, masked_at) if mask.changes else capped
    wide: DType = float_of_code(precision) if precision is not None else q.dtype
    further = None if sink is None else view(cast(sink, wide), [k.shape[1], each, 1, 1], lambda g, r, i, j: (g * each + r,))
    p = cast(softmax_of_scores(cast(masked, wide), mask.hides, further), q.dtype)
    return scores, capped, masked, p, weighted_values(p, v)


# ---- rotary embedding ------------------------------------------------------------------------------------------------------


def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Compute RotaryEmbedding: rotate pairs of channels by angles that depend on the position. x: T[b, h, s, d] (or [b, s, h d]) ->
    like x

    cos_cache, sin_cache: T[positions, r / 2] with position_ids: i64[b, s], else T[b, s, r / 2]. The first r = rotary_embedding_dim
    (or all) channels of each head are rotated, in pairs (i, i + r / 2), or (2 i, 2 i + 1) if interleaved.
    """
    heads = split_heads(x, num_heads)
    require_same(
        cos_cache.shape,
        sin_cache.shape,
        "the caches of cosines {} and of sines {} differ in shape",
        cos_cache.shape,
        sin_cache.shape,
    )
    of_position = position_ids is not None
    require_ranks(
        "rotary embedding by a cache of shape {} with position_ids of shape {}",
        (cos_cache, 2 if of_position else 3),
        (position_ids, 2),
    )
    positions = position_ids.shape if position_ids is not None else cos_cache.shape[:2]
    require_same(
        positions, [heads.shape[0], heads.shape[2]], "rotary embedding of {} with positions of shape {}", x.shape, positions
    )
    width: Dim = rotary_embedding_dim or heads.shape[3]
    half = width // 2
    require_equal(2 * half, width, "rotary embedding of {}: {} channels cannot be divided into pairs", x.shape, width)
    require_nonnegative(heads.shape[3] - width, "rotary embedding of {} channels of {}, which has fewer", width, x.shape)
    require_equal(cos_cache.shape[-1], half, "a cache of shape {} does not fit {} rotated channels", cos_cache.shape, width)
    y = rotated(heads, width, bool(interleaved), pair_factor(cos_cache, position_ids), pair_factor(sin_cache, position_ids))
    if x.rank == 4:
        return y
    size = heads.shape[3]
    return view(y, x.shape, lambda b, i, c: (b, c // size, i, c % size))


PairFactor = Callable[[Dim, Dim, Dim], Expr]
"""Function (batch, position, pair) -> the cosine or sine of the pair's angle."""


def pair_factor(cache: Tensor, position_ids: Tensor | None) -> PairFactor:
    """Return the function that reads the cosine or sine of a pair: from row position_ids[b, i] of the cache, or from cache[b, i, k]
    without position_ids.
    """
    if position_ids is None:
        return lambda b, i, k: at(cache, (b, i, k))
    return lambda b, i, k: at(cache, (element(at(position_ids, (b, i)), cache.shape[0]), k))


def rotated(x: Tensor, width: Dim, interleaved: bool, cos: PairFactor, sin: PairFactor) -> Tensor:
    """Rotate the first `width` channels of each head, and copy the other ones. x: T[b, h, s, d] -> T[b, h, s, d]

    Each pair (a, b) becomes (a cos - b sin, a sin + b cos).
    """
    half = width // 2
    outer = list(x.shape[:3])

    def pair(i: Sequence[Dim]) -> tuple[Expr, Expr, Expr, Expr]:
        """Return the two numbers of pair i[-1], and the pair's cosine and sine."""
        k = i[3]
        first, second = (2 * k, 2 * k + 1) if interleaved else (k, half + k)
        place = i[0], i[2], k
        return at(x, (*i[:3], first)), at(x, (*i[:3], second)), cos(*place), sin(*place)

    def real(*i: Dim) -> Expr:
        a, b, c, s = pair(i)
        return scalar.sub(scalar.mul(c, a), scalar.mul(s, b))

    def imaginary(*i: Dim) -> Expr:
        a, b, c, s = pair(i)
        return scalar.add(scalar.mul(s, a), scalar.mul(c, b))

    parts = [compute(x.dtype, [*outer, half], body) for body in (real, imaginary)]
    if interleaved:
        columns = [view(p, [*outer, half, 1], lambda b, h, i, k, _: (b, h, i, k)) for p in parts]
        both = assemble(x.dtype, [*outer, half, 2], [(c, [0, 0, 0, 0, o]) for o, c in enumerate(columns)])
        parts = [view(both, [*outer, width], lambda b, h, i, d: (b, h, i, d // 2, d % 2))]
    places: list[Dim] = [0] if interleaved else [0, half]
    if width != x.shape[3]:
        parts.append(compute(x.dtype, [*outer, x.shape[3] - width], lambda *i: at(x, (*i[:3], width + i[3]))))
        places.append(width)
    if len(parts) == 1:
        return parts[0]
    return assemble(x.dtype, x.shape, [(p, [0, 0, 0, o]) for p, o in zip(parts, places, strict=True)])


Q, K, V = reals(2, 4, 3, 8), reals(2, 2, 5, 8)[:, ::-1].copy(), reals(2, 2, 5, 6)
PAST = reals(2, 2, 4, 8), reals(2, 2, 4, 6)

OPS = (
    Op(
        "Attention",
        since=23,
        expand=attention,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(
            Case((Q, K, V), outputs=1),
            Case((Q, K, V, reals(3, 5)), {"softcap": 2.0, "scale": 0.3}, "float_mask"),
            Case((Q, K, V, None, *PAST), {"is_causal": 1}, "past", outputs=3),
            Case((Q, K, V, integers(2, 1, 3, 5, lo=0, hi=1) == 1), {"qk_matmul_output_mode": 3}, "bool_mask", outputs=4),
            Case((reals(2, 3, 32), reals(2, 5, 16), reals(2, 5, 12)), {"q_num_heads": 4, "kv_num_heads": 2}, "packed"),
            Case((Q, K, V, None, None, None, np.array([5, 2])), {"is_causal": 1, "left_window_size": 2}, "lengths"),
        ),
    ),
    Op(
        "RotaryEmbedding",
        since=23,
        expand=rotary_embedding,
        gradient=Rule.DERIVED,
        cases=(
            Case((Q, reals(9, 4), reals(9, 4), integers(2, 3, lo=0, hi=8))),
            Case((reals(2, 3, 32), reals(2, 3, 2), reals(2, 3, 2)), {"num_heads": 4, "rotary_embedding_dim": 4, "interleaved": 1}),
        ),
    ),
)
