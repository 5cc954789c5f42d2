"""Awkward numbers of every dtype."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType

Array = np.ndarray[Any, Any]


def edges(dtype: DType) -> Array:
    """Limits, zeros, ones, and for floats NaN, infinities, subnormals and halves."""
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.is_integer:
        low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
        high = low + (1 << dtype.bits) - 1
        known = {low, low + 1, -1, 0, 1, 2, 3, 7, dtype.bits - 1, dtype.bits, high - 1, high, high // 2}
        carrier = np.dtype(f"{dtype.kind[0]}{dtype.itemsize}")
        return np.array(sorted(v for v in known if low <= v <= high), carrier).astype(dtype.numpy)
    tiny = float(np.finfo(np.float32).smallest_subnormal) if dtype.bits == 32 else 5e-324
    limit = float(np.finfo(np.float32 if dtype.bits == 32 else np.float64).max)
    some = [0.0, 1.0, 0.5, 1.5, 2.5, 3.0, 0.1, 7.75, 1e-3, 2.0**22 + 0.5, 2.0**23 + 1, 2.0**52 + 1, limit, tiny, np.inf]
    return np.array([*some, *(-v for v in some), np.nan]).astype(dtype.numpy)


@functools.cache
def pairs(dtype: DType) -> tuple[Array, Array]:
    """Two columns: each edge with each edge, then random numbers; an odd count."""
    e = edges(dtype)
    rng = np.random.default_rng(1)
    if dtype.kind == "bool":
        more = rng.integers(0, 2, (2, 41)).astype(bool)
    elif dtype.is_integer:
        more = rng.integers(0, 256, (2, 41 * dtype.itemsize), np.uint8).view(np.dtype(f"{dtype.kind[0]}{dtype.itemsize}"))
        more = (more & ((1 << dtype.bits) - 1)).astype(dtype.numpy) if dtype.bits < 8 else more
    else:
        more = (rng.standard_normal((2, 41)) * 10.0 ** rng.integers(-3, 4, (2, 41))).astype(dtype.numpy)
    left, right = np.concatenate([np.repeat(e, len(e)), more[0]]), np.concatenate([np.tile(e, len(e)), more[1]])
    return left[: len(left) // 2 * 2 - 1].copy(), right[: len(left) // 2 * 2 - 1].copy()
