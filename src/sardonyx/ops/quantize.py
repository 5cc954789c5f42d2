"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.

A scale and its zero point apply to the whole tensor, to one index of an axis, or to a block of indices of an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.base.dtypes import DType, f8e8m0, f32, float_of_code, u8
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.tensor import Tensor, compute
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.casts import OVERFLOW, element_type, unsaturated
from sardonyx.ops.integer_products import is_zero
from sardonyx.ops.pointwise import cast, normal_axis, pointwise
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reduce import drop, total
from sardonyx.ops.reference import tensors


def granular(x: Tensor, parameter: Tensor, axis: int, block_size: int) -> Callable[[Sequence[Dim]], Expr]:
    """Return the function from an index of x to its scale or zero point.

    parameter: T[] or T[1] for the whole tensor, T[n] for one number per index of the axis, or the rank of x for one number per
    block of the axis. Raises Fail if the shapes don't fit.
    """
    if parameter.rank == 0 or parameter.shape == (1,):
        return lambda i: at(parameter, [0] * parameter.rank)
    axis = 0 if x.rank == 1 else normal_axis(axis, x.rank)
    if parameter.rank == 1 and not block_size:
        return lambda i: at(parameter, (i[axis],))
    if parameter.rank != x.rank or block_size < 1:
        raise Fail(
            f"[ShapeInferenceError] a scale or zero point of shape {list(parameter.shape)} does not fit {list(x.shape)} in blocks of {block_size}"
        )
    return lambda i: at(parameter, [*i[:axis], i[axis] // block_size, *i[axis + 1 :]])


def quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int = 1,
    saturate: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
) -> Tensor:
    """Compute QuantizeLinear: round(x / scale) + zero point, ties to even, saturated. x: S[*d] -> T[*d]

    T is the dtype of the zero point, else output_dtype, else u8. The division is done in the dtype `precision`, else in that of the
    scale. Raises Fail if the dtypes contradict each other.
    """
    dtype = zero_point.dtype if zero_point is not None else element_type(output_dtype) if output_dtype else u8
    if output_dtype and element_type(output_dtype) is not dtype:
        raise Fail(f"QuantizeLinear with a zero point of {dtype}, but an output of {element_type(output_dtype)}")
    division = float_of_code(precision) if precision else x.dtype if scale.dtype is f8e8m0 else scale.dtype
    step = granular(x, scale, axis, block_size)
    shift = None if zero_point is None or is_zero(zero_point) else granular(x, zero_point, axis, block_size)

    def body(*i: Dim) -> Expr:
        quotient = scalar.div(scalar.cast(at(x, i), division), scalar.cast(step(i), division))
        return quantised(scalar.cast(quotient, f32), dtype, None if shift is None else scalar.cast(shift(i), f32), bool(saturate))

    return compute(dtype, x.shape, body)


def quantised(x: Expr, dtype: DType, shift: Expr | None, saturate: bool) -> Expr:
    """Convert x / scale to the dtype: rounded, shifted by the zero point, saturated. x, shift: f32"""
    if dtype.is_float:
        moved = x if shift is None else scalar.add(x, shift)
        return unsaturated(moved, dtype) if dtype in OVERFLOW and not saturate else scalar.cast(moved, dtype)
    whole = scalar.apply("rint", x)
    moved = whole if shift is None else scalar.add(whole, shift)
    half = 1 << (dtype.bits - 1)
    low, high = (-half, half - 1) if dtype.kind == "int" else (0, 2 * half - 1)
    return scalar.cast(scalar.minimum(scalar.maximum(moved, low), high), dtype)


def dequantize(
    x: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    """Compute DequantizeLinear: (x - zero point) scale. x: S[*d] -> T[*d], where T is output_dtype, else the dtype of the scale."""
    dtype = element_type(output_dtype) if output_dtype else scale.dtype
    compute_dtype = scalar.wide(dtype)
    step = granular(x, scale, axis, block_size)
    shift = None if zero_point is None or is_zero(zero_point) else granular(x, zero_point, axis, block_size)

    def body(*i: Dim) -> Expr:
        number = scalar.cast(at(x, i), compute_dtype)
        moved = number if shift is None else scalar.sub(number, scalar.cast(shift(i), compute_dtype))
        return scalar.cast(scalar.mul(moved, scalar.cast(step(i), compute_dtype)), dtype)

    return compute(dtype, x.shape, body)


def dequantize_10(x: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int = 1) -> Tensor:
    """DequantizeLinear before opset 19: without blocks, and the result has the dtype of the scale."""
    return dequantize(x, scale, zero_point, axis)


def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute DynamicQuantizeLinear: choose scale and zero point so that u8 covers the range of x and 0. x: f32[*d] -> u8[*d],
    scale f32[], zero point u8[]
    """
    axes = list(range(x.rank))
    high = pointwise(lambda e: scalar.maximum(e, 0), drop(total(x, axes, "max"), axes))
    low = pointwise(lambda e: scalar.minimum(e, 0), drop(total(x, axes, "min"), axes))

    def step(a: Expr, b: Expr) -> Expr:
        return scalar.div(scalar.select(scalar.apply("eq", a, b), 1.0, scalar.sub(a, b)), 255)

    scale = pointwise(step, high, low)
    zero = pointwise(lambda b, s: scalar.apply("rint", limited(scalar.negate(scalar.div(b, s)))), low, scale)
    y = pointwise(lambda e, s, z: limited(scalar.add(scalar.apply("rint", scalar.div(e, s)), z)), x, scale, zero)
    return cast(y, u8), scale, cast(zero, u8)


def limited(x: Expr) -> Expr:
    """Clamp to [0, 255]."""
    return scalar.minimum(scalar.maximum(x, 0), 255)


# ---- records ------------------------------------------------------------------------------------------------------------

X = reals(2, 6, 3, scale=9)
SMALL, PER_AXIS = np.array(0.25, np.float32), np.array([0.1, 0.5, 0.02, 1, 0.3, 2], np.float32)
BLOCKS = np.abs(reals(2, 3, 3)) + np.float32(0.1)
TYPES: tuple[Any, ...] = (np.uint8, np.int8, np.uint16, np.int16, ml_dtypes.uint4, ml_dtypes.int4)
FLOATS: tuple[Any, ...] = (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn)
CODES = np.arange(16).reshape(2, 4, 2)


def down() -> list[Case]:
    """Make the cases of QuantizeLinear."""
    by_type = [Case((X, SMALL, np.array(3, t))) for t in TYPES] + [Case((X, SMALL, np.array(0, t))) for t in FLOATS]
    return [
        *by_type,
        Case((X, SMALL)),
        Case((X, SMALL), {"output_dtype": 3}),
        Case((X * 100, PER_AXIS, np.arange(6, dtype=np.int8))),
        Case((X, BLOCKS, np.zeros((2, 3, 3), np.uint8)), {"block_size": 2, "axis": 1}),
        Case((X.astype(np.float16), SMALL.astype(np.float16), np.array(9, np.uint8))),
        Case((X.astype(np.float16), SMALL, np.array(9, np.uint8)), {"precision": 1}),
    ]


def up() -> list[Case]:
    """Make the cases of DequantizeLinear."""
    by_type = [Case((CODES.astype(t), SMALL, np.array(3, t))) for t in TYPES] + [Case((CODES.astype(t), SMALL)) for t in FLOATS]
    return [
        *by_type,
        Case((CODES.astype(np.int32), SMALL)),
        Case((CODES.astype(np.uint8), PER_AXIS[:4], np.arange(4, dtype=np.uint8))),
        Case((CODES.astype(np.uint8), BLOCKS[:2, :2, :2]), {"block_size": 2, "axis": 1}),
        Case((CODES.astype(np.uint8), SMALL.astype(np.float16), np.array(7, np.uint8))),
        Case((CODES.astype(np.uint8), SMALL), {"output_dtype": 10}),
    ]


OPS = (
    Op(
        "QuantizeLinear",
        since=10,
        lower=quantize,
        cases=tuple(down()),
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        reference=tensors.quantize_linear,
    ),
    Op("DequantizeLinear", since=19, lower=dequantize, cases=tuple(up()), gradient=Rule.NONE, quantised=Rule.NONE),
    Op(
        "DequantizeLinear",
        since=10,
        lower=dequantize_10,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        reference=tensors.dequantize_linear,
    ),
    Op(
        "DynamicQuantizeLinear",
        since=11,
        expand=dynamic_quantize,
        cases=tuple(Case((a,), outputs=3) for a in (X, np.abs(X) + 1, -np.abs(X), np.zeros(3, np.float32))),
        gradient=Rule.NONE,
        quantised=Rule.NONE,
    ),
)
