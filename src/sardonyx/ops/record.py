"""The record that describes an operator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct, field

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr.tensor import Tensor
from sardonyx.host.custom import HostOperator

Outputs: TypeAlias = Tensor | Sequence[Tensor | None]
"""What the function of an operator returns: one tensor, or several, with None for an output that it does not compute."""
Meaning: TypeAlias = Callable[..., Outputs]
"""Function that computes an operator from tensors and attributes."""


class Rule(Enum):
    """Value of a record's field where no function is given: the rule follows from the operator's expansion, does not exist, or is
    not written yet.
    """

    DERIVED = "from its expansion"
    NONE = "has none"
    UNWRITTEN = "to come"


class Case(Struct, frozen=True):
    """A test case: input arrays (None where an optional input is absent), attributes, and the number of outputs that the node asks
    for.
    """

    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    outputs: int = 1  # how many outputs the node asks for


class Signature(Struct, frozen=True):
    """Inputs and attributes of an operator.

    optional: inputs that may be absent; repeated: the last input, if it may be given any number of times; attributes: their types,
    as ONNX names them; needed: attributes that may not be absent. Of custom operators: what each attribute is converted to (see
    `custom_signature.typed`), how many outputs the function gives (None: as many as a node has), and whether equal inputs give equal
    outputs.
    """

    inputs: tuple[str, ...]
    optional: frozenset[str]
    repeated: str | None
    attributes: Mapping[str, str]
    needed: frozenset[str]
    converted: Mapping[str, str] = field(default_factory=dict)
    outputs: int | None = None
    deterministic: bool = True


class Op(Struct, frozen=True, eq=False):
    """Description of one operator of one domain from opset version `since` on. Older versions have records of their own.

    Exactly one of the following fields says how the operator is computed. Its function gets the node's inputs as Tensors (None
    where an optional input is absent) and the attributes as keywords. Attributes that the node lacks get the function's defaults,
    with floats rounded to f32 as they are in a file. The function returns one output or a sequence of outputs. A function with a
    parameter `outputs` gets the number of outputs that the node asks for.

        expand    calls functions of smaller operators
        lower     makes tensor expressions
        kernel    writes loops with the loop builder
        host      none of these: the operator runs in Python between compiled segments (strings, sequences)

    in_standard: whether the ONNX standard has the operator. If not (com.microsoft's operators, and those that exporters write into
    the standard's domain), its schema is made from this record: parameters annotated as Tensors are inputs, the others attributes.
    element_types: the dtypes that such inputs may have, by name. A key with several names, separated by spaces, says that these
    inputs have the same dtype. Inputs without an entry are floats, all of one dtype.
    types: a function that returns the outputs of such a host operator as placeholder tensors, for their dtypes and shapes.
    reference: the operator in numpy; None for onnx.reference's. tolerance: allowed error in tests.
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
    reference: Callable[..., Any] | None = None  # the operator in numpy; None for onnx.reference's
    cases: tuple[Case, ...] = ()
    tolerance: float = 1e-6
    signature: Signature | None = None  # None: read off the function's annotations
    on_host: HostOperator | None = None  # a custom operator on the host

    @property
    def meaning(self) -> Meaning | None:
        """Return the function that computes the operator's tensors, or None for a host operator."""
        return self.expand or self.lower or self.kernel

    def call(self, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any], outputs: int) -> list[Tensor | None]:
        """Compute the outputs of a node, as tensors.

        outputs: how many outputs the node asks for. Raises Unsupported for an attribute that the function does not take, Fail for
        an input or attribute that is missing, and whatever the function raises.
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
    """Check that the function can be called with these inputs and attributes. Raises Fail."""
    try:
        inspect.signature(function).bind(*inputs, **attributes)
    except TypeError as reason:
        raise Fail(f"{name} of {len(inputs)} inputs with the attributes {sorted(attributes)}: {reason}") from None


@functools.cache
def parameters(function: Callable[..., Any]) -> frozenset[str | None]:
    """Return the names of a function's parameters. None among them means that it takes any keyword (**attributes)."""
    found = inspect.signature(function).parameters.values()
    return frozenset(None if p.kind is p.VAR_KEYWORD else p.name for p in found)


@functools.cache
def float_defaults(function: Callable[..., Any]) -> Mapping[str, float]:
    """Return the defaults of the function's float parameters, rounded to f32 as they would be in a file."""
    found = inspect.signature(function).parameters
    return {name: as_in_files(p.default) for name, p in found.items() if isinstance(p.default, float)}


def as_in_files(x: float) -> float:
    """Round a float to f32, in which ONNX files store attributes."""
    return float(np.float32(x))
