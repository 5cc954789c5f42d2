"""Operators of com.microsoft for language models with several streams (branches): RMS norms of groups, gated sums,
hyper-connections, routers of experts.

All of them compute in f32, and round to the dtype of the result where ONNX Runtime's docs/ContribOperators.md says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType, bf16, f16, f32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, minimum, product
from sardonyx.expr import scalar
from sardonyx.expr.decide import ask
from sardonyx.expr.index import at
from sardonyx.expr.require import require_equal, require_nonnegative, require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation as activations
from sardonyx.ops import sort
from sardonyx.ops.cases import reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.norm import inverse_root, squared
from sardonyx.ops.pointwise import along, cast, mean_along, mul, pointwise, reduce
from sardonyx.ops.ranks import require_rank_from, require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped

NARROW = (f32, f16, bf16)


def wide(x: Tensor) -> Tensor:
    return cast(x, f32)


def rms(x: Tensor, epsilon: float) -> Tensor:
    """Compute x / sqrt(mean(x^2) + epsilon) over the last axis. f32[*d] -> f32[*d]"""
    return mul(x, inverse_root(mean_along(squared(x), [x.rank - 1]), epsilon))


def rounding(e: Expr, dtype: DType) -> Expr:
    """Round e to the dtype, and return it in f32."""
    return scalar.cast(scalar.cast(e, dtype), f32)


# ---- streams: (.., C, H), or (.., C H) with their number given -------------------------------------------------------------------------


def grouped(x: Tensor, branches: int) -> Tensor:
    """Return x with an axis of branches. x: T[*d, C, H], or T[*d, C H] if the number of branches is given -> T[*d, C, H]"""
    if branches < 0:
        raise Fail(f"{branches} branches")
    require_rank_from("streams of shape {}", x, 1 if branches else 2)
    if not branches:
        return x
    require_equal(x.shape[-1] % branches, 0, "{} numbers in {} branches", x.shape[-1], branches)
    return reshaped(x, [*x.shape[:-1], branches, x.shape[-1] // branches])


def branchwise_rms_norm(X: Tensor, scale: Tensor | None = None, epsilon: float = 1e-5, num_branches: int = 0) -> Tensor:
    """Compute BranchwiseRMSNorm: x / sqrt(mean(x^2) + epsilon) scale, with the mean over H only. X: T[.., C, H] (or T[.., C H]),
    scale: S[C H], S[C, H] or S[H] -> like X
    """
    x = grouped(wide(X), num_branches)
    y = rms(x, epsilon)
    if scale is not None:
        c, h = x.shape[-2:]
        flat = scale.rank == 1 and not ask(scale.shape[0] - h, "==")
        y = mul(y, wide(reshaped(scale, [c, h]) if flat else scale))
    return reshaped(cast(y, X.dtype), X.shape)


def mixing(weights: Tensor, c: Dim, h: Dim, outer: int) -> Callable[[Sequence[Dim], Dim, Dim], Expr]:
    """Return the weight of a branch and feature, in f32. weights: S[.., C], S[.., C, 1], S[.., C, H] or S[.., C H], after `outer`
    leading axes
    """
    if weights.rank == outer + 2:
        return lambda o, k, j: scalar.cast(at(weights, (*o, k, j)), f32)
    if weights.rank != outer + 1:
        raise Fail(f"[ShapeInferenceError] weights {list(weights.shape)} for {c} branches of {h}")
    if ask(weights.shape[-1] - c, "=="):
        return lambda o, k, j: scalar.cast(at(weights, (*o, k)), f32)
    require_equal(weights.shape[-1], c * h, "weights {} for {} branches of {}", weights.shape, c, h)
    return lambda o, k, j: scalar.cast(at(weights, (*o, k * h + j)), f32)


def hyper_connection_pre_mix(streams: Tensor, pre_mix: Tensor, num_branches: int = 0, reduction_scale: float = 1.0) -> Tensor:
    """Compute HyperConnectionPreMix: reduction_scale times the sum over branches of weight times stream. streams: T[.., C, H] (or
    T[.., C H]) -> T[.., H]
    """
    x = grouped(streams, num_branches)
    outer, (c, h) = x.rank - 2, x.shape[-2:]
    weight = mixing(pre_mix, c, h, outer)

    def term(*i: Dim) -> Expr:
        o, j, k = i[:outer], i[-2], i[-1]
        return scalar.mul(scalar.cast(at(x, (*o, k, j)), f32), weight(o, k, j))

    sums = reduce("add", f32, [*x.shape[:outer], h], [c], term)
    return cast(pointwise(lambda e: scalar.mul(e, reduction_scale), sums), streams.dtype)


def hyper_connection_post_mix(
    streams: Tensor, block_output: Tensor, post_mix: Tensor, stream_mix: Tensor | None = None, num_branches: int = 0
) -> Tensor:
    """Compute HyperConnectionPostMix: y[k, h] = sum over c of stream_mix[c, k] streams[c, h], plus post_mix[k, h] block_output[h].
    Without stream_mix the first term is streams[k, h].

    streams: T[.., C, H] (or T[.., C H]), block_output: T[.., H], post_mix: S[.., C], S[.., C, 1] or S[.., C, H] -> like streams
    """
    x = grouped(streams, num_branches)
    outer, (c, h) = x.rank - 2, x.shape[-2:]
    require_same(block_output.shape, [*x.shape[:outer], h], "streams {} and a branch {}", streams.shape, block_output.shape)
    weight = mixing(post_mix, c, h, outer)
    kept = wide(x)
    if stream_mix is not None:
        require_same(stream_mix.shape, [*x.shape[:outer], c, c], "streams {} mixed by {}", streams.shape, stream_mix.shape)

        def term(*i: Dim) -> Expr:
            *o, k, j, source = i
            return scalar.mul(scalar.cast(at(stream_mix, (*o, source, k)), f32), scalar.cast(at(x, (*o, source, j)), f32))

        kept = reduce("add", f32, x.shape, [c], term)

    def body(*i: Dim) -> Expr:
        o, k, j = i[:outer], i[-2], i[-1]
        return scalar.add(at(kept, i), scalar.mul(weight(o, k, j), scalar.cast(at(block_output, (*o, j)), f32)))

    return reshaped(cast(compute(f32, x.shape, body), streams.dtype), streams.shape)


# ---- gates --------------------------------------------------------------------------------------------------------------------------------


def gated_add(X: Tensor, Y: Tensor, gate: Tensor, gate_weight: Tensor | None = None) -> Tensor:
    """Compute GatedAdd: X + Y gate, where the product is rounded first. X, Y: T[.., C], gate: T[.., 1] -> T[.., C]"""
    if gate_weight is not None:
        raise Unsupported("GatedAdd with a gate_weight")
    require_rank_from("GatedAdd of {}", X, 1)
    require_same(X.shape, Y.shape, "GatedAdd of {} and {}", X.shape, Y.shape)
    require_same(gate.shape, [*X.shape[:-1], 1], "GatedAdd of {} with a gate {}", X.shape, gate.shape)
    return pointwise(lambda x, y, g: scalar.add(x, scalar.mul(y, g)), X, Y, gate)


def gated_rms_norm(X: Tensor, scale: Tensor, gate: Tensor, activation: str = "silu", epsilon: float = 1e-5) -> Tensor:
    """Compute GatedRMSNorm: x / sqrt(mean(x^2) + epsilon) scale act(gate), over groups of C numbers. X, gate: T[.., H C], scale:
    T[C] -> T[.., H C]
    """
    if activation not in ("silu", "swish", "sigmoid"):
        raise Fail(f"GatedRMSNorm with the activation {activation}; it is silu, swish or sigmoid")
    require_ranks("GatedRMSNorm by a scale {}", (scale, 1))
    require_rank_from("GatedRMSNorm of {}", X, 1)
    require_same(gate.shape, X.shape, "GatedRMSNorm of {} with a gate {}", X.shape, gate.shape)
    size = scale.shape[0]
    require_nonnegative(size - 1, "GatedRMSNorm by a scale {}", scale.shape)
    require_equal(X.shape[-1] % size, 0, "GatedRMSNorm of {} in groups of {}", X.shape, size)
    sizes = [*X.shape[:-1], X.shape[-1] // size, size]
    curve = activations.sigmoid if activation == "sigmoid" else activations.swish
    y = mul(rms(reshaped(wide(X), sizes), epsilon), wide(scale))
    gated = mul(y, pointwise(curve, reshaped(wide(gate), sizes)))
    return reshaped(cast(gated, X.dtype), X.shape)


def scaled_silu(X: Tensor, scale: Tensor | None = None, alpha: float = 1.0) -> Tensor:
    """Compute ScaledSiLU: z sigmoid(z) with z = scale X, where z, the sigmoid and the product are each rounded. X: T[*d], scale:
    S[], instead of alpha -> T[*d]
    """
    if scale is not None:
        require_equal(product(scale.shape), 1, "ScaledSiLU by {}, not one number", scale.shape)

    def body(*i: Dim) -> Expr:
        factor = alpha if scale is None else scalar.cast(at(scale, [0] * scale.rank), f32)
        z = rounding(scalar.mul(scalar.cast(at(X, i), f32), factor), X.dtype)
        return scalar.cast(scalar.mul(z, rounding(activations.sigmoid(z), X.dtype)), X.dtype)

    return compute(X.dtype, X.shape, body)


def linear_attention_gate(
    a: Tensor, dt_bias: Tensor, decay_scale: Tensor, b: Tensor | None = None, outputs: int = 1
) -> list[Tensor | None]:
    """Compute LinearAttentionGate: decay = decay_scale log(1 + exp(a + dt_bias)) and beta = sigmoid(b). a, b: T[B, t, H], dt_bias,
    decay_scale: f32[H] -> T[B, t, H], T[B, t, H]
    """
    if outputs > 1 and b is None:
        raise Fail("LinearAttentionGate: the output beta needs the input b")
    require_ranks("LinearAttentionGate of {} with {} and {}", (a, 3), (dt_bias, 1), (decay_scale, 1))
    for t in (dt_bias, decay_scale):
        require_equal(t.shape[0], a.shape[2], "LinearAttentionGate of {} with {}", a.shape, t.shape)
    decay = pointwise(lambda e, d, s: scalar.mul(activations.softplus(scalar.add(e, d)), s), wide(a), dt_bias, decay_scale)
    return [cast(decay, a.dtype), None if b is None else cast(pointwise(activations.sigmoid, wide(b)), b.dtype)]


def engram_gate(
    key: Tensor,
    query: Tensor,
    value: Tensor,
    key_norm_scale: Tensor,
    query_norm_scale: Tensor,
    conv_norm_scale: Tensor | None = None,
    epsilon: float = 1e-5,
    outputs: int = 1,
) -> list[Tensor | None]:
    """Compute EngramGate: y = sigmoid(sign(d) sqrt(max(|d|, 1e-6))) value, where d = sum of rms(key) rms(query) / sqrt(h), each
    norm with its scale. The second output is rms(y) conv_norm_scale.

    key, query: T[b, s, m, h], value: T[b, s, h], scales: T[m, h] -> T[b, s, m, h], T[b, s, m, h]
    """
    if outputs > 1 and conv_norm_scale is None:
        raise Fail("EngramGate: the output gated_value_normed needs the input conv_norm_scale")
    require_ranks("EngramGate of {}, {} and {}", (key, 4), (query, 4), (value, 3))
    require_same(query.shape, key.shape, "EngramGate of {} and {}", key.shape, query.shape)
    require_same(value.shape, [*key.shape[:2], key.shape[3]], "EngramGate of {} with values {}", key.shape, value.shape)
    keys, queries = (mul(rms(wide(t), epsilon), wide(s)) for t, s in ((key, key_norm_scale), (query, query_norm_scale)))
    root = scalar.apply("sqrt", scalar.cast(scalar.index(key.shape[3]), f32))
    dots = pointwise(lambda e: scalar.div(e, root), along("add", mul(keys, queries), [3]))

    def gate(d: Expr) -> Expr:
        size = scalar.apply("sqrt", scalar.maximum(scalar.apply("abs", d), 1e-6))
        sign = scalar.select(scalar.apply("eq", d, 0), 0, scalar.apply("copysign", size, d))
        return activations.sigmoid(sign)

    gates = pointwise(gate, dots)
    y = compute(f32, key.shape, lambda b, s, m, h: scalar.mul(at(gates, (b, s, m, h)), scalar.cast(at(value, (b, s, h)), f32)))
    normed = None if conv_norm_scale is None else cast(mul(rms(y, epsilon), wide(conv_norm_scale)), key.dtype)
    return [cast(y, key.dtype), normed]


# ---- the router ---------------------------------------------------------------------------------------------------------------------------


def moe_group_router(
    logits: Tensor,
    expert_bias: Tensor,
    projection_weight: Tensor | None = None,
    *,
    top_k: int,
    group_topk: int = 2,
    n_group: int = 1,
    router_sentinel: float = -10000.0,
    topk_group: int = 1,
) -> list[Tensor]:
    """Compute MoEGroupRouter: choose experts by groups. With s = sigmoid(logits), returns log(max(s, 1e-20)) at the chosen experts
    and router_sentinel elsewhere; s + bias; and s.

    The score of a group is the sum of its group_topk greatest s + bias. The topk_group best groups are kept, and the top_k best of
    their experts are chosen. logits: T[.., e], expert_bias: f32[e] -> T[t, e], f32[t, e], f32[t, e]
    """
    if projection_weight is not None:
        raise Unsupported("MoEGroupRouter with a projection_weight")
    if min(top_k, group_topk, n_group, topk_group) < 1 or topk_group > n_group:
        raise Fail(f"MoEGroupRouter of {topk_group} of {n_group} groups, by {group_topk}, to {top_k} experts")
    require_rank_from("MoEGroupRouter of {}", logits, 1)
    rows, experts = product(logits.shape[:-1]), logits.shape[-1]
    require_same(expert_bias.shape, [experts], "MoEGroupRouter of {} with biases {}", logits.shape, expert_bias.shape)
    require_equal(experts % n_group, 0, "{} experts in {} groups", experts, n_group)
    each = experts // n_group
    s = pointwise(activations.sigmoid, wide(reshaped(logits, [rows, experts])))
    scores = pointwise(scalar.add, s, expert_bias)
    best, _ = sort.top(reshaped(scores, [rows, n_group, each]), minimum(group_topk, each), 2, largest=True)
    sums = reshaped(along("add", best, [2]), [rows, n_group])
    _, groups = sort.top(sums, topk_group, 1, largest=True)
    kept = member_counts(groups, n_group)
    masked = compute(
        f32,
        scores.shape,
        lambda t, e: scalar.select(scalar.apply("gt", at(kept, (t, e // each)), 0), at(scores, (t, e)), -math.inf),
    )
    _, chosen = sort.top(masked, top_k, 1, largest=True)
    hits = member_counts(chosen, experts)

    def routed(t: Dim, e: Dim) -> Expr:
        log = scalar.apply("log", scalar.maximum(at(s, (t, e)), 1e-20))
        return scalar.cast(scalar.select(scalar.apply("gt", at(hits, (t, e)), 0), log, router_sentinel), logits.dtype)

    return [compute(logits.dtype, s.shape, routed), scores, s]


def member_counts(members: Tensor, n: Dim) -> Tensor:
    """Count how often each of 0 to n - 1 occurs in a row. members: i64[t, k] -> i64[t, n]"""

    def term(t: Dim, i: Dim, j: Dim) -> Expr:
        return scalar.cast(scalar.apply("eq", at(members, (t, j)), scalar.index(i)), i64)

    return reduce("add", i64, [members.shape[0], n], [members.shape[1]], term)


# ---- records ------------------------------------------------------------------------------------------------------------------------------

X = reals(2, 3, 4, 8)
FLAT = X.reshape(2, 3, 32)
LOGITS, BIAS = reals(5, 12, scale=3), reals(12, scale=0.4)


def op(name: str, meaning: Callable[..., Any], types: dict[str, Any], *cases: Case) -> Op:
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        expand=meaning,
        element_types=types,
        gradient=Rule.DERIVED,
        cases=cases,
        tolerance=2e-5,
    )


OPS = (
    op(
        "BranchwiseRMSNorm",
        branchwise_rms_norm,
        {"X": NARROW, "scale": NARROW},
        Case((X, reals(8)), {"epsilon": 1e-3}),
        Case((FLAT, reals(32)), {"num_branches": 4}),
        Case((X, reals(4, 8))),
        Case((X,)),
    ),
    op(
        "HyperConnectionPreMix",
        hyper_connection_pre_mix,
        {"streams": NARROW, "pre_mix": NARROW},
        Case((X, reals(2, 3, 4)), {"reduction_scale": 0.5}),
        Case((FLAT, reals(2, 3, 32)), {"num_branches": 4}),
        Case((X, reals(2, 3, 4, 1))),
    ),
    op(
        "HyperConnectionPostMix",
        hyper_connection_post_mix,
        {"streams block_output": NARROW, "post_mix stream_mix": NARROW},
        Case((X, reals(2, 3, 8), reals(2, 3, 4), reals(2, 3, 4, 4))),
        Case((FLAT, reals(2, 3, 8), reals(2, 3, 4, 8)), {"num_branches": 4}),
    ),
    op("GatedAdd", gated_add, {}, Case((X, X[::-1].copy(), reals(2, 3, 4, 1)))),
    op(
        "GatedRMSNorm",
        gated_rms_norm,
        {},
        Case((FLAT, reals(8), FLAT[::-1].copy())),
        Case((FLAT, reals(16), FLAT[::-1].copy()), {"activation": "sigmoid", "epsilon": 1e-2}),
    ),
    op("ScaledSiLU", scaled_silu, {"X": NARROW, "scale": NARROW}, Case((X,), {"alpha": 1.7}), Case((X, np.array(0.5, np.float32)))),
    op(
        "LinearAttentionGate",
        linear_attention_gate,
        {"a b": NARROW, "dt_bias decay_scale": (f32,)},
        Case((FLAT, reals(32), reals(32), FLAT[::-1].copy()), outputs=2),
        Case((FLAT, reals(32), reals(32))),
    ),
    op(
        "EngramGate",
        engram_gate,
        {},
        Case((X, X[::-1].copy(), reals(2, 3, 8), reals(4, 8), reals(4, 8)[::-1].copy())),
        Case((X, X[::-1].copy(), reals(2, 3, 8), reals(4, 8), reals(4, 8)[::-1].copy(), reals(4, 8)), outputs=2),
    ),
    op(
        "MoEGroupRouter",
        moe_group_router,
        {"logits projection_weight": NARROW, "expert_bias": (f32,)},
        Case((LOGITS, BIAS), {"top_k": 3, "n_group": 4, "topk_group": 2}),
        Case((LOGITS, BIAS), {"top_k": 4}),
    ),
)
