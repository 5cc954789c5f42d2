"""What an operator is: one plain record."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import numpy as np

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr.tensor import Tensor

Outputs: TypeAlias = Tensor | Sequence[Tensor | None]
Meaning: TypeAlias = Callable[..., Outputs]


class Rule(Enum):
    """What stands where a rule is not a function."""

    DERIVED = "from its expansion"
    NONE = "has none"
    UNWRITTEN = "to come"


@dataclass(frozen=True, slots=True)
class Case:
    """A test case: input arrays (None where an optional input is left out) and attributes."""

    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    outputs: int = 1  # how many are asked for


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operator of one domain from version `since` on; older versions are records of their own, beside it.

    Exactly one of these says what it means, in order of preference. Each is called with the node's inputs as Tensors (None where an
    optional one is left out) and its attributes as keywords (those not given have the function's defaults, floats rounded to f32
    as they are in a file); it returns the output, or a sequence of outputs. A function that takes `outputs` is told how many outputs the node asks for.

        expand    into smaller operators' functions
        lower     to tensor expressions
        kernel    loops written with the loop builder
        host      none of these: runs in Python between compiled segments (strings, sequences)

    in_standard: does the standard have the operator, at these versions? If not (com.microsoft's, and what exporters write into the
    standard's domain), the schema comes from this record too: parameters of the function that are annotated as Tensors are inputs, the
    others attributes. element_types: of such inputs, by name; those that are not named have floats, all of one type. types: for such a
    host operator, its outputs as tensors that nothing computes.
    """

    name: str
    since: int
    domain: str = ""
    in_standard: bool = True
    expand: Meaning | None = None
    lower: Meaning | None = None
    kernel: Meaning | None = None
    host: bool = False
    types: Meaning | None = None
    element_types: Mapping[str, tuple[DType, ...]] = field(default_factory=dict)
    gradient: Callable[..., Any] | Rule = Rule.UNWRITTEN
    quantised: Callable[..., Any] | Rule = Rule.UNWRITTEN
    reference: Callable[..., Any] | None = None  # in numpy; None: onnx.reference's
    cases: tuple[Case, ...] = ()
    tolerance: float = 1e-6

    @property
    def meaning(self) -> Meaning | None:
        """The function that gives its tensors, or None for a host operator."""
        return self.expand or self.lower or self.kernel

    def call(self, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], outputs: int) -> list[Tensor | None]:
        """The outputs of a node with these inputs and attributes that asks for so many outputs, as tensors.

        Raises Unsupported for an attribute that the function does not take, Fail for inputs or attributes that it needs and are not
        given, and as the function does.
        """
        function = self.meaning or self.types
        if function is None:
            raise Unsupported(f"{self.name} has no meaning as tensors")
        given, taken = list(inputs), parameters(function)
        while given and given[-1] is None:
            given.pop()
        if unknown := [name for name in attributes if name not in taken and None not in taken]:
            raise Unsupported(f"attribute {unknown[0]}")
        asked = {"outputs": outputs} if "outputs" in taken else {}
        try:
            made = function(*given, **{**float_defaults(function), **attributes, **asked})
        except TypeError:
            check_form(self.name, function, given, {**attributes, **asked})
            raise
        out: list[Tensor | None] = [made] if isinstance(made, Tensor) else list(made)
        if len(out) < outputs:
            raise Fail(f"[ShapeInferenceError] {self.name} has {len(out)} outputs, not {outputs}")
        return out


def check_form(name: str, function: Callable[..., Any], inputs: Sequence[Any], attributes: Mapping[str, Any]) -> None:
    """Raises Fail if the function can't be called with so many inputs and these attributes."""
    try:
        inspect.signature(function).bind(*inputs, **attributes)
    except TypeError as reason:
        raise Fail(f"{name} of {len(inputs)} inputs with the attributes {sorted(attributes)}: {reason}") from None


@functools.cache
def parameters(function: Callable[..., Any]) -> frozenset[str | None]:
    """The names a function takes; None stands for any (**attributes)."""
    found = inspect.signature(function).parameters.values()
    return frozenset(None if p.kind is p.VAR_KEYWORD else p.name for p in found)


@functools.cache
def float_defaults(function: Callable[..., Any]) -> Mapping[str, float]:
    """The defaults of the function's float attributes, as f32 has them: what a file would say, where the standard says 1e-5."""
    found = inspect.signature(function).parameters
    return {name: as_in_files(p.default) for name, p in found.items() if isinstance(p.default, float)}


def as_in_files(x: float) -> float:
    """A float as attributes have it, which are f32."""
    return float(np.float32(x))
