"""Products with weights of 4-bit codes of the domain com.microsoft: MatMulBnb4, MatMulFpQ4.

Their definitions are those of ONNX Runtime's docs/ContribOperators.md. MatMulBnb4's code books are those of the library bitsandbytes;
the layout of MatMulFpQ4's blocks was read off what onnxruntime's kernel makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import f32, i32, i64, u8, u32
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, ceil_divide
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import listed
from sardonyx.expr.require import require_equal, require_nonnegative
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Bitcast, Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.contrib import MICROSOFT
from sardonyx.ops.linalg import as_rows, product
from sardonyx.ops.pointwise import view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.shape import reshaped

THIRD = 1 / 3
FP4 = [0, 0.0052083333, 2 * THIRD, 1, THIRD, 0.5, THIRD / 2, 0.25]
NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]
CODES = [[*FP4, *(-x for x in FP4)], NF4]
"""The number that each 4-bit code stands for, by quant_type."""


def matmul_bnb4(
    A: Tensor,
    B: Tensor,
    absmax: Tensor,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int,
    training_mode: int = 0,
    transB: int = 1,
) -> Tensor:
    """Compute MatMulBnb4: A W^T (or A W without transB), where W[n, k] is the number that its 4-bit code stands for, times absmax
    of its block.

    A: T[*batch, K] (or N without transB), B: u8[(N K + 1) / 2], two codes in each byte, the first in the high bits; absmax:
    T[blocks of N K] -> T[*batch, N] (or K without transB)
    """
    if quant_type not in (0, 1) or block_size < 16 or block_size & (block_size - 1) or min(K, N) < 0:
        raise Fail(f"MatMulBnb4 of {N} by {K} codes, quant_type {quant_type}, block_size {block_size}")
    codes = constant(np.array(CODES[quant_type], np.float32))
    bytes_, scales = reshaped(B, [(N * K + 1) // 2]), reshaped(absmax, [-(-N * K // block_size)])

    def weight(n: Dim, k: Dim) -> Expr:
        where = n * K + k
        byte = scalar.cast(at(bytes_, (where // 2,)), i32)
        shift = scalar.cast(scalar.index((1 - where % 2) * 4), i32)
        code = scalar.apply("and", scalar.apply("shr", byte, shift), 15)
        own = scalar.mul(at(codes, (element(scalar.cast(code, i64), 16),)), scalar.cast(at(scales, (where // block_size,)), f32))
        return scalar.cast(own, A.dtype)

    turned = compute(A.dtype, [K, N], lambda k, n: weight(n, k)) if transB else compute(A.dtype, [N, K], weight)
    y = product(as_rows(A), turned, A.dtype)
    return y if A.rank > 1 else view(y, y.shape[1:], lambda n: (0, n))


BLOCK = 32
"""Numbers in a block of MatMulFpQ4."""


def matmul_fp_q4(A: Tensor, B: Tensor, B_shape: Tensor, blk_quant_type: int = 1) -> Tensor:
    """Compute A W, W[k, n] = (code - zero point) scale of the block.

    A: T[*batch, K], B_shape: i64[2], K and N, B: u8, for each column and each 32 rows of it a block: its scale as f32, with
    blk_quant_type 1 the zero point (else 8), and 16 bytes, of which byte i holds the codes of rows i (in the low bits) and i + 16.
    -> T[*batch, N]. Raises Unsupported for other types of blocks.
    """
    if blk_quant_type not in (0, 1):
        raise Unsupported(f"MatMulFpQ4 of blk_quant_type {blk_quant_type}")
    sizes = listed(B_shape, "B_shape")
    if len(sizes) != 2:
        raise Fail(f"[ShapeInferenceError] MatMulFpQ4 with a B_shape of {len(sizes)} numbers")
    rows, columns = sizes
    for n in sizes:
        require_nonnegative(n, "MatMulFpQ4 by a matrix of {} by {}", rows, columns)
    head = 4 + blk_quant_type
    unit, blocks = head + BLOCK // 2, ceil_divide(rows, BLOCK)
    require_equal(B.shape[0], columns * blocks * unit, "MatMulFpQ4 of {} bytes for {} by {}", B.shape, rows, columns)

    def byte(place: Dim) -> Expr:
        return scalar.cast(at(B, (place,)), u32)

    def weight(k: Dim, n: Dim) -> Expr:
        start = (n * blocks + k // BLOCK) * unit
        bits = byte(start)
        for i in range(1, 4):
            bits = scalar.apply("or", bits, scalar.apply("shl", byte(start + i), 8 * i))
        low_or_high = scalar.cast(scalar.index(k % BLOCK // (BLOCK // 2) * 4), u32)
        code = scalar.apply("and", scalar.apply("shr", byte(start + head + k % (BLOCK // 2)), low_or_high), 15)
        zero = scalar.cast(byte(start + 4), f32) if blk_quant_type else scalar.literal(8, f32)
        return scalar.cast(scalar.mul(scalar.sub(scalar.cast(code, f32), zero), Bitcast(bits, f32)), A.dtype)

    y = product(as_rows(A), compute(A.dtype, [rows, columns], weight), A.dtype)
    return y if A.rank > 1 else view(y, y.shape[1:], lambda n: (0, n))


CODED = integers(80, dtype=np.uint8, lo=0, hi=255)
UNITS = integers(3 * 2, 21, dtype=np.uint8, lo=0, hi=255)
UNITS[:, :4] = np.linspace(0.5, 1, 6, dtype=np.float32)[:, None].view(np.uint8)
UNITS[:, 4] %= 16


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


OPS = (
    op(
        "MatMulBnb4",
        matmul_bnb4,
        {"B": (u8,)},
        Case((reals(2, 32), CODED, np.abs(reals(10))), {"K": 32, "N": 5, "block_size": 16, "quant_type": 1}),
        Case((reals(3, 32), CODED, np.abs(reals(10))), {"K": 32, "N": 5, "block_size": 16, "quant_type": 0}),
    ),
    op(
        "MatMulFpQ4",
        matmul_fp_q4,
        {"B": (u8,), "B_shape": (i64,)},
        Case((reals(2, 40), UNITS.ravel(), np.array([40, 3]))),
        Case((reals(2, 40), np.delete(UNITS, 4, 1).ravel(), np.array([40, 3])), {"blk_quant_type": 0}),
    ),
)
