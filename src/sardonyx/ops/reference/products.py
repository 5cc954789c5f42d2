"""Gemm in numpy, for forms that onnx.reference computes wrongly: it converts 64-bit integers to f64, and ignores beta before opset
7.
"""

from __future__ import annotations

import numpy as np

from sardonyx.ops.reference.arrays import Array


def gemm(
    a: Array, b: Array, c: Array | None = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Array:
    """Compute alpha A B + beta C. Integers are computed modulo 2^bits if alpha and beta are integers, else in f64 and truncated."""
    product = np.dot(a.T if transA else a, b.T if transB else b)
    if a.dtype.kind in "iu" and float(alpha).is_integer() and float(beta).is_integer():
        scaled = product * wrapped(alpha, a.dtype)
        return np.asarray(scaled if c is None else scaled + c * wrapped(beta, a.dtype))
    scaled = product * alpha
    return np.asarray(scaled if c is None or beta == 0 else scaled + c * beta).astype(a.dtype)


def wrapped(number: float, dtype: np.dtype[np.generic]) -> Array:
    """Convert an integer to an integer dtype, modulo 2^bits."""
    return np.asarray(int(number) % (1 << 64), np.uint64).astype(dtype)


def gemm_1(
    a: Array, b: Array, c: Array, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0, broadcast: int = 0
) -> Array:
    """Compute Gemm before opset 7. Raises ValueError if C and A B differ in shape and broadcasting is not requested."""
    shape = (a.shape[1 if transA else 0], b.shape[0 if transB else 1])
    if not broadcast and c.shape != shape:
        raise ValueError(f"C of shape {c.shape} is not broadcast to {shape}: broadcast is not set")
    return gemm(a, b, c, alpha, beta, transA, transB)
