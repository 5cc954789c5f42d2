"""Arrays for test cases: deterministic, with both signs, neighbouring elements different."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def reals(*shape: int, dtype: npt.DTypeLike = np.float32, scale: float = 2.0) -> npt.NDArray[Any]:
    """Return an array of floats in [-scale, scale], of this shape."""
    numbers: npt.NDArray[Any] = (np.sin(np.arange(math.prod(shape)) * 1.7 + 0.3) * scale).astype(dtype)
    return numbers.reshape(shape)


def integers(*shape: int, dtype: npt.DTypeLike = np.int64, lo: int = -9, hi: int = 9) -> npt.NDArray[Any]:
    """Return an array of integers in [lo, hi], of this shape."""
    return (np.arange(math.prod(shape)) * 7 % (hi - lo + 1) + lo).astype(dtype).reshape(shape)
