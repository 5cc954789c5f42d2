"""Operators as functions of tensors: what custom operators that make tensor expressions are written with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx import ops
from sardonyx.base.errors import InvalidArgument
from sardonyx.expr.tensor import Tensor, constant

NEWEST = (1 << 31) - 1


class Operators:
    """The operators of a domain as functions: `operators.Softmax(x, axis=-1)`, `operators.Split(x, num_outputs=2, outputs=2)`.

    Inputs are Tensors; numbers and arrays beside them become constants, numbers of the first Tensor's dtype. Attributes are
    keywords, `outputs` is how many results are wanted. `operators.of("com.microsoft")` has another domain's.
    """

    def __init__(self, domain: str = "") -> None:
        self._domain = domain

    def of(self, domain: str) -> Operators:
        """Return the operators of another domain."""
        return Operators(domain)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        record = ops.find(self._domain, name, NEWEST)
        if record is None or record.meaning is None:
            raise AttributeError(f"there is no compiled operator {name} of domain {self._domain or 'ai.onnx'}")

        def call(*inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
            like = next((x for x in inputs if isinstance(x, Tensor)), None)
            made = record.call([as_tensor(x, like) for x in inputs], attributes, outputs)
            return made[0] if outputs == 1 else tuple(made[:outputs])

        call.__name__ = name
        return call


def as_tensor(x: Any, like: Tensor | None) -> Tensor | None:
    """Return an input as a tensor. Raises InvalidArgument for what is neither a tensor nor numbers."""
    if x is None or isinstance(x, Tensor):
        return x
    plain = isinstance(x, bool | int | float)
    array = np.asarray(x, like.dtype.numpy if plain and like is not None else None)
    if array.dtype.kind in "OUS":
        raise InvalidArgument(f"an input of type {type(x).__name__} is neither a Tensor nor numbers")
    return constant(array)


operators = Operators()
