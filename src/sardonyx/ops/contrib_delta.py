"""GatedDeltaNet of the domain com.microsoft: linear attention of a packed batch, with a state for each sequence.

Its definition is that of ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import bf16, f16, f32, i32, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, maximum
from sardonyx.expr import scalar
from sardonyx.expr.decide import ask
from sardonyx.expr.index import at, element
from sardonyx.expr.known import only
from sardonyx.expr.region import scan
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation as activations
from sardonyx.ops.attention import Scale, default_scale
from sardonyx.ops.cases import reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.contrib_recurrent import Packed, packed
from sardonyx.ops.pointwise import along, cast, expand_to, pointwise, reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.recurrent_attention import RULES
from sardonyx.ops.shape import reshaped


class Tokens(Struct, frozen=True):
    """What the recurrence reads, in f32. q, k: [t, h, dk], v: [t, g, dv], decay: [t, g, dk or 1] or None, beta: [t, g] or None

    starts, lengths: i64[b], the first token of each sequence, and how many it has
    """

    q: Tensor
    k: Tensor
    v: Tensor
    decay: Tensor | None
    beta: Tensor | None
    starts: Tensor
    lengths: Tensor
    scale: Scale

    def token(self, b: Dim, i: Dim) -> Dim:
        """Return sequence b's i-th token; where it has fewer, any of the batch."""
        total = self.q.shape[0]
        place = scalar.add(at(self.starts, (b,)), scalar.index(i))
        return element(scalar.minimum(place, scalar.index(maximum(total - 1, 0))), total)

    def is_there(self, b: Dim, i: Dim) -> Expr:
        """Return whether sequence b has an i-th token."""
        return scalar.apply("lt", scalar.index(i), at(self.lengths, (b,)))

    def step(self, i: Dim, state: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Take each sequence's i-th token into its state, and read out. state: f32[b, g, dv, dk] -> the same, f32[b, g, dv]"""
        batch, heads, rows, columns = state.shape
        each = heads // self.k.shape[1]

        def damped_at(b: Dim, g: Dim, r: Dim, c: Dim) -> Expr:
            own = at(state, (b, g, r, c))
            if self.decay is None:
                return own
            return scalar.mul(own, scalar.apply("exp", at(self.decay, (self.token(b, i), g, c))))

        damped = compute(f32, state.shape, damped_at)

        def key(b: Dim, g: Dim, c: Dim) -> Expr:
            return at(self.k, (self.token(b, i), g // each, c))

        held = reduce(
            "add", f32, [batch, heads, rows], [columns], lambda b, g, r, c: scalar.mul(at(damped, (b, g, r, c)), key(b, g, c))
        )

        def fresh_at(b: Dim, g: Dim, r: Dim) -> Expr:
            own = at(self.v, (self.token(b, i), g, r))
            if self.beta is None:
                return own
            return scalar.mul(at(self.beta, (self.token(b, i), g)), scalar.sub(own, at(held, (b, g, r))))

        fresh = compute(f32, held.shape, fresh_at)

        def new_at(b: Dim, g: Dim, r: Dim, c: Dim) -> Expr:
            new = scalar.add(at(damped, (b, g, r, c)), scalar.mul(at(fresh, (b, g, r)), key(b, g, c)))
            return scalar.select(self.is_there(b, i), new, at(state, (b, g, r, c)))

        new = compute(f32, state.shape, new_at)

        def term(b: Dim, g: Dim, r: Dim, c: Dim) -> Expr:
            return scalar.mul(at(new, (b, g, r, c)), at(self.q, (self.token(b, i), g // each, c)))

        y = reduce("add", f32, held.shape, [columns], term)
        return [new], [pointwise(lambda e: scalar.mul(e, self.scale), y)]


def gated_delta_net(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    initial_state: Tensor | None = None,
    a_log: Tensor | None = None,
    dt_bias: Tensor | None = None,
    capture_count: Tensor | None = None,
    state_update_active: Tensor | None = None,
    beta_activation: str = "none",
    chunk_size: int = 64,
    gate_activation: str = "none",
    gate_lower_bound: float = -5.0,
    qk_l2_norm: int = 0,
    scale: float = 0.0,
    state_update_capacity: int = 0,
    update_rule: str = "gated_delta",
) -> list[Tensor]:
    """Compute, for each token of a sequence, in f32: S = S exp(decay) + update k^T; output = scale S q

    update is the value, or beta (value - S k) for the delta rules.
    query, key: T[t, h, dk], value: T[t, g, dv], each head of keys shared by g / h of values, or [b, s, ..] in place of [t, ..]; cu_seqlens:
    i32[b + 1], where sequences begin (without it all are of one length); decay: U[t, g] or U[t, g, dk], beta: U[t, g], initial_state:
    f32[b, g, dv, dk] -> T[t, g, dv], f32[b, g, dv, dk].
    Raises Unsupported for packed queries, keys and values and for captured updates, Fail for inputs that don't fit.
    """
    if key is None or value is None or capture_count is not None or state_update_active is not None or state_update_capacity:
        raise Unsupported("GatedDeltaNet of packed queries, keys and values, or that captures updates")
    if update_rule not in RULES or beta_activation not in ("none", "sigmoid"):
        raise Fail(f"GatedDeltaNet with update_rule {update_rule} and beta_activation {beta_activation}")
    gated, delta = RULES[update_rule]
    if (gated and decay is None) or (delta and beta is None):
        raise Fail(f"GatedDeltaNet: the update_rule {update_rule} needs {'decay' if decay is None else 'beta'}")
    dense = query.rank == 4
    count = query.shape[0] if dense else None
    q, k, v = (flat(t, 3, dense) for t in (query, key, value))
    sizes = "GatedDeltaNet of {}, {} and {}", query.shape, key.shape, value.shape
    require_same(q.shape, k.shape, *sizes)
    require_same([k.shape[0], v.shape[1] % maximum(k.shape[1], 1)], [v.shape[0], 0], *sizes)
    require_ranks("GatedDeltaNet with a state {}", (initial_state, 4))
    sequences = sequences_of(q.shape[0], cu_seqlens, count, initial_state)
    starts, lengths, most = sequences
    if qk_l2_norm:
        q, k = unit(q), unit(k)
    damping = None
    if gated and decay is not None:
        damping = effective_decay(
            flat(decay, decay.rank - dense, dense), a_log, dt_bias, gate_activation, gate_lower_bound, v.shape[1]
        )
    rate = None
    if delta and beta is not None:
        rate = flat(beta, 2, dense)
        rate = pointwise(activations.sigmoid, rate) if beta_activation == "sigmoid" else rate
    shape = [starts.shape[0], v.shape[1], v.shape[2], q.shape[2]]
    if initial_state is not None:
        require_same(initial_state.shape, shape, "a state {}, not {}", initial_state.shape, shape)
    start = (
        expand_to(constant(np.zeros((), np.float32)), shape) if initial_state is None else view(initial_state, shape, lambda *i: i)
    )
    tokens = Tokens(q, k, v, damping, rate, starts, lengths, scale or default_scale(q.shape[2]))
    (final,), (stack,) = scan(most, [start], tokens.step)
    y = unpacked(stack, tokens, Packed(cu_seqlens, q.shape[0]).owners() if cu_seqlens is not None else None, most)
    out = cast(y, query.dtype)
    return [reshaped(out, [*query.shape[:2], *out.shape[1:]]) if dense else out, final]


def flat(x: Tensor, rank: int, dense: bool) -> Tensor:
    """Return x in f32, its axes of sequences and tokens in one. [b, s, *d] or [t, *d] -> [t, *d], of this rank"""
    require_ranks("GatedDeltaNet with an input {}", (x, rank + dense))
    wide = cast(x, f32)
    return reshaped(wide, [x.shape[0] * x.shape[1], *x.shape[2:]]) if dense else wide


def sequences_of(total: Dim, bounds: Tensor | None, count: Dim | None, state: Tensor | None) -> tuple[Tensor, Tensor, Dim]:
    """Return the first token of each sequence, how many it has, and the most that one has: i64[b], i64[b]"""
    if bounds is not None:
        if count is not None:
            raise Fail("GatedDeltaNet with cu_seqlens takes tokens one after the other")
        batch = packed(bounds, total)
        starts, lengths = (compute(i64, [batch.count], f) for f in (batch.start, batch.length))
        longest = reduce("max", i64, [1], [batch.count], lambda _, b: at(lengths, (b,)))
        return starts, lengths, maximum(only(longest, "the longest sequence"), 0)
    if count is None:
        if state is None:
            raise Fail("GatedDeltaNet without cu_seqlens needs initial_state, which tells the number of sequences")
        count = state.shape[0]
    each = total // maximum(count, 1)
    require_equal(each * count, total, "{} tokens in {} sequences", total, count)
    lengths = compute(i64, [count], lambda b: scalar.index(each))
    return compute(i64, [count], lambda b: scalar.index(b * each)), lengths, each


def unit(x: Tensor) -> Tensor:
    """Return x over its length along the last axis, which is taken to be at least 1e-6."""
    squares = along("add", x, [x.rank - 1], lambda e: scalar.mul(e, e))
    return pointwise(lambda e, s: scalar.div(e, scalar.apply("sqrt", scalar.add(s, 1e-6))), x, squares)


def effective_decay(
    decay: Tensor, a_log: Tensor | None, dt_bias: Tensor | None, activation: str, lower: float, heads: Dim
) -> Tensor:
    """Return the decay that the recurrence takes, as f32[t, g, dk or 1]: as given, -exp(a_log) softplus(decay + dt_bias), or lower
    sigmoid(exp(a_log) (decay + dt_bias)). a_log: f32[g], dt_bias: f32[g], f32[g, dk] or f32[g dk]
    """
    if decay.rank not in (2, 3):
        raise Fail(f"[ShapeInferenceError] GatedDeltaNet with a decay of {decay.rank} axes of tokens, heads and columns")
    if decay.rank == 2:
        decay = view(decay, [*decay.shape, 1], lambda t, g, _: (t, g))
    require_equal(decay.shape[1], heads, "decay {} for {} heads", decay.shape, heads)
    if activation == "none":
        return decay
    if activation not in ("softplus", "qwen", "sigmoid", "kda"):
        raise Fail(f"GatedDeltaNet with gate_activation {activation}")
    if a_log is None or dt_bias is None:
        raise Fail(f"GatedDeltaNet: the gate_activation {activation} needs a_log and dt_bias")
    require_ranks("GatedDeltaNet with a_log {}", (a_log, 1))
    require_equal(a_log.shape[0], heads, "a_log {} for {} heads", a_log.shape, heads)
    if dt_bias.rank not in (1, 2):
        raise Fail(f"[ShapeInferenceError] GatedDeltaNet with dt_bias {list(dt_bias.shape)}")
    wide = dt_bias.rank == 2 or not ask(dt_bias.shape[0] - heads, "==")
    bias = reshaped(dt_bias, [heads, decay.shape[2] if wide else 1])

    def body(t: Dim, g: Dim, c: Dim) -> Expr:
        rate = scalar.apply("exp", at(a_log, (g,)))
        moved = scalar.add(at(decay, (t, g, c)), at(bias, (g, c)))
        if activation in ("softplus", "qwen"):
            return scalar.negate(scalar.mul(rate, activations.softplus(moved)))
        return scalar.mul(activations.sigmoid(scalar.mul(rate, moved)), lower)

    return compute(f32, decay.shape, body)


def unpacked(stack: Tensor, tokens: Tokens, owners: Tensor | None, most: Dim) -> Tensor:
    """Return each token's output, of those of every step. stack: f32[steps, b, g, dv] -> f32[t, g, dv]"""
    total, batch = tokens.q.shape[0], stack.shape[1]
    if owners is None:
        each = maximum(most, 1)
        return view(stack, [total, *stack.shape[2:]], lambda t, g, r: (t % each, t // each, g, r))

    def body(t: Dim, g: Dim, r: Dim) -> Expr:
        b = element(at(owners, (t,)), batch)
        return at(stack, (element(scalar.sub(scalar.index(t), at(tokens.starts, (b,))), most), b, g, r))

    return compute(f32, [total, *stack.shape[2:]], body)


# ---- records ------------------------------------------------------------------------------------------------------------------------------

Q, K, V = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (reals(6, 2, 4), reals(6, 2, 4)[::-1].copy(), reals(6, 4, 3)))
DECAY, BETA, STATE = -np.abs(reals(6, 4)), np.abs(reals(6, 4)) / 2, reals(2, 4, 3, 4)
BOUNDS = np.array([0, 4, 6], np.int32)
NARROW = (f32, f16, bf16)

OPS = (
    Op(
        "GatedDeltaNet",
        1,
        MICROSOFT,
        in_standard=False,
        expand=gated_delta_net,
        element_types={
            "query key value": NARROW,
            "decay beta": NARROW,
            "initial_state a_log dt_bias": (f32,),
            "cu_seqlens capture_count state_update_active": (i32,),
        },
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((Q, K, V, BOUNDS, DECAY, BETA, STATE), outputs=2),
            Case((Q, K, V, None, DECAY, BETA, STATE), {"scale": 0.7}, "even", outputs=2),
            Case(
                (Q * 3, K * 2, V, BOUNDS, DECAY, BETA, STATE, reals(4), reals(4)),
                {"qk_l2_norm": 1, "gate_activation": "softplus", "beta_activation": "sigmoid"},
                "activations",
                outputs=2,
            ),
            Case((Q, K, V, None, None, None, STATE), {"update_rule": "linear"}, "linear", outputs=2),
            Case(
                (Q, K, V, BOUNDS, -np.abs(reals(6, 4, 4)), None, STATE, reals(4), reals(4, 4)),
                {"update_rule": "gated", "gate_activation": "kda"},
                "each_column",
                outputs=2,
            ),
        ),
        tolerance=2e-5,
    ),
)
