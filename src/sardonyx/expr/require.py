"""What an operator takes for granted about sizes that are known only at run time; checked before each run with new sizes."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Int, is_nonnegative


@dataclass(frozen=True, slots=True)
class Requirement:
    """`dim` must be zero, or must not be negative; otherwise the run fails with the message."""

    dim: Dim
    relation: Literal["zero", "nonnegative"]
    message: str


_collected: contextvars.ContextVar[list[Requirement] | None] = contextvars.ContextVar("requirements", default=None)


@contextlib.contextmanager
def collect() -> Iterator[list[Requirement]]:
    """Gathers the requirements stated inside."""
    found: list[Requirement] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def require_equal(a: Dim, b: Dim, message: str) -> None:
    """a == b: now if that is known (else Fail), or at run start."""
    difference = a - b
    if isinstance(difference, Int):
        state(Requirement(difference, "zero", message))
    elif difference != 0:
        raise Fail(f"[ShapeInferenceError] {message}")


def require_nonnegative(a: Dim, message: str) -> None:
    """a >= 0: now if that is known (else Fail), or at run start."""
    if is_nonnegative(a):
        return
    if not isinstance(a, Int):
        raise Fail(f"[ShapeInferenceError] {message}")
    state(Requirement(a, "nonnegative", message))


def state(requirement: Requirement) -> None:
    found = _collected.get()
    if found is not None:
        found.append(requirement)
