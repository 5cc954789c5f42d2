"""How corrections are listed: for each operator, from which version on which function computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Correction: TypeAlias = Callable[..., Any]
# {operator: ((since, function), ...)}; None stands for "right in onnx.reference".
Table: TypeAlias = Mapping[str, tuple[tuple[int, Correction | None], ...]]


def until(version: int, functions: Mapping[str, Correction]) -> Table:
    """Corrections for all versions before `version`."""
    return {name: ((1, function), (version, None)) for name, function in functions.items()}


def evaluate(operator: Any, *inputs: Array, **attributes: Any) -> Array:
    """The output of an operator of onnx.reference."""
    result: Array = operator.eval(*inputs, **attributes)
    return result


def wide(x: Array) -> Array:
    """The numbers in a type that sums don't overflow in: float64, or int64 for integers."""
    return x.astype(np.int64 if x.dtype.kind in "iub" else np.float64)
