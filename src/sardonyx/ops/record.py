"""What an operator is: one plain record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

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


@dataclass(frozen=True, slots=True)
class Op:
    """One operator of one domain from version `since` on; older versions are records of their own, beside it.

    Exactly one of these says what it means, in order of preference. Each is called with the node's inputs as Tensors (None where an
    optional one is left out) and its attributes as keywords (those not given have the function's defaults); it returns the
    output, or a sequence of outputs. A function that takes `outputs` is told how many outputs the node asks for.

        expand    into smaller operators' functions
        lower     to tensor expressions
        kernel    loops written with the loop builder
        host      none of these: runs in Python between compiled segments (strings, sequences)
    """

    name: str
    since: int
    domain: str = ""
    expand: Meaning | None = None
    lower: Meaning | None = None
    kernel: Meaning | None = None
    host: bool = False
    gradient: Callable[..., Any] | Rule = Rule.UNWRITTEN
    quantised: Callable[..., Any] | Rule = Rule.UNWRITTEN
    reference: Callable[..., Any] | None = None  # in numpy; None: onnx.reference's
    cases: tuple[Case, ...] = ()
    tolerance: float = 1e-6

    @property
    def meaning(self) -> Meaning | None:
        """The function that gives its tensors, or None for a host operator."""
        return self.expand or self.lower or self.kernel
