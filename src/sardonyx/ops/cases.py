"""Numbers for test cases: the same in every run, of both signs, no two neighbours alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def reals(*shape: int, dtype: npt.DTypeLike = np.float32, scale: float = 2.0) -> npt.NDArray[Any]:
    """Floats in [-scale, scale]."""
    numbers: npt.NDArray[Any] = (np.sin(np.arange(math.prod(shape)) * 1.7 + 0.3) * scale).astype(dtype)
    return numbers.reshape(shape)


def integers(*shape: int, dtype: npt.DTypeLike = np.int64, lo: int = -9, hi: int = 9) -> npt.NDArray[Any]:
    """Integers in [lo, hi]."""
    return (np.arange(math.prod(shape)) * 7 % (hi - lo + 1) + lo).astype(dtype).reshape(shape)
