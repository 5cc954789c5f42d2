"""Operators of the domain com.microsoft that carry a state from token to token: LinearAttention, CausalConvWithState, hashes of
n-grams.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md. A packed batch holds the tokens of all sequences one after
the other; sequence b has those from cumulative_sequence_length[b] to cumulative_sequence_length[b + 1] - 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import bf16, f16, f32, i32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation as activations
from sardonyx.ops import recurrent_attention
from sardonyx.ops.attention import appended, split_heads
from sardonyx.ops.cases import reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.conv import along_channels, convolve
from sardonyx.ops.pointwise import expand_to, pointwise, reduce, view
from sardonyx.ops.ranks import require_rank_from, require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped
from sardonyx.ops.windows import windows

# ---- LinearAttention ----------------------------------------------------------------------------------------------------------------------


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    chunk_size: int = 64,
    scale: float = 0.0,
    state_window: int = 0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Compute the standard's LinearAttention (see recurrent_attention.py), also with more heads of keys than of queries: several
    consecutive heads of keys then share one head of queries. -> T[b, t, max(h, g) dv], U[b, g, dk, dv]

    Raises Unsupported for a window of states.
    """
    if state_window:
        raise Unsupported("LinearAttention with a state_window")
    if min(q_num_heads, kv_num_heads) < 1:
        raise Fail(f"LinearAttention with {q_num_heads} heads of queries and {kv_num_heads} of keys")
    if kv_num_heads > q_num_heads:
        if kv_num_heads % q_num_heads:
            raise Fail(f"LinearAttention with {q_num_heads} heads of queries for {kv_num_heads} of keys")
        heads, each = split_heads(query, q_num_heads), kv_num_heads // q_num_heads
        size = heads.shape[3]
        shape = [*query.shape[:2], kv_num_heads * size]
        query = view(heads, shape, lambda b, t, c: (b, c // size // each, t, c % size))
        q_num_heads = kv_num_heads
    heads_of = {"q_num_heads": q_num_heads, "kv_num_heads": kv_num_heads}
    return recurrent_attention.linear_attention(
        query, key, value, past_state, decay, beta, **heads_of, scale=scale, update_rule=update_rule
    )


# ---- convolutions over the last tokens ------------------------------------------------------------------------------------------------------


def activated(y: Tensor, activation: str) -> Tensor:
    """Return y, or swish(y). Raises Fail for an unknown activation."""
    if activation not in ("none", "silu", "swish"):
        raise Fail(f"activation {activation} is not none, silu or swish")
    if activation == "none":
        return y
    return pointwise(lambda e: scalar.cast(activations.swish(scalar.cast(e, f32)), y.dtype), y)


def causal_conv_with_state(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    activation: str = "none",
    channels_last: int = 0,
    dilation: int = 1,
    input_channel_offset: int = 0,
    input_channels: int = 0,
    ndim: int = 1,
    state_channels_last: int = -1,
    state_length: int = 0,
    state_update_capacity: int = 0,
    state_window: int = 0,
) -> tuple[Tensor, Tensor]:
    """Compute each channel's own convolution over the last tokens, `dilation` apart, and return the tokens that the next call needs.

    input: T[b, c, n] (T[b, n, *c] with channels_last), weight: T[c, 1, k], bias: T[c], past_state: T[b, c, (k - 1) dilation] (T[b,
    (k - 1) dilation, *c]) -> like input, like past_state.
    Raises Unsupported for more axes than that of the tokens, for a window of states and for what only GPUs have.
    """
    others = (input_channel_offset, input_channels, state_length, state_update_capacity, state_window, state_channels_last + 1)
    if any(others) or ndim != 1:
        raise Unsupported("CausalConvWithState with ndim other than 1, a state_window, or parts and states as GPUs have them")
    require_rank_from("CausalConvWithState of {}", input, 3)
    require_ranks("CausalConvWithState by {} and {}", (weight, 3), (bias, 1))
    if dilation < 1 or (not channels_last and input.rank != 3):
        raise Fail(f"[ShapeInferenceError] CausalConvWithState of {list(input.shape)} with dilation {dilation}")
    around = list(input.shape[2:])
    x = first_of_last(input) if channels_last else input
    batch, channels, length = x.shape
    require_same(weight.shape[:2], (channels, 1), "causal convolution of {} by weights {}", input.shape, weight.shape)
    kept = (weight.shape[2] - 1) * dilation
    (way,) = windows([length + kept], [weight.shape[2]], None, [dilation])
    if past_state is None:
        past = expand_to(constant(np.zeros((), x.dtype.numpy)), [batch, channels, kept])
    else:
        past = first_of_last(past_state) if channels_last else past_state
        require_same(past.shape, [batch, channels, kept], "a state {} for {} tokens", past_state.shape, kept)
    whole = appended(past, x)
    y = convolve(whole, weight, [way], weight.shape[0], x.dtype)
    y = activated(y if bias is None else pointwise(scalar.add, y, along_channels(bias, 3)), activation)
    state = view(whole, [batch, channels, kept], lambda b, c, i: (b, c, length + i))
    if not channels_last:
        return y, state
    turned = [view(t, [t.shape[0], t.shape[2], t.shape[1]], lambda b, n, c: (b, c, n)) for t in (y, state)]
    out, new = (reshaped(t, [*t.shape[:2], *around]) for t in turned)
    return out, new


def first_of_last(x: Tensor) -> Tensor:
    """Move the channels from the last axes to axis 1 and merge them. T[b, n, *c] -> T[b, product of c, n]"""
    flat = reshaped(x, [*x.shape[:2], product(x.shape[2:])])
    return view(flat, [flat.shape[0], flat.shape[2], flat.shape[1]], lambda b, c, n: (b, n, c))


class Packed(Struct, frozen=True):
    """Sequences of a packed batch. bounds: i32[b + 1], where each begins; total: how many tokens there are"""

    bounds: Tensor
    total: Dim

    @property
    def count(self) -> Dim:
        """Return the number of sequences."""
        return self.bounds.shape[0] - 1

    def start(self, b: Dim) -> Expr:
        """Return the first token of sequence b."""
        return scalar.cast(at(self.bounds, (b,)), i64)

    def length(self, b: Dim) -> Expr:
        """Return the number of tokens of sequence b."""
        return scalar.sub(scalar.cast(at(self.bounds, (b + 1,)), i64), self.start(b))

    def owners(self) -> Tensor:
        """Return the sequence that each token belongs to: i64[t]"""

        def ended(t: Dim, b: Dim) -> Expr:
            return scalar.cast(scalar.apply("le", scalar.cast(at(self.bounds, (b + 1,)), i64), scalar.index(t)), i64)

        found = reduce("add", i64, [self.total], [self.count], ended)
        return pointwise(lambda e: scalar.minimum(e, scalar.index(self.count - 1)), found)


def packed(bounds: Tensor, total: Dim) -> Packed:
    """Return the sequences with these bounds. Raises Fail for bounds of another rank."""
    require_ranks("cumulative_sequence_length of shape {}", (bounds, 1))
    require_nonnegative(bounds.shape[0] - 2, "cumulative_sequence_length of shape {}", bounds.shape)
    return Packed(bounds, total)


def varlen_causal_conv_with_state(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    cumulative_sequence_length: Tensor,
    bias: Tensor | None,
    initial_state: Tensor,
    capture_count: Tensor | None = None,
    kernel_delta: Tensor | None = None,
    previous_mask: Tensor | None = None,
    activation: str = "none",
    delta_offset: int = 0,
    dilation: int = 1,
    group_size: int = 0,
    state_update_capacity: int = 0,
) -> list[Tensor | None]:
    """Compute CausalConvWithState of a packed batch.

    input: T[t, c], weight: T[c, 1, k], bias: T[c], initial_state: T[b, c, (k - 1) dilation], capture_count: i32[b]
    -> T[t, c], the state after each sequence, and of each its first min(capture_count, state_update_capacity) tokens, then zeros: T[b,
    state_update_capacity, c].
    Raises Unsupported for weights that differ from token to token.
    """
    if kernel_delta is not None or previous_mask is not None:
        raise Unsupported("VarlenCausalConvWithState with kernel_delta and previous_mask")
    if (capture_count is not None) != (state_update_capacity > 0) or dilation < 1:
        raise Fail("VarlenCausalConvWithState takes capture_count with a state_update_capacity above 0, and a dilation from 1 on")
    require_ranks("VarlenCausalConvWithState of {}, {} and {}", (input, 2), (weight, 3), (initial_state, 3))
    tokens, channels = input.shape
    batch, taps = packed(cumulative_sequence_length, tokens), weight.shape[2]
    kept = (taps - 1) * dilation
    require_same(weight.shape[:2], [channels, 1], "causal convolution of {} by weights {}", input.shape, weight.shape)
    require_same(initial_state.shape, [batch.count, channels, kept], "a state {} for {}", initial_state.shape, input.shape)
    owners = batch.owners()

    def sample(b: Dim, place: Expr, c: Dim) -> Expr:
        """The channel's number at a place of the sequence, which is before its first token where it is negative."""
        is_old = scalar.apply("lt", place, 0)
        at_state = element(scalar.select(is_old, scalar.add(place, scalar.index(kept)), 0), kept)
        token = element(scalar.select(is_old, 0, scalar.add(place, batch.start(b))), tokens)
        old = at(initial_state, (b, c, at_state)) if kept != 0 else scalar.literal(0, input.dtype)
        return scalar.select(is_old, old, at(input, (token, c)))

    def term(t: Dim, c: Dim, j: Dim) -> Expr:
        b = element(at(owners, (t,)), batch.count)
        place = scalar.sub(scalar.index(t - (taps - 1 - j) * dilation), batch.start(b))
        return scalar.mul(scalar.cast(sample(b, place, c), f32), scalar.cast(at(weight, (c, 0, j)), f32))

    sums = reduce("add", f32, input.shape, [taps], term)
    sums = sums if bias is None else pointwise(lambda e, o: scalar.add(e, scalar.cast(o, f32)), sums, bias)
    y = pointwise(lambda e: scalar.cast(e, input.dtype), activated(sums, activation), dtype=input.dtype)

    def last(b: Dim, c: Dim, i: Dim) -> Expr:
        return sample(b, scalar.add(scalar.index(i - kept), batch.length(b)), c)

    def captured(b: Dim, i: Dim, c: Dim) -> Expr:
        assert capture_count is not None
        most = scalar.minimum(scalar.cast(at(capture_count, (b,)), i64), batch.length(b))
        there = scalar.apply("lt", scalar.index(i), most)
        return scalar.select(there, sample(b, scalar.select(there, scalar.index(i), 0), c), 0)

    state = compute(input.dtype, initial_state.shape, last)
    if not state_update_capacity:
        return [y, state, None]
    return [y, state, compute(input.dtype, [batch.count, state_update_capacity, channels], captured)]


# ---- records --------------------------------------------------------------------------------------------------------------------------------

Q, K, V = reals(2, 3, 8, scale=0.5), reals(2, 3, 8, scale=0.5)[:, ::-1].copy(), reals(2, 3, 12)
DECAY, BETA = -np.abs(reals(2, 3, 2)), np.abs(reals(2, 3, 2)) / 2
BOUNDS = np.array([0, 3, 4, 9], np.int32)


def op(name: str, meaning: Any, types: dict[str, Any], *cases: Case, gradient: Any = Rule.NONE) -> Op:
    return Op(
        name, 1, MICROSOFT, in_standard=False, element_types=types, expand=meaning, gradient=gradient, cases=cases, tolerance=2e-5
    )


OPS = (
    op(
        "LinearAttention",
        linear_attention,
        {"past_state": (f32, f16, bf16)},
        Case((Q, K, V), {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"}, outputs=2),
        Case(
            (Q, K, V, reals(2, 2, 4, 6), DECAY, BETA),
            {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "gated_delta"},
            outputs=2,
        ),
        Case(
            (Q[..., :4].copy(), K, V, None, DECAY),
            {"q_num_heads": 1, "kv_num_heads": 2, "update_rule": "gated"},
            "shared",
            outputs=2,
        ),
        gradient=Rule.DERIVED,
    ),
    op(
        "CausalConvWithState",
        causal_conv_with_state,
        {},
        Case((reals(2, 3, 5), reals(3, 1, 4)), outputs=2),
        Case((reals(2, 3, 4), reals(3, 1, 3), reals(3), reals(2, 3, 4)), {"activation": "silu", "dilation": 2}, outputs=2),
        Case((reals(2, 5, 2, 3), reals(6, 1, 3), reals(6), reals(2, 2, 2, 3)), {"channels_last": 1}, outputs=2),
        gradient=Rule.DERIVED,
    ),
    op(
        "VarlenCausalConvWithState",
        varlen_causal_conv_with_state,
        {"cumulative_sequence_length capture_count": (i32,)},
        Case((reals(9, 4), reals(4, 1, 3), BOUNDS, reals(4), reals(3, 4, 2)), {"activation": "silu"}, outputs=2),
        Case(
            (reals(9, 4), reals(4, 1, 3), BOUNDS, None, reals(3, 4, 4), np.array([2, 5, 0], np.int32)),
            {"dilation": 2, "state_update_capacity": 3},
            outputs=3,
        ),
    ),
)
