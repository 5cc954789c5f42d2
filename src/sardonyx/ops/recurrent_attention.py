"""LinearAttention, which carries a state from token to token, and CausalConvWithState, the convolution that models place before it."""

from __future__ import annotations

import numpy as np

from sardonyx.base.dtypes import f32
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.region import scan
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation as activations
from sardonyx.ops.attention import Scale, appended, default_scale, scaled, split_heads
from sardonyx.ops.cases import reals
from sardonyx.ops.conv import along_channels, convolve
from sardonyx.ops.pointwise import cast, expand_to, pointwise, reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.windows import windows

RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}
"""update_rule -> (whether the state decays by exp(decay), whether the value is corrected by what the state already holds for the
key).
"""


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
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Compute LinearAttention. For each token t, in f32: S = exp(decay) S + key^T update; output = scale query S

    update is the value, or beta (value - key S) for the delta rules.
    query: T[b, t, h dk], key: T[b, t, g dk], value: T[b, t, g dv], decay: T[b, t, g] or T[b, t, g dk], beta: T[b, t, g] or T[b, t,
    1], past_state: U[b, g, dk, dv] -> T[b, t, h dv], U[b, g, dk, dv].
    Raises Fail for an unknown rule, for inputs that the rule lacks or does not take, and for sizes that don't fit.
    """
    if update_rule not in RULES:
        raise Fail(f"update_rule {update_rule} is unknown")
    gated, delta = RULES[update_rule]
    if gated != (decay is not None) or delta != (beta is not None):
        raise Fail(f"update_rule {update_rule} {'needs' if gated else 'has no'} decay and {'needs' if delta else 'has no'} beta")
    q, k, v = split_heads(query, q_num_heads), split_heads(key, kv_num_heads), split_heads(value, kv_num_heads)
    require_equal(
        q_num_heads % kv_num_heads,
        0,
        "the {} heads of queries are not a multiple of the {} heads of keys",
        q_num_heads,
        kv_num_heads,
    )
    sizes = "LinearAttention of {}, {} and {}", query.shape, key.shape, value.shape
    require_same([q.shape[0], *q.shape[2:]], [k.shape[0], *k.shape[2:]], *sizes)
    require_same(k.shape[:3], v.shape[:3], *sizes)
    size = q.shape[3]
    factor = scale or default_scale(size)
    shape = [q.shape[0], kv_num_heads, size, v.shape[3]]
    start = initial_state(past_state, shape)
    damping = None if decay is None else split_heads(decay, kv_num_heads)
    for extra in (decay, beta):
        if extra is not None:
            require_ranks("LinearAttention with decay or beta of shape {}, which does not have 3 axes", (extra, 3))
            require_same(
                extra.shape[:2],
                query.shape[:2],
                "LinearAttention of {} with decay or beta of shape {}, which does not fit",
                query.shape,
                extra.shape,
            )

    def step(t: Dim, state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        damped = state if damping is None else damped_state(state, damping, t)
        fresh = fresh_value(damped, k, v, beta, t)
        new = compute(
            f32,
            shape,
            lambda b, g, i, j: scalar.add(at(damped, (b, g, i, j)), scalar.mul(wide(k, b, g, t, i), at(fresh, (b, g, j)))),
        )
        return [new], [read_out(new, q, t, factor)]

    (final,), (stack,) = scan(q.shape[2], [start], step)
    heads, width = q_num_heads, v.shape[3]
    out = view(stack, [q.shape[0], q.shape[2], heads * width], lambda b, t, c: (t, b, c // width, c % width))
    return cast(out, query.dtype), cast(final, past_state.dtype if past_state is not None else query.dtype)


def initial_state(past: Tensor | None, shape: list[Dim]) -> Tensor:
    """Return the given state, or zeros, in f32 and in this shape. The run fails if the given shape differs."""
    if past is None:
        return expand_to(constant(np.zeros((), np.float32)), shape)
    require_same(past.shape, shape, "a state has the shape {}, not {}", past.shape, shape)
    return compute(f32, shape, lambda *i: wide(past, *i))


def wide(x: Tensor, *index: Dim) -> Expr:
    """Return an element of x in f32."""
    return scalar.cast(at(x, index), f32)


def damped_state(state: Tensor, damping: Tensor, t: Dim) -> Tensor:
    """Compute exp(decay) S. state: f32[b, g, dk, dv], damping: T[b, g, t, dk or 1]"""
    return compute(
        f32, state.shape, lambda b, g, i, j: scalar.mul(at(state, (b, g, i, j)), scalar.apply("exp", wide(damping, b, g, t, i)))
    )


def fresh_value(state: Tensor, k: Tensor, v: Tensor, beta: Tensor | None, t: Dim) -> Tensor:
    """Return what token t writes into the state: the value, or beta (value - key S). -> f32[b, g, dv]"""
    shape = [state.shape[0], state.shape[1], state.shape[3]]
    if beta is None:
        return compute(f32, shape, lambda b, g, j: wide(v, b, g, t, j))
    held = reduce("add", f32, shape, [state.shape[2]], lambda b, g, j, i: scalar.mul(wide(k, b, g, t, i), at(state, (b, g, i, j))))

    def body(b: Dim, g: Dim, j: Dim) -> Expr:
        return scalar.mul(wide(beta, b, t, g), scalar.sub(wide(v, b, g, t, j), at(held, (b, g, j))))

    return compute(f32, shape, body)


def read_out(state: Tensor, q: Tensor, t: Dim, scale: Scale) -> Tensor:
    """Compute scale query S for token t. -> f32[b, h, dv]"""
    each = q.shape[1] // state.shape[1]

    def term(b: Dim, g: Dim, r: Dim, j: Dim, i: Dim) -> Expr:
        return scalar.mul(wide(q, b, g * each + r, t, i), at(state, (b, g, i, j)))

    shape = [q.shape[0], state.shape[1], each, state.shape[3]]
    y = scaled(reduce("add", f32, shape, [state.shape[2]], term), scale)
    return view(y, [q.shape[0], q.shape[1], state.shape[3]], lambda b, h, j: (b, h // each, h % each, j))


def causal_conv_with_state(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, past_state: Tensor | None = None, activation: str = "none"
) -> tuple[Tensor, Tensor]:
    """Compute CausalConvWithState: convolve each channel over its last k tokens, then apply the activation.

    x: T[b, c, n], weight: T[c, 1, k], bias: T[c], past_state: T[b, c, k - 1], the tokens before x -> T[b, c, n], and the last k - 1
    tokens: T[b, c, k - 1]. Raises Fail for other ranks and activations.
    """
    if x.rank != 3 or weight.rank != 3:
        raise Fail(f"[ShapeInferenceError] causal convolution of {list(x.shape)} by {list(weight.shape)}")
    if activation not in ("none", "silu", "swish"):
        raise Fail(f"activation must be none, silu or swish, not {activation}")
    batch, channels, length = x.shape
    require_same(weight.shape[:2], (channels, 1), "causal convolution of {} by {}", x.shape, weight.shape)
    (window,) = windows([length + (weight.shape[2] - 1)], [weight.shape[2]])
    kept = window.size - 1
    past = past_state if past_state is not None else expand_to(constant(np.zeros((), x.dtype.numpy)), [batch, channels, kept])
    whole = appended(past, x)
    y = convolve(whole, weight, [window], weight.shape[0], x.dtype)
    if bias is not None:
        y = pointwise(scalar.add, y, along_channels(bias, 3))
    if activation != "none":
        y = pointwise(lambda e: scalar.cast(activations.swish(scalar.cast(e, f32)), x.dtype), y)
    return y, view(whole, [batch, channels, kept], lambda b, c, i: (b, c, length + i))


Q, K, V = reals(2, 3, 16, scale=0.5), reals(2, 3, 8, scale=0.5)[:, ::-1].copy(), reals(2, 3, 6)
STATE, DECAY, BETA = reals(2, 2, 4, 3), -np.abs(reals(2, 3, 2)), np.abs(reals(2, 3, 2)) / 2
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}

OPS = (
    Op(
        "LinearAttention",
        since=27,
        lower=linear_attention,
        quantised=Rule.NONE,
        tolerance=1e-5,
        cases=(
            Case((Q, K, V), {**HEADS, "update_rule": "linear"}, outputs=2),
            Case((Q, K, V, STATE, DECAY), {**HEADS, "update_rule": "gated", "scale": 0.3}, outputs=2),
            Case((Q, K, V, None, None, BETA), {**HEADS, "update_rule": "delta"}, outputs=2),
            Case((Q, K, V, STATE, -np.abs(reals(2, 3, 8)), BETA[..., :1].copy()), HEADS, outputs=2),
        ),
    ),
    Op(
        "CausalConvWithState",
        since=27,
        expand=causal_conv_with_state,
        gradient=Rule.DERIVED,
        tolerance=1e-5,
        cases=(
            Case((reals(2, 3, 5), reals(3, 1, 4)), outputs=2),
            Case((reals(2, 3, 1), reals(3, 1, 4), reals(3), reals(2, 3, 3)), {"activation": "silu"}, outputs=2),
        ),
    ),
)
