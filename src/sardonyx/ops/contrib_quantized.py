"""Operators of com.microsoft on quantised tensors, as quantisers and onnxruntime's optimiser write them: the QLinear operators,
QGemm, and integer products with float results.

The QLinear operators dequantise their inputs, apply the plain operator, and quantise the result. Sums of products are exact, in
i32. A quantised number q stands for scale (q - zero point). Their definitions are those of ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import boolean, f16, f32, i4, i8, i16, i32, u4, u8, u16, u32
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.decide import ask
from sardonyx.expr.index import at
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation, linalg, pool
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.integer_products import qlinear_conv, requantised, row_wise, shifted_product, single
from sardonyx.ops.logic import where
from sardonyx.ops.movement import concat
from sardonyx.ops.pointwise import add, expand_to, mean_along, mul, normal_axis, pointwise, view
from sardonyx.ops.quantize import dequantize, dynamic_quantize, quantize
from sardonyx.ops.ranks import require_rank_from, require_ranks
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.softmax import softmax_over

# ---- between numbers and their quantised form ----------------------------------------------------------------------------------


def real(q: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """Dequantise: scale (q - zero point), with one scale and zero point for the whole tensor. q: T[*d] -> f32[*d]"""
    return dequantize(q, single(scale), None if zero_point is None else single(zero_point))


def rounded(x: Tensor, scale: Tensor, zero_point: Tensor | None, like: Tensor) -> Tensor:
    """Quantise: round(x / scale) + zero point, ties to even, saturated. Without a zero point it is 0, and the result has the dtype
    of `like`.
    """
    none = constant(np.zeros((), like.dtype.numpy))
    return quantize(x, single(scale), none if zero_point is None else single(zero_point))


def quantize_linear(x: Tensor, y_scale: Tensor, y_zero_point: Tensor | None = None, axis: int = 1) -> Tensor:
    """Compute com.microsoft's QuantizeLinear: round(x / scale) + zero point, ties to even, saturated. x: T[*d], y_scale: T[] or
    T[n] along the axis -> U[*d], by default u8
    """
    return quantize(x, y_scale, y_zero_point, axis)


def dequantize_linear(x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None = None, axis: int = 1) -> Tensor:
    """Compute com.microsoft's DequantizeLinear: (x - zero point) scale. x: U[*d], x_scale: T[] or T[n] along the axis -> T[*d]"""
    return dequantize(x, x_scale, x_zero_point, axis)


# ---- element by element ---------------------------------------------------------------------------------------------------------


def binary(meaning: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return the quantised form of a binary operator, which broadcasts."""

    def quantised(
        A: Tensor,
        A_scale: Tensor,
        A_zero_point: Tensor | None,
        B: Tensor,
        B_scale: Tensor,
        B_zero_point: Tensor | None,
        C_scale: Tensor,
        C_zero_point: Tensor | None = None,
    ) -> Tensor:
        y = meaning(real(A, A_scale, A_zero_point), real(B, B_scale, B_zero_point))
        return rounded(y, C_scale, C_zero_point, A)

    return quantised


def qlinear_sigmoid(
    X: Tensor, X_scale: Tensor, X_zero_point: Tensor | None, Y_scale: Tensor, Y_zero_point: Tensor | None = None
) -> Tensor:
    """Compute QLinearSigmoid: quantised 1 / (1 + exp(-x)). T[*d] -> T[*d]"""
    return rounded(pointwise(activation.sigmoid, real(X, X_scale, X_zero_point)), Y_scale, Y_zero_point, X)


def qlinear_leaky_relu(
    X: Tensor,
    X_scale: Tensor,
    X_zero_point: Tensor | None,
    Y_scale: Tensor,
    Y_zero_point: Tensor | None = None,
    alpha: float = 0.01,
) -> Tensor:
    """Compute QLinearLeakyRelu: quantised x for x >= 0, alpha x for x < 0. T[*d] -> T[*d]"""
    y = pointwise(lambda e: activation.leaky_relu(e, alpha), real(X, X_scale, X_zero_point))
    return rounded(y, Y_scale, Y_zero_point, X)


def qlinear_softmax(
    X: Tensor,
    X_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    opset: int,
    axis: int = -1,
) -> Tensor:
    """Compute QLinearSoftmax: quantised Softmax in the form of the attribute opset: along one axis, before opset 13 over all axes
    from `axis` on. T[*d] -> T[*d]
    """
    first = normal_axis(axis, X.rank)
    axes = range(first, X.rank if opset < 13 else first + 1)
    return rounded(softmax_over(real(X, X_scale, x_zero_point), axes), y_scale, y_zero_point, X)


def qlinear_where(
    condition: Tensor,
    X: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    Y: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    z_scale: Tensor,
    z_zero_point: Tensor,
) -> Tensor:
    """Compute QLinearWhere: x where the condition is true, else y, requantised. condition: bool[*c], X: T[*d], Y: T[*e] -> T,
    broadcast
    """
    x, y = real(X, x_scale, x_zero_point), real(Y, y_scale, y_zero_point)
    return rounded(where(condition, x, y), z_scale, z_zero_point, X)


def qlinear_concat(Y_scale: Tensor, Y_zero_point: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    """Compute QLinearConcat: join tensors along an axis, requantised. Each tensor is followed by its scale and zero point."""
    if not inputs or len(inputs) % 3:
        raise Fail(
            f"[ShapeInferenceError] QLinearConcat of {len(inputs)} inputs, which are not tensors with scales and zero points"
        )
    parts = []
    for q, scale, zero_point in zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True):
        if scale.dtype is not f32 or not q.dtype is zero_point.dtype is Y_zero_point.dtype:
            raise Fail(f"[ShapeInferenceError] QLinearConcat of {q.dtype} with a scale of {scale.dtype}, to {Y_zero_point.dtype}")
        parts.append(rounded(real(q, scale, zero_point), Y_scale, Y_zero_point, q))
    return concat(*parts, axis=axis)


# ---- windows --------------------------------------------------------------------------------------------------------------------


def channels_first(x: Tensor) -> Tensor:
    """Move the channels to axis 1. T[n, *d, c] -> T[n, c, *d]"""
    require_rank_from("an image of shape {} with channels last needs 3 axes or more", x, 3)
    return view(x, [x.shape[0], x.shape[-1], *x.shape[1:-1]], lambda n, c, *d: (n, *d, c))


def channels_last_of(y: Tensor) -> Tensor:
    """Move the channels to the last axis. T[n, c, *d] -> T[n, *d, c]"""
    return view(y, [y.shape[0], *y.shape[2:], y.shape[1]], lambda n, *i: (n, i[-1], *i[:-1]))


def qlinear_average_pool(
    X: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute QLinearAveragePool. X: T[n, c, *d] -> T[n, c, *o], or T[n, *d, c] -> T[n, *o, c] with channels_last"""
    x = real(channels_first(X) if channels_last else X, x_scale, x_zero_point)
    y = pool.average_pool(x, kernel_shape, auto_pad, ceil_mode, count_include_pad, None, pads, strides)
    q = rounded(y, y_scale, y_zero_point, X)
    return channels_last_of(q) if channels_last else q


def qlinear_global_average_pool(
    X: Tensor, x_scale: Tensor, x_zero_point: Tensor, y_scale: Tensor, y_zero_point: Tensor, channels_last: int = 0
) -> Tensor:
    """Compute QLinearGlobalAveragePool: the mean of each channel. X: T[n, c, *d] -> T[n, c, 1, ...], or T[n, *d, c] -> T[n, 1, ...,
    c] with channels_last
    """
    require_rank_from("QLinearGlobalAveragePool of {}", X, 3)
    axes = range(1, X.rank - 1) if channels_last else range(2, X.rank)
    return rounded(mean_along(real(X, x_scale, x_zero_point), axes), y_scale, y_zero_point, X)


def qlinear_conv_channels(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    B: Tensor | None = None,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute com.microsoft's QLinearConv. x: T[n, c, *d] -> V[n, m, *o], or T[n, *d, c] -> V[n, *o, m] with channels_last; w: U[m,
    c / group, *k] in either case
    """
    source = channels_first(x) if channels_last else x
    quantised = x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B
    y = qlinear_conv(source, *quantised, auto_pad, dilations, group, kernel_shape, pads, strides)
    return channels_last_of(y) if channels_last else y


def nhwc_max_pool(
    x: Tensor,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute NhwcMaxPool: MaxPool with channels last. x: T[n, *d, c] -> T[n, *o, c]"""
    (y,) = pool.max_pool(channels_first(x), kernel_shape, auto_pad, ceil_mode, dilations, pads, 0, strides)
    return channels_last_of(y)


# ---- products -------------------------------------------------------------------------------------------------------------------


def qgemm(
    A: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    B: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    C: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """Compute QGemm: alpha a_scale b_scale ((A - a_zero_point) (B - b_zero_point) + C), in f32, or quantised if the scale of y is
    given.

    A: T[m, k], B: U[k, n] (or transposed by transA, transB), b_scale and b_zero_point: one, or one per column, C: i32, broadcast to
    [m, n] -> [m, n]
    """
    require_ranks("QGemm of {} and {}, which are not both matrices", (A, 2), (B, 2))
    if (y_scale is None) != (y_zero_point is None):
        raise Fail("QGemm with only one of y_scale and y_zero_point")
    a, b = (linalg.transpose(t) if turn else t for t, turn in ((A, transA), (B, transB)))
    sums = shifted_product(a, b, single(a_zero_point), b_zero_point)
    if C is not None:
        sums = add(sums, expand_to(C, sums.shape))
    sa = single(a_scale)

    def factor(*i: Dim) -> Expr:
        return scalar.mul(scalar.mul(at(sa, i), at(b_scale, i)), alpha)

    if y_scale is None or y_zero_point is None:
        return compute(f32, sums.shape, lambda *i: scalar.mul(scalar.cast(at(sums, i), f32), factor(*i)))
    sy = single(y_scale)
    return requantised(sums, lambda i: scalar.div(factor(*i), at(sy, i)), y_zero_point)


def matmul_integer_to_float(
    A: Tensor,
    B: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Compute MatMulIntegerToFloat: a_scale b_scale (A - a_zero_point) (B - b_zero_point) + bias.

    A: T[*batch, m, k], B: U[*batch, k, n]; scales and zero points: one, or one per row of A and per column of B; bias: S[n] ->
    S[*batch, m, n]
    """
    sums = shifted_product(linalg.as_rows(A), linalg.as_columns(B), a_zero_point, b_zero_point)
    is_single = a_scale.rank == 1 and ask(a_scale.shape[0] - 1, "==")
    sa = single(a_scale) if is_single else row_wise(a_scale)

    def body(*i: Dim) -> Expr:
        factor = scalar.mul(scalar.cast(at(sa, i), f32), scalar.cast(at(b_scale, i), f32))
        return scalar.cast(scalar.mul(scalar.cast(at(sums, i), f32), factor), a_scale.dtype)

    y = linalg.without_vector_axes(compute(a_scale.dtype, sums.shape, body), A, B)
    return y if bias is None else add(y, bias)


def dynamic_quantize_matmul(
    A: Tensor, B: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Compute DynamicQuantizeMatMul: A B + bias, where A is quantised to u8 by its own range (see dynamic_quantize).

    A: f32[*batch, m, k], B: U[*batch, k, n], b_scale and b_zero_point: one, or one per column, bias: f32[n] -> f32[*batch, m, n]
    """
    a, scale, zero_point = dynamic_quantize(A)
    return matmul_integer_to_float(a, B, scale, b_scale, zero_point, b_zero_point, bias)


def matmul_integer_16(A: Tensor, B: Tensor) -> Tensor:
    """Compute MatMulInteger16: numpy.matmul of 16-bit integers. A: T[*batch, m, k], B: U[*batch, k, n] -> i32[*batch, m, n], or u32
    if both are unsigned
    """
    dtype = u32 if A.dtype is B.dtype is u16 else i32
    return linalg.without_vector_axes(linalg.product(linalg.as_rows(A), linalg.as_columns(B), dtype), A, B)


# ---- records --------------------------------------------------------------------------------------------------------------------

Q, P = integers(2, 3, 5, dtype=np.uint8, lo=3, hi=250), integers(3, 5, dtype=np.uint8, lo=0, hi=255)
S, T = (integers(*q.shape, dtype=np.int8, lo=-120, hi=127) for q in (Q, P))
IMAGE = integers(2, 4, 5, 6, dtype=np.uint8, lo=0, hi=255)
FINE, COARSE, OUT = (np.array(n, np.float32) for n in (0.0173, 0.031, 0.0471))
U, V, W = (np.array(n, np.uint8) for n in (128, 100, 7))
I, J, K = (np.array(n, np.int8) for n in (-3, 5, 11))  # noqa: E741
A, B = integers(4, 6, dtype=np.uint8, lo=0, hi=255), integers(6, 3, dtype=np.int8, lo=-128, hi=127)
COLUMNS, SHIFTS = np.array([0.01, 0.02, 0.015], np.float32), np.array([1, 0, -2], np.int8)
SHARE = np.array(1 / 256, np.float32)

BOTH = (u8, i8)


def op(name: str, meaning: Callable[..., Any], types: dict[str, Any], *cases: Case) -> Op:
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
        tolerance=1e-5,
    )


def of_two(name: str, meaning: Callable[[Tensor, Tensor], Tensor]) -> Op:
    types = {"A A_zero_point B B_zero_point C_zero_point": BOTH, "A_scale B_scale C_scale": (f32,)}
    cases = (
        Case((Q, FINE, U, P, COARSE, V, OUT, W)),
        Case((S, FINE, I, T, COARSE, J, OUT, K)),
        Case((Q, FINE, U, P[:1], COARSE, V, OUT, W), name="broadcast"),
    )
    return op(name, binary(meaning), types, *cases)


UNARY = {"X X_zero_point Y_zero_point": BOTH, "X_scale Y_scale": (f32,)}
POOLED = {"X x_zero_point y_zero_point": BOTH, "x_scale y_scale": (f32,)}
FEWER = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}

OPS = (
    op(
        "QuantizeLinear",
        quantize_linear,
        {"x y_scale": (f32, f16), "y_zero_point": (i8, u8, i16, u16, i4, u4)},
        Case((reals(2, 3, 4, scale=3), np.array(0.0371, np.float32), np.array(9, np.uint8))),
        Case((reals(2, 3, 4, scale=3), COLUMNS, SHIFTS), {"axis": 1}),
    ),
    op(
        "DequantizeLinear",
        dequantize_linear,
        {"x x_zero_point": (i8, u8, i16, u16, i32, i4, u4), "x_scale": (f32, f16)},
        Case((Q, FINE, U)),
        Case((Q, COLUMNS, np.array([3, 0, 200], np.uint8)), {"axis": -2}),
    ),
    of_two("QLinearAdd", add),
    of_two("QLinearMul", mul),
    op("QLinearSigmoid", qlinear_sigmoid, UNARY, Case((Q, COARSE, U, SHARE, W)), Case((S, COARSE, I, SHARE, K))),
    op(
        "QLinearLeakyRelu",
        qlinear_leaky_relu,
        UNARY,
        Case((Q, COARSE, U, FINE, V)),
        Case((S, COARSE, I, OUT, J), {"alpha": 0.23}),
    ),
    op(
        "QLinearSoftmax",
        qlinear_softmax,
        {"X x_zero_point y_zero_point": BOTH, "X_scale y_scale": (f32,)},
        Case((P, COARSE, U, SHARE, np.array(0, np.uint8)), {"opset": 13}),
    ),
    op(
        "QLinearWhere",
        qlinear_where,
        {
            "condition": (boolean,),
            "X x_zero_point Y y_zero_point z_zero_point": BOTH,
            "x_scale y_scale z_scale": (f32,),
        },
        Case((P[:, :1] > 99, Q, FINE, U, P, COARSE, V, OUT, W)),
    ),
    op(
        "QLinearConcat",
        qlinear_concat,
        {"Y_scale": (f32,), "Y_zero_point": BOTH, "inputs": (u8, i8, f32)},
        Case((OUT, W, Q, FINE, U, Q[:, :1].copy(), COARSE, V), {"axis": 1}),
        Case((OUT, K, S, OUT, K), {"axis": -1}),
    ),
    op(
        "QLinearAveragePool",
        qlinear_average_pool,
        POOLED,
        Case((IMAGE, FINE, U, COARSE, V), FEWER),
        Case((IMAGE, FINE, U, COARSE, V), {**FEWER, "channels_last": 1, "count_include_pad": 1}),
    ),
    op(
        "QLinearGlobalAveragePool",
        qlinear_global_average_pool,
        POOLED,
        Case((IMAGE, FINE, U, COARSE, V)),
        Case((IMAGE, FINE, U, COARSE, V), {"channels_last": 1}),
    ),
    op(
        "QLinearConv",
        qlinear_conv_channels,
        {
            "x x_zero_point": BOTH,
            "w w_zero_point": BOTH,
            "y_zero_point": BOTH,
            "x_scale w_scale y_scale": (f32,),
            "B": (i32,),
        },
        Case(
            (
                IMAGE,
                FINE,
                U,
                integers(3, 6, 2, 2, dtype=np.int8),
                COLUMNS,
                np.zeros(3, np.int8),
                OUT,
                V,
                integers(3, dtype=np.int32),
            ),
            {"channels_last": 1},
        ),
    ),
    op("NhwcMaxPool", nhwc_max_pool, {"x": BOTH}, Case((IMAGE,), FEWER), Case((IMAGE.astype(np.int8),), {"kernel_shape": [2, 2]})),
    op(
        "QGemm",
        qgemm,
        {
            "A a_zero_point": BOTH,
            "B b_zero_point": BOTH,
            "C": (i32,),
            "a_scale b_scale y_scale": (f32,),
            "y_zero_point": BOTH,
        },
        Case((A, FINE, U, B, COLUMNS, SHIFTS, integers(3, dtype=np.int32), np.array(3.37, np.float32), U), {"alpha": 0.5}),
        Case((A.T.copy(), FINE, U, B.T.copy(), COARSE, I), {"transA": 1, "transB": 1}),
    ),
    op(
        "MatMulIntegerToFloat",
        matmul_integer_to_float,
        {"A a_zero_point": BOTH, "B b_zero_point": BOTH, "a_scale b_scale bias": (f32, f16)},
        Case((A, B, FINE, COLUMNS, U, SHIFTS, reals(3))),
        Case((A, B, FINE, COARSE)),
    ),
    op(
        "DynamicQuantizeMatMul",
        dynamic_quantize_matmul,
        {"A b_scale bias": (f32,), "B b_zero_point": BOTH},
        Case((reals(2, 4, 6), B, COLUMNS, SHIFTS, reals(3))),
        Case((reals(2, 4, 6), B, COARSE)),
    ),
    op(
        "MatMulInteger16",
        matmul_integer_16,
        {"A": (i16, u16), "B": (i16, u16)},
        Case((S.astype(np.int16), T.T.astype(np.int16).copy())),
    ),
)
