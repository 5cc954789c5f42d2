"""What the functions of this package share: the array type, sums in wide types, and access to onnx.reference's operators."""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def evaluate(place: str, *inputs: Array, **attributes: Any) -> Array:
    """Call an operator of onnx.reference, which is imported only here because its import is slow. place: `module.Class`"""
    module, _, name = place.partition(".")
    operator = getattr(importlib.import_module(f"onnx.reference.ops.{module}"), name)
    result: Array = operator.eval(*inputs, **attributes)
    return result


def wide(x: Array) -> Array:
    """Convert x to float64, or to int64 for integers, so that sums don't overflow."""
    return x.astype(np.int64 if x.dtype.kind in "iub" else np.float64)
