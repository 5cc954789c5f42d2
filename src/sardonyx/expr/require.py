"""What an operator takes for granted about sizes that are known only at run time; checked before each run with new sizes."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Int, expanded, is_nonnegative, maximum, primitive


@dataclass(frozen=True, slots=True)
class Requirement:
    """`dim` must be zero, or must not be negative; otherwise the run fails with the message."""

    dim: Dim
    relation: Literal["zero", "nonnegative"]
    message: str


class Collected(list[Requirement]):
    """Requirements, each once, and what stands for the sizes that must not be negative (see `essence`)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[Dim, str]] = set()
        self.nonnegative: set[Dim] = set()

    def state(self, requirement: Requirement) -> None:
        key = requirement.dim, requirement.relation
        if key not in self.seen:
            self.seen.add(key)
            self.append(requirement)
            if requirement.relation == "nonnegative":
                self.nonnegative.add(essence(requirement.dim))


_collected: contextvars.ContextVar[Collected | None] = contextvars.ContextVar("requirements", default=None)


@contextlib.contextmanager
def collect() -> Iterator[list[Requirement]]:
    """Gathers the requirements stated inside."""
    found = Collected()
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


@contextlib.contextmanager
def tentative() -> Iterator[None]:
    """Forgets the requirements stated inside if it is left by an exception: what was tried is not what will run."""
    found = _collected.get()
    before = len(found) if found is not None else 0
    try:
        yield
    except BaseException:
        if found is not None:
            del found[before:]
        raise


def stated() -> int:
    """How many requirements there are so far."""
    return len(_collected.get() or ())


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


def is_required_nonnegative(a: Dim) -> bool:
    """Is a >= 0 for certain, or has it been required to be?"""
    if is_nonnegative(a):
        return True
    found = _collected.get()
    return found is not None and essence(a) in found.nonnegative


@functools.lru_cache(maxsize=1 << 12)
def essence(a: Dim) -> Dim:
    """a, over sizes that are not defined, without a common factor: two of the same have the same sign."""
    whole = expanded(a)
    return primitive(whole)[1] if isinstance(whole, Int) else whole


def not_below_zero(a: Dim) -> Dim:
    """max(a, 0), which is a itself if that is certain or required."""
    return a if is_required_nonnegative(a) else maximum(a, 0)


def state(requirement: Requirement) -> None:
    found = _collected.get()
    if found is not None:
        found.state(requirement)
