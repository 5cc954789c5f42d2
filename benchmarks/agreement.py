"""Criteria by which outputs of two engines count as equal, and by which outputs count as varying."""

import numpy as np

TOLERANCE = 1e-4
VARIATION = 1e-3


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return max |ours - theirs| / max |theirs|, or infinity if shapes, dtypes, or the positions of finite elements differ.

    Two empty arrays differ by 0. If the reference is all zero, the divisor is 1.
    """
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    if theirs.size == 0:
        return 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = np.abs(b[finite]).max() or 1.0
    return float(np.abs(a[finite] - b[finite]).max() / scale)


def worst(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Return the largest `difference` over all outputs, infinity if their number differs."""
    if len(ours) != len(theirs):
        return float("inf")
    return max((difference(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def least_variation(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Return the smallest `difference` between floating outputs of one model for two inputs of equal shapes."""
    pairs = zip(first, second, strict=True)
    return min(difference(a, b) for a, b in pairs if np.issubdtype(a.dtype, np.floating) and a.size)


def identical(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Return whether all outputs are equal bit by bit."""
    if len(first) != len(second):
        return False
    pairs = zip(first, second, strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)
