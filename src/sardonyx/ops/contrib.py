"""Operators of the domain com.microsoft, expanded into others: activations, products, normalisation, distances. Attention is in
contrib_attention.py.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.base.dtypes import FLOATS, f32, i32, string, u8
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, symbol
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor, compute, input_tensor
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.conv import conv
from sardonyx.ops.linalg import as_columns, as_rows, gemm, product, without_vector_axes
from sardonyx.ops.norm import inverse_root, layer_normalization, rms_normalization, squared, stash
from sardonyx.ops.pointwise import add, cast, full_like, mean_along, mul, normal_axis, pointwise, reduce, view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped

MICROSOFT = "com.microsoft"

# ---- activations -----------------------------------------------------------------------------------------------------------


def gelu(x: Tensor) -> Tensor:
    """Compute Gelu by erf. x: T[*d] -> T[*d]"""
    return pointwise(activation.gelu, x)


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Compute gelu(x + bias). x: T[*d, n], bias: T[n] -> T[*d, n]"""
    return gelu(add(x, bias))


def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute gelu(x + bias) by the tanh approximation. x: T[*d, n], bias: T[n] -> T[*d, n]"""
    return pointwise(lambda e: activation.gelu(e, "tanh"), x if bias is None else add(x, bias))


def quick_gelu(x: Tensor, alpha: float = 1.702) -> Tensor:
    """Compute x sigmoid(alpha x). x: T[*d] -> T[*d]"""
    return pointwise(lambda e: activation.swish(e, alpha), x)


def clip(e: Expr, low: float = -3.4028234663852886e38, high: float = 3.4028234663852886e38) -> Expr:
    """Compute min(max(e, low), high)."""
    return scalar.minimum(scalar.maximum(e, low), high)


FUSED: dict[str, Callable[..., Expr]] = {
    "Relu": activation.relu,
    "Tanh": lambda e: scalar.apply("tanh", e),
    "Sigmoid": activation.sigmoid,
    "LeakyRelu": activation.leaky_relu,
    "HardSigmoid": activation.hard_sigmoid,
    "HardSwish": lambda e, *_: activation.hard_swish(e),
    "Clip": clip,
    "": lambda e: e,
}
"""Activations that FusedGemm and FusedConv may apply to their product, as functions of an element and the node's activation
parameters.
"""


def followed(y: Tensor, name: str, parameters: Sequence[float | None]) -> Tensor:
    """Apply the activation of this name to y. Raises Unsupported if the name is unknown."""
    if name not in FUSED:
        raise Unsupported(f"a fused {name}")
    given = [p for p in parameters if p is not None]
    return pointwise(lambda e: FUSED[name](e, *given), y)


# ---- products --------------------------------------------------------------------------------------------------------------


def fused_matmul(
    a: Tensor, b: Tensor, alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0
) -> Tensor:
    """Compute alpha A B, with A and B transposed first.

    transA, transB: exchange the last two axes. transBatchA, transBatchB: move the first axis behind the other batch axes.
    """
    left, right = transposed(as_rows(a), transA, transBatchA), transposed(as_columns(b), transB, transBatchB)
    y = without_vector_axes(product(left, right, a.dtype), a, b)
    return y if alpha == 1 else mul(y, full_like(y, alpha))


def transposed(x: Tensor, last: int, batch: int) -> Tensor:
    """Transpose x for FusedMatMul. batch: T[b0, *b, m, k] -> T[*b, m, b0, k]; last: then exchange the last two axes."""
    order = list(range(x.rank))
    if batch and x.rank > 2:
        order = [*order[1:-1], 0, order[-1]]
    if last:
        order[-2:] = order[:-3:-1]
    return view(x, [x.shape[o] for o in order], lambda *i: [i[order.index(k)] for k in range(x.rank)])


def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """Compute Gemm, then an activation."""
    y = gemm(a, b, c, alpha, beta, transA, transB)
    return followed(y, activation, [activation_alpha, activation_beta, activation_gamma])


def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute Conv, add z, then apply an activation."""
    y = conv(x, w, b, auto_pad, dilations, group, kernel_shape, pads, strides)
    return followed(y if z is None else add(y, z), activation, list(activation_params))


def matmul_nbits(
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,
    N: int,
    block_size: int,
    bits: int = 4,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> Tensor:
    """Compute a W^T + bias, where W is quantised in blocks of block_size columns: W[n, k] = (q[n, k] - zero point of its block)
    scale of its block.

    a: T[*batch, K], b: u8[N, blocks, bytes], numbers packed from the lowest bits of each byte up; scales: T[N blocks]; zero_points:
    u8, packed by row, or T[N blocks]; g_idx: i32[K], the block of each k; bias: T[N] -> T[*batch, N].
    Raises Unsupported unless `bits` divides 8, Fail for negative sizes.
    """
    if min(K, N) < 0 or block_size < 1:
        raise Fail(f"MatMulNBits of {N} by {K} numbers in blocks of {block_size}")
    if bits < 1 or 8 % bits or weight_prepacked:
        raise Unsupported(f"MatMulNBits of {bits} bits{', prepacked' if weight_prepacked else ''}")
    blocks = -(-K // block_size)
    packed = reshaped(b, [N, blocks * block_size * bits // 8])
    scale = reshaped(scales, [N, blocks])
    zero = zero_of_block(zero_points, N, blocks, bits)

    def weight(k: Dim, n: Dim) -> Expr:
        block = k // block_size if g_idx is None else element(at(g_idx, (k,)), blocks)
        number = scalar.cast(unpacked(packed, n, k, bits), f32)
        own = scalar.mul(scalar.sub(number, zero(n, block)), scalar.cast(at(scale, (n, block)), f32))
        return scalar.cast(own, a.dtype)

    y = product(as_rows(a), compute(a.dtype, [K, N], weight), a.dtype)
    y = y if a.rank > 1 else view(y, [N], lambda n: (0, n))
    return y if bias is None else add(y, bias)


def unpacked(packed: Tensor, row: Dim, k: Dim, bits: int) -> Expr:
    """Extract the k-th number of a row of packed bytes, as i32. packed: u8[rows, bytes]"""
    each = 8 // bits
    byte = scalar.cast(at(packed, (row, k // each)), i32)
    shift = scalar.cast(scalar.index(k % each * bits), i32)
    return scalar.apply("and", scalar.apply("shr", byte, shift), (1 << bits) - 1)


def zero_of_block(zero_points: Tensor | None, rows: int, blocks: int, bits: int) -> Callable[[Dim, Dim], Expr]:
    """Return a function (row, block) -> zero point in f32. The default is the middle of the range, 2^(bits - 1)."""
    if zero_points is None:
        return lambda n, block: scalar.literal(1 << (bits - 1), f32)
    if zero_points.dtype.is_float:
        plain = reshaped(zero_points, [rows, blocks])
        return lambda n, block: scalar.cast(at(plain, (n, block)), f32)
    packed = reshaped(zero_points, [rows, -(-blocks * bits // 8)])
    return lambda n, block: scalar.cast(unpacked(packed, n, block, bits), f32)


# ---- normalisation -----------------------------------------------------------------------------------------------------------


def skip_layer_normalization(
    x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None, epsilon: float = 1e-12
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute LayerNormalization of x + skip + bias over the last axis. Returns it, its mean, 1 / standard deviation, and the sum x
    + skip + bias.
    """
    total = skipped(x, skip, bias)
    return *layer_normalization(total, gamma, beta, -1, epsilon), total


def skipped(x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    """Compute x + skip + bias in the shape of x. x: T[b, s, h], skip: T[b or 1, s, h] or T[s, h], bias: T[h]"""
    total = pointwise(scalar.add, x, skip)
    return total if bias is None else add(total, bias)


def simplified_layer_normalization(
    x: Tensor, scale: Tensor, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor, Tensor]:
    """Compute RMSNormalization from `axis` on. Returns it and 1 / sqrt(mean(x^2) + epsilon): f32, with size 1 at the normalised
    axes.
    """
    axes = range(normal_axis(axis, x.rank), x.rank)
    wide = cast(x, stash(x, stash_type))
    inverse = inverse_root(mean_along(squared(wide), axes), epsilon)
    return rms_normalization(x, scale, axis, epsilon, stash_type), cast(inverse, f32)


def skip_simplified_layer_normalization(
    x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None, epsilon: float = 1e-12
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Compute RMSNormalization of x + skip + bias over the last axis. Returns it, None for the mean, 1 / sqrt(mean(sum^2) +
    epsilon), and the sum x + skip + bias.
    """
    total = skipped(x, skip, bias)
    y, inverse = simplified_layer_normalization(total, gamma, -1, epsilon)
    return y, None, inverse, total


# ---- distances and texts -----------------------------------------------------------------------------------------------------


def cdist(a: Tensor, b: Tensor, metric: str = "sqeuclidean") -> Tensor:
    """Compute the Euclidean distance, or its square, between each row of a and each row of b. a: T[m, d], b: T[n, d] -> T[m, n]"""
    if metric not in ("euclidean", "sqeuclidean"):
        raise Fail(f"CDist: metric must be euclidean or sqeuclidean, not {metric}")
    if (a.rank, b.rank) != (2, 2):
        raise Fail(f"[ShapeInferenceError] CDist of {list(a.shape)} and {list(b.shape)}, which are not both matrices")
    require_equal(a.shape[1], b.shape[1], "CDist of {} and {}: the columns differ in number", a.shape, b.shape)

    def term(i: Dim, j: Dim, k: Dim) -> Expr:
        difference = scalar.sub(at(a, (i, k)), at(b, (j, k)))
        return scalar.mul(difference, difference)

    squares = reduce("add", a.dtype, [a.shape[0], b.shape[0]], [a.shape[1]], term)
    return squares if metric == "sqeuclidean" else pointwise(lambda e: scalar.apply("sqrt", e), squares)


def tokenizer_types(
    x: Tensor, mark: int, mincharnum: int, pad_value: str, separators: Sequence[str] | None = None, tokenexp: str | None = None
) -> Tensor:
    """Return a placeholder for Tokenizer's output: its dtype and shape. x: string[c] or string[n, c] -> string[*x.shape, tokens]"""
    if x.rank not in (1, 2):
        raise Fail(f"[ShapeInferenceError] Tokenizer of {list(x.shape)}; dimensions are either [C] or [N][C]")
    if any(isinstance(n, int) and n == 0 for n in x.shape):
        return input_tensor("tokens", string, x.shape)
    return input_tensor("tokens", string, [*x.shape, symbol("tokens of a text")])


X, SKIP = reals(2, 3, 8), reals(2, 3, 8)[:, ::-1].copy()
GAMMA, BETA, BIAS = reals(8), reals(8)[::-1].copy(), reals(8, scale=0.5)
PACKED = integers(5, 3, 8, dtype=np.uint8, lo=0, hi=255)


def op(name: str, meaning: Callable[..., Any], *cases: Case, domain: str = MICROSOFT, **fields: Any) -> Op:
    """Make the record of an operator outside the standard, expanded into others, with these test cases."""
    return Op(name, 1, domain, in_standard=False, expand=meaning, gradient=Rule.DERIVED, cases=cases, tolerance=1e-5, **fields)


OPS = (
    op("Gelu", gelu, Case((X,))),
    op("BiasGelu", bias_gelu, Case((X, BIAS))),
    op("FastGelu", fast_gelu, Case((X,)), Case((X, BIAS))),
    op("QuickGelu", quick_gelu, Case((X,)), Case((X,), {"alpha": 1.0})),
    op(
        "FusedMatMul",
        fused_matmul,
        Case((reals(2, 3, 4), reals(2, 4, 5)), {"alpha": 0.5}),
        Case((reals(2, 4, 3), reals(2, 5, 4)), {"transA": 1, "transB": 1}),
        Case((reals(3, 2, 4), reals(4, 2, 5)), {"transBatchA": 1, "transBatchB": 1}),
    ),
    op(
        "FusedGemm",
        fused_gemm,
        Case((reals(3, 4), reals(4, 5), reals(5)), {"activation": "Relu"}),
        Case((reals(3, 4), reals(5, 4)), {"activation": "LeakyRelu", "activation_alpha": 0.2, "transB": 1}),
    ),
    op(
        "FusedConv",
        fused_conv,
        Case((reals(1, 3, 5, 5), reals(2, 3, 3, 3), reals(2)), {"activation": "Relu"}),
        Case(
            (reals(1, 3, 5, 5), reals(2, 3, 3, 3), reals(2), reals(1, 2, 5, 5)),
            {"activation": "Clip", "activation_params": [-1.0, 2.0], "pads": [1, 1, 1, 1]},
        ),
    ),
    op(
        "MatMulNBits",
        matmul_nbits,
        Case((reals(2, 48), PACKED, reals(15)), {"K": 48, "N": 5, "block_size": 16, "bits": 4}),
        Case(
            (reals(2, 48), PACKED, reals(15), integers(10, dtype=np.uint8, lo=0, hi=255)),
            {"K": 48, "N": 5, "block_size": 16, "bits": 4},
            "zero_points",
        ),
        element_types={"b": (u8,), "zero_points": (u8, *FLOATS), "g_idx": (i32,)},
    ),
    op(
        "SkipLayerNormalization",
        skip_layer_normalization,
        Case((X, SKIP, GAMMA, BETA, BIAS), {"epsilon": 1e-3}),
        Case((X, SKIP, GAMMA)),
    ),
    op("SkipSimplifiedLayerNormalization", skip_simplified_layer_normalization, Case((X, SKIP, GAMMA, BIAS), {"epsilon": 1e-3})),
    op("SimplifiedLayerNormalization", simplified_layer_normalization, domain=""),
    op("SimplifiedLayerNormalization", simplified_layer_normalization),
    op(
        "CDist",
        cdist,
        Case((reals(5, 3), reals(4, 3, scale=1.5)), {"metric": "euclidean"}),
        Case((reals(5, 3), reals(4, 3, scale=1.5))),
        Case((reals(2, 7, dtype=np.float64), reals(9, 7, dtype=np.float64, scale=1.5)), {"metric": "euclidean"}),
    ),
    Op(
        "Tokenizer",
        1,
        MICROSOFT,
        in_standard=False,
        host=True,
        types=tokenizer_types,
        element_types={"x": (string,)},
        gradient=Rule.NONE,
        quantised=Rule.NONE,
    ),
)
