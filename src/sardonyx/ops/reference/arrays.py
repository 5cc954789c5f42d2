"""What the functions share: arrays, wide sums, and operators of onnx.reference."""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def evaluate(place: str, *inputs: Array, **attributes: Any) -> Array:
    """The output of an operator of onnx.reference, which is imported only now. place: `module.Class`"""
    module, _, name = place.partition(".")
    operator = getattr(importlib.import_module(f"onnx.reference.ops.{module}"), name)
    result: Array = operator.eval(*inputs, **attributes)
    return result


def wide(x: Array) -> Array:
    """The numbers in a type that sums don't overflow in: float64, or int64 for integers."""
    return x.astype(np.int64 if x.dtype.kind in "iub" else np.float64)
