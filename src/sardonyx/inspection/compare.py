"""Comparison of a value with the expected one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType, from_numpy

Array = np.ndarray[Any, Any]
ROUNDING = 8  # steps of a narrow float by which a value may differ, since it may have been rounded several times


class Deviation(Struct, frozen=True):
    """How a value differs from the expected one.

    error: the largest |got - expected|. scale: the largest |expected|. allowed: the largest error that counts as agreement. reason:
    why the values can't be compared, or where they differ most.
    """

    error: float
    scale: float
    allowed: float
    reason: str = ""

    @property
    def relative(self) -> float:
        """Return error / scale."""
        return self.error / self.scale if self.scale else self.error

    @property
    def is_agreement(self) -> bool:
        """Return whether the error is allowed."""
        return self.error <= self.allowed


def compare(expected: Any, got: Any, tolerance: float) -> Deviation:
    """Return the deviation of a value: an array, list, dict or None.

    tolerance: allowed error of f32 and f64, relative to the scale. Narrow floats may differ by ROUNDING steps, integers of at most
    8 bits by 1 (they are mostly quantised), other types not at all. NaN and infinity must be at the same positions.
    """
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        expected, got = sorted(expected.items()), sorted(got.items())
    if isinstance(expected, list | tuple):
        return _compare_lists(expected, got, tolerance)
    if not isinstance(expected, np.ndarray) or not isinstance(got, np.ndarray):
        unlike = isinstance(expected, np.ndarray) or isinstance(got, np.ndarray)
        return _exact(not unlike and expected == got, f"{_brief(got)}, not {_brief(expected)}")
    if expected.dtype != got.dtype:
        return _exact(False, f"dtype {got.dtype}, not {expected.dtype}")
    if expected.shape != got.shape:
        return _exact(False, f"shape {list(got.shape)}, not {list(expected.shape)}")
    return _compare_arrays(expected, got, tolerance)


def _brief(value: Any) -> str:
    """Return a short text for a value."""
    return "an array" if isinstance(value, np.ndarray) else repr(value)[:100]


def _exact(same: bool, reason: str) -> Deviation:
    """Return the deviation of values that must be equal."""
    return Deviation(0.0 if same else np.inf, 0.0, 0.0, "" if same else reason)


def _compare_lists(expected: Sequence[Any], got: Any, tolerance: float) -> Deviation:
    """Return the largest deviation of the elements."""
    if not isinstance(got, list | tuple) or len(got) != len(expected):
        return _exact(False, f"{_brief(got)}, not a list of {len(expected)}")
    found = [compare(a, b, tolerance) for a, b in zip(expected, got, strict=True)]
    return max(found, key=lambda d: d.error - d.allowed, default=Deviation(0.0, 0.0, 0.0))


def _compare_arrays(expected: Array, got: Array, tolerance: float) -> Deviation:
    """Return the deviation of an array of the same dtype and shape."""
    dtype = from_numpy(expected.dtype)
    if expected.size == 0:
        return Deviation(0.0, 0.0, 0.0)
    if not (dtype.is_float or dtype.is_integer or dtype.kind == "complex"):
        unequal = expected != got
        return _exact(not unequal.any(), _at(unequal, expected, got))
    error = _errors(expected, got)
    finite = np.abs(_wide(expected))
    scale = float(finite[np.isfinite(finite)].max(initial=0.0))
    return Deviation(float(error.max()), scale, _allowed(dtype, tolerance, scale), _at(error, expected, got))


def _errors(expected: Array, got: Array) -> Array:
    """Return |got - expected| as f64, at least 1 for unequal integers, infinity where NaN or infinity is not matched."""
    a, b = _wide(expected), _wide(got)
    same = (expected == got) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.maximum(np.abs(b - a), 1.0 if expected.dtype.kind in "iu" else 0.0))
    return np.where(np.isnan(error), np.inf, error)


def _wide(x: Array) -> Array:
    return x if x.dtype.kind == "c" else x.astype(np.float64)


def _allowed(dtype: DType, tolerance: float, scale: float) -> float:
    """Return the allowed error of a dtype."""
    if dtype.is_integer:
        return 1.0 if dtype.bits <= 8 else 0.0
    return max(tolerance, ROUNDING * _step(dtype)) * scale


def _step(dtype: DType) -> float:
    """Return the distance from 1 to the next number of a narrow float, 0 for other dtypes."""
    if not dtype.is_float or dtype.bits > 16:
        return 0.0
    one = np.ones((), dtype.numpy)
    bits = one.view(np.uint16 if dtype.bits == 16 else np.uint8)
    return float((bits + 1).astype(bits.dtype).view(dtype.numpy).astype(np.float64)) - 1.0


def _at(error: Array, expected: Array, got: Array) -> str:
    """Return the text of the largest error: both values and the index."""
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    where = f" at {[int(i) for i in index]}" if index else ""
    return f"{got[index]}, not {expected[index]}{where}"
