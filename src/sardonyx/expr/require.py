"""What an operator takes for granted about sizes that are known only at run time; checked before each run with new sizes.

What a branch of an If takes for granted is checked when the branch is taken, and what depends on the iteration of a loop at each iteration.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Int, Symbol, expanded, is_nonnegative, maximum, primitive, single
from sardonyx.expr.origin import current_origin


@dataclass(frozen=True, slots=True)
class Requirement:
    """`dim` must be zero, or must not be negative; otherwise the run fails with the message.

    text: the message, with fields {0}, {1}, ... for what `values` come to in that run. title: of the node that asks for it.
    named: it only says that axes with one name have one size, which the model's operators may not need. branch: it must be so only if
    this one is taken (the counter of its only iteration).
    """

    dim: Dim
    relation: Literal["zero", "nonnegative"]
    text: str
    values: tuple[Dim, ...] = ()
    title: str = ""
    named: bool = False
    branch: Symbol | None = None


class Collected(list[Requirement]):
    """Requirements, each once, and what stands for the sizes that must not be negative (see `essence`)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[Symbol | None, Dim, str]] = set()
        self.nonnegative: set[tuple[Symbol | None, Dim]] = set()

    def state(self, requirement: Requirement) -> None:
        key = requirement.branch, requirement.dim, requirement.relation
        if key not in self.seen:
            self.seen.add(key)
            self.append(requirement)
            if requirement.relation == "nonnegative":
                self.nonnegative.add((requirement.branch, essence(requirement.dim)))

    def forget(self, before: int) -> None:
        """As if only the first `before` had been stated."""
        self.seen.difference_update((r.branch, r.dim, r.relation) for r in self[before:])
        del self[before:]
        self.nonnegative = {(r.branch, essence(r.dim)) for r in self if r.relation == "nonnegative"}


_collected: contextvars.ContextVar[Collected | None] = contextvars.ContextVar("requirements", default=None)

_branches: contextvars.ContextVar[tuple[Symbol, ...]] = contextvars.ContextVar("branches", default=())


@contextlib.contextmanager
def only_if(branch: Symbol) -> Iterator[None]:
    """What is stated inside holds only where the branch is taken."""
    token = _branches.set((*_branches.get(), branch))
    try:
        yield
    finally:
        _branches.reset(token)


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
        if found is not None and len(found) > before:
            found.forget(before)
        raise


def require_equal(a: Dim, b: Dim, text: str, *about: object) -> None:
    """a == b: now if that is known (else Fail), or at run start. text: the message, with a field {} for each of `about`: sizes, shapes
    and others, shown as they are in the run that fails."""
    difference = a - b
    if isinstance(difference, Int):
        state(difference, "zero", text, about)
    elif difference != 0:
        raise Fail(f"[ShapeInferenceError] {shown(text, about)}")


def require_same(a: Sequence[Dim], b: Sequence[Dim], text: str, *about: object) -> None:
    """Two shapes, or parts of shapes, are the same. Raises Fail, or fails at run start; text, about: see `require_equal`."""
    if len(a) != len(b):
        raise Fail(f"[ShapeInferenceError] {shown(text, about)}")
    for m, n in zip(a, b, strict=True):
        require_equal(m, n, text, *about)


def require_nonnegative(a: Dim, text: str, *about: object) -> None:
    """a >= 0: now if that is known (else Fail), or at run start. text, about: see `require_equal`."""
    if is_nonnegative(a):
        return
    if not isinstance(a, Int):
        raise Fail(f"[ShapeInferenceError] {shown(text, about)}")
    state(a, "nonnegative", text, about)


def is_required_nonnegative(a: Dim) -> bool:
    """Is a >= 0 for certain, or has it been required to be?"""
    if is_nonnegative(a):
        return True
    found = _collected.get()
    return found is not None and any((branch, essence(a)) in found.nonnegative for branch in (None, *_branches.get()))


@functools.lru_cache(maxsize=1 << 12)
def essence(a: Dim) -> Dim:
    """a, over sizes that are not defined, without a common factor: two of the same have the same sign."""
    whole = expanded(a)
    return primitive(whole)[1] if isinstance(whole, Int) else whole


def not_below_zero(a: Dim) -> Dim:
    """max(a, 0), which is a itself if that is certain or required."""
    return a if is_required_nonnegative(a) else maximum(a, 0)


def is_collecting() -> bool:
    """Does anybody gather requirements?"""
    return _collected.get() is not None


def state(dim: Dim, relation: Literal["zero", "nonnegative"], text: str, about: Sequence[object]) -> None:
    found, branches = _collected.get(), _branches.get()
    if found is not None:
        branch = branches[-1] if branches else None
        found.state(Requirement(dim, relation, *fields(text, about), current_origin().full, branch=branch))


def fields(text: str, about: Sequence[object]) -> tuple[str, tuple[Dim, ...]]:
    """(the text with what is known of `about` written out and a numbered field for each size that is not, those sizes)"""
    values: dict[Dim, int] = {}

    def field(item: Any) -> str:
        if isinstance(item, list | tuple):
            return f"[{', '.join(map(field, item))}]"
        if isinstance(item, Int):
            return f"{{{values.setdefault(item, len(values))}}}"
        return braced(str(item))

    told = text.format(*map(field, about))
    return told, tuple(values)


def braced(text: str) -> str:
    """The text as it stands in one with fields."""
    return text.replace("{", "{{").replace("}", "}}")


def shown(text: str, about: Sequence[object]) -> str:
    """The text for a failure before any run: a size is shown by the name that the model gives it, or as ?."""
    told, values = fields(text, about)
    return told.format(*map(label, values))


def label(size: Dim) -> str:
    """What users know a size by."""
    s = single(size)
    return s.name if s is not None and s.extent is None and type(s) is Symbol else "?"
