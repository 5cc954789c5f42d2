"""Operators of com.microsoft with weights quantised in blocks, and mixtures of experts: GatherBlockQuantized, MatMulBnb4, MoE,
QMoE.

Numbers of fewer than 8 bits are packed into bytes, the first number in the lowest bits. Their definitions are those of ONNX
Runtime's docs/ContribOperators.md; the code books of MatMulBnb4 are those of the library bitsandbytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import NARROW_FLOATS, bf16, f8e8m0, f16, f32, i4, i32, i64, u4, u8
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, ceil_divide
from sardonyx.base.symbolic import product as count_of
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation, sort
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.pointwise import along, cast, normal_axis, pointwise, reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped
from sardonyx.ops.softmax import softmax_over

# ---- rows of a quantised table ----------------------------------------------------------------------------------------------------


def packed_number(x: Tensor, place: Sequence[Dim], bits: int) -> Expr:
    """Extract a number from packed bytes u8[.., bytes], as i32. The last index counts numbers."""
    each = 8 // bits
    byte = scalar.cast(at(x, (*place[:-1], place[-1] // each)), i32)
    shift = scalar.cast(scalar.index(place[-1] % each * bits), i32)
    return scalar.apply("and", scalar.apply("shr", byte, shift), (1 << bits) - 1)


def gather_block_quantized(
    data: Tensor,
    indices: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> Tensor:
    """Compute GatherBlockQuantized: dequantise (data - zero point) scale, and gather along an axis. Scales and zero points apply to
    blocks of another axis.

    data: i4, u4 or narrow floats [*d], or u8 with numbers packed along the last axis; indices: U[*q], where indices out of range
    give zeros; scales: T[*d with blocks for the axis] -> T[*d with *q for the axis]. Raises Fail if shapes or attributes don't fit.
    """
    rank, is_packed, is_float = data.rank, data.dtype is u8, data.dtype.is_float
    take, by_block = normal_axis(gather_axis, rank), normal_axis(quantize_axis, rank)
    if is_packed and (take != 0 or by_block != rank - 1 or rank < 2 or bits not in (2, 4, 8)):
        raise Fail(
            f"GatherBlockQuantized of packed numbers of {bits} bits, gathered along axis {take}, in blocks along axis {by_block}"
        )
    if (block_size == 0 and not is_float) or (block_size and (block_size < 16 or block_size & (block_size - 1))):
        raise Fail(f"GatherBlockQuantized with a block_size of {block_size}, which is no power of 2 from 16 on")
    if is_float and zero_points is not None:
        raise Fail(f"GatherBlockQuantized of {data.dtype} with zero points")
    each = 8 // bits if is_packed else 1
    full = [*data.shape[:-1], data.shape[-1] * each]
    size = block_size or full[by_block]
    blocks = [ceil_divide(n, size) if a == by_block and block_size else 1 if a == by_block else n for a, n in enumerate(full)]
    require_scales(data, scales, blocks, by_block, is_float)
    if zero_points is not None:
        packed = [*blocks[:-1], ceil_divide(blocks[-1], each)]
        require_same(zero_points.shape, packed, "zero points {} for scales {}", zero_points.shape, scales.shape)

    def body(*i: Dim) -> Expr:
        row = scalar.cast(at(indices, i[take : take + indices.rank]), i64)
        n = scalar.index(full[take])
        there = scalar.logical_and(scalar.apply("ge", row, scalar.negate(n)), scalar.apply("lt", row, n))
        place = [*i[:take], element(scalar.select(there, row, 0), full[take]), *i[take + indices.rank :]]
        block = [p // size if a == by_block else p for a, p in enumerate(place)]
        q = scalar.cast(packed_number(data, place, bits) if is_packed else at(data, place), f32)
        if zero_points is not None:
            zero = packed_number(zero_points, block, bits) if is_packed else at(zero_points, block)
            q = scalar.sub(q, scalar.cast(zero, f32))
        elif is_packed:
            q = scalar.sub(q, 1 << (bits - 1))
        y = scalar.mul(q, scalar.cast(at(scales, block), f32))
        return scalar.cast(scalar.select(there, y, 0), scales.dtype)

    return compute(scales.dtype, [*full[:take], *indices.shape, *full[take + 1 :]], body)


def require_scales(data: Tensor, scales: Tensor, blocks: Sequence[Dim], axis: int, broadcast: bool) -> None:
    """Require a scale for each block. With `broadcast`, axes other than that of the blocks may have one scale for all. Raises Fail."""
    require_ranks("GatherBlockQuantized of {} with scales {}", (data, data.rank), (scales, data.rank))
    for a, (n, found) in enumerate(zip(blocks, scales.shape, strict=True)):
        if not (broadcast and a != axis and found == 1):
            require_equal(found, n, "GatherBlockQuantized of {} with scales {}, not {}", data.shape, scales.shape, blocks)


# ---- experts --------------------------------------------------------------------------------------------------------------------------

Weight = Callable[[Dim, Dim, Dim], Expr]
"""Function (expert, row, column) -> element of the expert's matrix, in f32."""


def chosen_experts(probabilities: Tensor, k: int) -> Tensor:
    """Return, for each token, the k experts with the greatest probabilities; of equal ones the last comes first. probabilities:
    f32[t, e] -> i64[t, k]
    """
    rows, experts = probabilities.shape
    if k < 1:
        raise Fail(f"k must be at least 1, not {k}")
    backwards = view(probabilities, probabilities.shape, lambda t, e: (t, experts - 1 - e))
    _, found = sort.top(backwards, k, 1, largest=True)
    return compute(i64, [rows, k], lambda t, j: scalar.sub(scalar.index(experts - 1), at(found, (t, j))))


def routing_weights(values: Tensor, chosen: Tensor, normalize: int) -> Tensor:
    """Return the weight of each chosen expert: its value, or with `normalize` its value divided by the sum of the chosen values.
    Weights up to 1e-8 become 0. values: f32[t, e] -> f32[t, k]
    """
    own = compute(f32, chosen.shape, lambda t, j: at(values, (t, element(at(chosen, (t, j)), values.shape[1]))))
    part = pointwise(scalar.div, own, along("add", own, [1])) if normalize else own
    return pointwise(lambda e: scalar.select(scalar.apply("gt", e, 1e-8), e, 0), part)


def expert_products(x: Tensor, chosen: Tensor, experts: Dim, weight: Weight, bias: Tensor | None, rows: Dim) -> Tensor:
    """Compute W[expert] x + bias[expert] for each token and each of its experts. x: f32[t, k or 1, n] -> f32[t, k, rows]"""

    def own(t: Dim, j: Dim) -> Dim:
        return element(at(chosen, (t, j)), experts)

    sums = reduce(
        "add",
        f32,
        [*chosen.shape, rows],
        [x.shape[2]],
        lambda t, j, r, c: scalar.mul(at(x, (t, j, c)), weight(own(t, j), r, c)),
    )
    if bias is None:
        return sums
    return compute(f32, sums.shape, lambda t, j, r: scalar.add(at(sums, (t, j, r)), scalar.cast(at(bias, (own(t, j), r)), f32)))


PLAIN: dict[str, Callable[[Expr], Expr]] = {
    "relu": activation.relu,
    "gelu": lambda e: activation.gelu(e, "tanh"),
    "silu": activation.swish,
    "identity": lambda e: e,
}
"""Elementwise activations of an expert, by activation_type."""


def swiglu(gate: Expr, linear: Expr, alpha: float, beta: float, limit: float) -> Expr:
    """Compute G sigmoid(alpha G) (L + beta), where G = min(gate, limit) and L is `linear` clamped to [-limit, limit]."""
    if limit < math.inf:
        gate, linear = scalar.minimum(gate, limit), scalar.maximum(scalar.minimum(linear, limit), -limit)
    return scalar.mul(activation.swish(gate, alpha), scalar.add(linear, beta))


class Experts:
    """The part that MoE and QMoE share: checked sizes, tokens, router, and the computation, which gets weights as functions."""

    def __init__(
        self, x: Tensor, router: Tensor, sizes: tuple[Dim, Dim, Dim], k: int, normalize: int, use_sparse_mixer: int
    ) -> None:
        if use_sparse_mixer:
            raise Unsupported("a mixture of experts with use_sparse_mixer")
        if x.rank not in (2, 3):
            raise Fail(f"[ShapeInferenceError] a mixture of experts needs an input of 2 or 3 axes, not {list(x.shape)}")
        self.input, self.experts, self.inner, self.hidden = x, *sizes
        rows = count_of(x.shape[:-1])
        require_equal(x.shape[-1], self.hidden, "a mixture of experts of {}, whose weights take {} numbers", x.shape, self.hidden)
        require_same(router.shape, [rows, self.experts], "a mixture of {} experts routed by {}", self.experts, router.shape)
        flat = reshaped(x, [rows, x.shape[-1]])
        self.tokens = compute(f32, [rows, 1, x.shape[-1]], lambda t, _, c: scalar.cast(at(flat, (t, c)), f32))
        self.router, self.k, self.normalize = cast(router, f32), k, normalize

    def run(
        self,
        kind: str,
        weights: tuple[Weight, Weight, Weight | None],
        biases: tuple[Tensor | None, Tensor | None, Tensor | None],
        fusion: int,
        gate: tuple[float, float, float],
        by: Tensor | None = None,
    ) -> Tensor:
        """Sum, over each token's experts, routing weight times W2 act(W1 x + b1) + b2.

        gate: alpha, beta and limit of swiglu. by: values of which the routing weights are made, by default the softmax of the
        router.
        """
        probabilities = softmax_over(self.router, [1])
        chosen = chosen_experts(probabilities, self.k)
        part = routing_weights(probabilities if by is None else cast(by, f32), chosen, self.normalize)
        first, second, third = weights
        inner = self.inner

        def layer(x: Tensor, weight: Weight, bias: Tensor | None, rows: Dim) -> Tensor:
            return expert_products(x, chosen, self.experts, weight, bias, rows)

        if kind == "swiglu" and fusion in (1, 2):
            both = layer(self.tokens, first, biases[0], inner * 2)

            def gated(t: Dim, j: Dim, r: Dim) -> Expr:
                pair = (2 * r, 2 * r + 1) if fusion == 1 else (r, inner + r)
                return swiglu(at(both, (t, j, pair[0])), at(both, (t, j, pair[1])), *gate)

            middle = compute(f32, [*chosen.shape, inner], gated)
        elif kind == "swiglu" and third is not None:
            gates, others = layer(self.tokens, first, biases[0], inner), layer(self.tokens, third, biases[2], inner)
            middle = pointwise(lambda a, b: swiglu(a, b, *gate), gates, others)
        elif kind in PLAIN and third is None:
            middle = pointwise(PLAIN[kind], layer(self.tokens, first, biases[0], inner))
        else:
            raise Unsupported(f"a mixture of experts with {kind}, swiglu_fusion {fusion}{' and fc3' if third is not None else ''}")
        ends = layer(middle, second, biases[1], self.hidden)
        y = reduce(
            "add",
            f32,
            [chosen.shape[0], self.hidden],
            [self.k],
            lambda t, h, j: scalar.mul(at(part, (t, j)), at(ends, (t, j, h))),
        )
        return reshaped(cast(y, self.input.dtype), self.input.shape)


def moe(
    input: Tensor,  # noqa: A002
    router_probs: Tensor,
    fc1_experts_weights: Tensor,
    fc1_experts_bias: Tensor | None,
    fc2_experts_weights: Tensor,
    fc2_experts_bias: Tensor | None = None,
    fc3_experts_weights: Tensor | None = None,
    fc3_experts_bias: Tensor | None = None,
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    activation_type: str = "relu",
    k: int = 1,
    normalize_routing_weights: int = 0,
    swiglu_fusion: int = 0,
    swiglu_limit: float = math.inf,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
) -> Tensor:
    """Compute MoE: for each token, sum over its k best experts of routing weight times W2 act(W1 x + b1) + b2.

    input: T[t, h] or T[b, s, h], router_probs: T[t, e], which are logits, W1: T[e, i, h] (2 i rows if swiglu is fused), W2: T[e, h,
    i] -> like input
    """
    if swiglu_limit_after_activation:
        raise Unsupported("MoE with swiglu_limit_after_activation")
    require_ranks(
        "MoE with weights of shapes {} and {}, which do not both have 3 axes", (fc1_experts_weights, 3), (fc2_experts_weights, 3)
    )
    experts, hidden, inner = fc2_experts_weights.shape
    mixture = Experts(input, router_probs, (experts, inner, hidden), k, normalize_routing_weights, use_sparse_mixer)
    double = 2 if activation_type == "swiglu" and swiglu_fusion else 1
    wanted = [experts, inner * double, hidden]
    require_same(
        fc1_experts_weights.shape,
        wanted,
        "the first weights of the experts have the shape {}, not {}",
        fc1_experts_weights.shape,
        wanted,
    )

    def plain(w: Tensor) -> Weight:
        return lambda e, r, c: scalar.cast(at(w, (e, r, c)), f32)

    third = None if fc3_experts_weights is None else plain(fc3_experts_weights)
    weights = plain(fc1_experts_weights), plain(fc2_experts_weights), third
    biases = fc1_experts_bias, fc2_experts_bias, fc3_experts_bias
    return mixture.run(activation_type, weights, biases, swiglu_fusion, (activation_alpha, activation_beta, swiglu_limit))


def qmoe(
    input: Tensor,  # noqa: A002
    router_probs: Tensor,
    fc1_experts_weights: Tensor,
    fc1_scales: Tensor | None,
    fc1_experts_bias: Tensor | None,
    fc2_experts_weights: Tensor,
    fc2_scales: Tensor | None = None,
    fc2_experts_bias: Tensor | None = None,
    fc3_experts_weights: Tensor | None = None,
    fc3_scales: Tensor | None = None,
    fc3_experts_bias: Tensor | None = None,
    fc1_zero_points: Tensor | None = None,
    fc2_zero_points: Tensor | None = None,
    fc3_zero_points: Tensor | None = None,
    router_weights: Tensor | None = None,
    fc1_global_scale: Tensor | None = None,
    fc2_global_scale: Tensor | None = None,
    fc1_act_scale: Tensor | None = None,
    fc2_act_scale: Tensor | None = None,
    fc1_act_block_scale: Tensor | None = None,
    fc2_act_block_scale: Tensor | None = None,
    accuracy_level: int = 0,
    activation_alpha: float = 1.0,
    activation_beta: float = 0.0,
    activation_type: str = "relu",
    block_size: int = 0,
    expert_weight_bits: int = 4,
    fc1_expert_weight_bits: int = 0,
    fc2_expert_weight_bits: int = 0,
    fc3_expert_weight_bits: int = 0,
    k: int = 1,
    normalize_routing_weights: int = 0,
    quant_type: str = "int",
    swiglu_fusion: int = 0,
    swiglu_limit: float = math.inf,
    swiglu_limit_after_activation: int = 0,
    use_sparse_mixer: int = 0,
    weights_prepacked: int = -1,
) -> Tensor:
    """Compute QMoE: MoE whose weights are packed integers, W = (q - zero point) scale, with a scale for each row or for each block
    of a row.

    Weights: u8[e, rows, columns bits / 8], scales: T[e, rows] or T[e, rows, blocks]; zero points are packed likewise and are
    2^(bits - 1) by default. Without router_weights, the routing weights of a token add up to 1, as in onnxruntime's kernel.
    """
    others = (fc1_global_scale, fc2_global_scale, fc1_act_scale, fc2_act_scale, fc1_act_block_scale, fc2_act_block_scale)
    if quant_type != "int" or swiglu_limit_after_activation or any(t is not None for t in others):
        raise Unsupported(f"QMoE of quant_type {quant_type}, with swiglu_limit_after_activation, or with scales of activations")
    bits = [own or expert_weight_bits for own in (fc1_expert_weight_bits, fc2_expert_weight_bits, fc3_expert_weight_bits)]
    require_ranks("QMoE of experts {} and {}", (fc1_experts_weights, 3), (fc2_experts_weights, 3))
    double = 2 if activation_type == "swiglu" and swiglu_fusion else 1
    hidden, inner = fc2_experts_weights.shape[1], fc1_experts_weights.shape[1] // double
    sizes = fc1_experts_weights.shape[0], inner, hidden
    normalize = 1 if router_weights is None else normalize_routing_weights
    mixture = Experts(input, router_probs, sizes, k, normalize, use_sparse_mixer)
    first = quantised_weight(fc1_experts_weights, fc1_scales, fc1_zero_points, bits[0], block_size, hidden)
    second = quantised_weight(fc2_experts_weights, fc2_scales, fc2_zero_points, bits[1], block_size, inner)
    third = None
    if fc3_experts_weights is not None:
        third = quantised_weight(fc3_experts_weights, fc3_scales, fc3_zero_points, bits[2], block_size, hidden)
    gate = activation_alpha, activation_beta, swiglu_limit
    biases = fc1_experts_bias, fc2_experts_bias, fc3_experts_bias
    return mixture.run(activation_type, (first, second, third), biases, swiglu_fusion, gate, router_weights)


def quantised_weight(w: Tensor, scales: Tensor | None, zero_points: Tensor | None, bits: int, size: int, columns: Dim) -> Weight:
    """Return a function that dequantises an element of packed weights. w: u8[e, rows, bytes], in blocks of `size` columns (0 for
    whole rows)
    """
    if bits not in (2, 4, 8):
        raise Unsupported(f"QMoE of {bits} bits")
    if scales is None:
        raise Fail("QMoE without scales")
    require_equal(
        w.shape[2] * (8 // bits), columns, "QMoE of packed weights {}, of {} bits, for {} columns", w.shape, bits, columns
    )
    blocks: list[Dim] = [columns // size] if size else []
    require_same(scales.shape, [*w.shape[:2], *blocks], "QMoE of weights {} with scales {}", w.shape, scales.shape)

    def number(e: Dim, r: Dim, c: Dim) -> Expr:
        place: list[Dim] = [e, r, *([c // size] if size else [])]
        q = scalar.cast(packed_number(w, (e, r, c), bits), f32)
        zero = scalar.literal(1 << (bits - 1), f32)
        if zero_points is not None:
            zero = scalar.cast(packed_number(zero_points, place, bits), f32)
        return scalar.mul(scalar.sub(q, zero), scalar.cast(at(scales, place), f32))

    return number


# ---- records ----------------------------------------------------------------------------------------------------------------------------

TABLE = integers(6, 3, 32, dtype=np.uint8, lo=0, hi=255)
ROWS = np.array([[0, 5, -1], [2, 3, 1]], np.int64)
TOKENS, ROUTER = reals(2, 3, 8), reals(6, 4, scale=3)
FC1, FC2, B1, B2 = reals(4, 12, 8), reals(4, 8, 12), reals(4, 12), reals(4, 8)
WIDE, W1, W2 = reals(2, 3, 32), integers(4, 64, 16, dtype=np.uint8, lo=0, hi=255), integers(4, 32, 16, dtype=np.uint8, lo=0, hi=255)
S1, S2 = np.abs(reals(4, 64, scale=0.02)) + np.float32(0.01), np.abs(reals(4, 32, scale=0.02)) + np.float32(0.01)
FLOATING = tuple(d for d in NARROW_FLOATS if d is not f8e8m0)


def op(name: str, meaning: Callable[..., Any], types: dict[str, Any], *cases: Case, tolerance: float = 1e-5) -> Op:
    return Op(
        name,
        1,
        MICROSOFT,
        in_standard=False,
        expand=meaning,
        element_types=types,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=cases,
        tolerance=tolerance,
    )


OPS = (
    op(
        "GatherBlockQuantized",
        gather_block_quantized,
        {"data zero_points": (i4, u4, u8, *FLOATING), "indices": (i32, i64), "scales": (f32, f16, bf16)},
        Case((TABLE, ROWS, reals(6, 3, 4)), {"block_size": 16, "quantize_axis": 2}),
        Case(
            (TABLE[:, 0].copy(), ROWS, reals(6, 2), integers(6, 1, dtype=np.uint8, lo=0, hi=255)),
            {"block_size": 32, "bits": 4},
            "zero_points",
        ),
    ),
    op(
        "MoE",
        moe,
        {},
        Case((TOKENS, ROUTER, FC1, B1, FC2, B2), {"k": 2, "activation_type": "silu"}),
        Case((TOKENS, ROUTER, FC1, B1, FC2, B2), {"k": 2, "activation_type": "gelu", "normalize_routing_weights": 1}),
        Case((TOKENS, ROUTER, FC1, None, FC2[..., :6].copy(), B2), {"activation_type": "swiglu", "swiglu_fusion": 1}),
    ),
    op(
        "QMoE",
        qmoe,
        {
            "fc1_experts_weights fc2_experts_weights fc3_experts_weights fc1_zero_points fc2_zero_points fc3_zero_points": (u8,),
            "fc1_scales fc2_scales fc3_scales": (f32, f16, bf16),
            "fc1_global_scale fc2_global_scale fc1_act_scale fc2_act_scale": (f32,),
            "fc1_act_block_scale fc2_act_block_scale": NARROW_FLOATS,
        },
        Case(
            (WIDE, ROUTER, W1, S1, None, W2, S2),
            {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": 4},
        ),
        tolerance=1e-3,
    ),
)
