"""Requirements: conditions on run-time sizes that operators rely on. They are checked before each run with new sizes.

Requirements of an If's branch are checked when the branch is taken. Those that depend on a loop's counter are checked in each
iteration.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Int, Symbol, expanded, is_nonnegative, maximum, primitive, single
from sardonyx.expr.origin import current_origin


class Requirement(Struct, frozen=True):
    """States that `dim` must be zero, or must not be negative; otherwise the run fails with the message.

    text    the message, with fields {0}, {1}, ... for `values` in that run
    title   the node that states the requirement
    named   True if it only states that axes of one name have equal sizes, which the model's operators may not need
    branch  the counter of the branch in which it must hold, or None
    """

    dim: Dim
    relation: Literal["zero", "nonnegative"]
    text: str
    values: tuple[Dim, ...] = ()
    title: str = ""
    named: bool = False
    branch: Symbol | None = None


class Collected(list[Requirement]):
    """A list of requirements without duplicates, with an index of the sizes that must not be negative (see `essence`)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[Symbol | None, Dim, str]] = set()
        self.nonnegative: set[tuple[Symbol | None, Dim]] = set()

    def state(self, requirement: Requirement) -> None:
        """Add a requirement unless it is there already."""
        key = requirement.branch, requirement.dim, requirement.relation
        if key not in self.seen:
            self.seen.add(key)
            self.append(requirement)
            self.nonnegative.update(signs(requirement))

    def forget(self, before: int) -> None:
        """Drop all requirements but the first `before`."""
        self.seen.difference_update((r.branch, r.dim, r.relation) for r in self[before:])
        del self[before:]
        self.nonnegative = {sign for r in self for sign in signs(r)}


def signs(r: Requirement) -> list[tuple[Symbol | None, Dim]]:
    """Return (branch, essence) of each formula that a requirement says is not negative: of 0, the same with the other sign too."""
    return [(r.branch, essence(dim)) for dim in ((r.dim, -r.dim) if r.relation == "zero" else (r.dim,))]


_collected: contextvars.ContextVar[Collected | None] = contextvars.ContextVar("requirements", default=None)

_branches: contextvars.ContextVar[tuple[Symbol, ...]] = contextvars.ContextVar("branches", default=())


@contextlib.contextmanager
def only_if(branch: Symbol) -> Iterator[None]:
    """Restrict the requirements stated inside to runs in which the branch is taken."""
    token = _branches.set((*_branches.get(), branch))
    try:
        yield
    finally:
        _branches.reset(token)


@contextlib.contextmanager
def collect() -> Iterator[list[Requirement]]:
    """Yield a list that receives the requirements stated inside."""
    found = Collected()
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


@contextlib.contextmanager
def tentative() -> Iterator[None]:
    """Drop the requirements stated inside if the block raises an exception, because what was tried will not run."""
    found = _collected.get()
    before = len(found) if found is not None else 0
    try:
        yield
    except BaseException:
        if found is not None and len(found) > before:
            found.forget(before)
        raise


def require_equal(a: Dim, b: Dim, text: str, *about: object) -> None:
    """Require a == b: raise Fail at once if it is certainly false, else check when a run starts.

    text: the message, with a field {} for each of `about` (sizes, shapes and others), whose values in the failing run are
    shown.
    """
    difference = a - b
    if isinstance(difference, Int):
        state(difference, "zero", text, about)
    elif difference != 0:
        raise Fail(f"[ShapeInferenceError] {shown(text, about)}")


def require_same(a: Sequence[Dim], b: Sequence[Dim], text: str, *about: object) -> None:
    """Require that two shapes, or parts of shapes, are equal. Raises Fail for different ranks. text, about: see
    `require_equal`."""
    if len(a) != len(b):
        raise Fail(f"[ShapeInferenceError] {shown(text, about)}")
    for m, n in zip(a, b, strict=True):
        require_equal(m, n, text, *about)


def require_nonnegative(a: Dim, text: str, *about: object) -> None:
    """Require a >= 0: raise Fail at once if it is certainly false, else check when a run starts. text, about: see
    `require_equal`."""
    if is_nonnegative(a):
        return
    if not isinstance(a, Int):
        raise Fail(f"[ShapeInferenceError] {shown(text, about)}")
    state(a, "nonnegative", text, about)


def is_required_nonnegative(a: Dim) -> bool:
    """Tell whether a >= 0 is certain or already required."""
    if is_nonnegative(a):
        return True
    found = _collected.get()
    return found is not None and any((branch, essence(a)) in found.nonnegative for branch in (None, *_branches.get()))


@functools.lru_cache(maxsize=1 << 12)
def essence(a: Dim) -> Dim:
    """Expand a to undefined sizes and drop its common factor: formulas with equal results have equal signs."""
    whole = expanded(a)
    return primitive(whole)[1] if isinstance(whole, Int) else whole


def not_below_zero(a: Dim) -> Dim:
    """Return max(a, 0), simplified to a if a >= 0 is certain or required."""
    return a if is_required_nonnegative(a) else maximum(a, 0)


def is_collecting() -> bool:
    """Tell whether requirements are being collected."""
    return _collected.get() is not None


def state(dim: Dim, relation: Literal["zero", "nonnegative"], text: str, about: Sequence[object]) -> None:
    """Add a requirement of the present node and branch to those being collected."""
    found, branches = _collected.get(), _branches.get()
    if found is not None:
        branch = branches[-1] if branches else None
        found.state(Requirement(dim, relation, *fields(text, about), current_origin().full, branch=branch))


def fields(text: str, about: Sequence[object]) -> tuple[str, tuple[Dim, ...]]:
    """Fill in what is known of `about`, and number the fields of sizes that are not. -> (text, those sizes)"""
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
    """Escape the braces in a text that becomes part of a format string."""
    return text.replace("{", "{{").replace("}", "}}")


def shown(text: str, about: Sequence[object]) -> str:
    """Return the message for a failure before any run: sizes are shown by the model's names, or as ?."""
    told, values = fields(text, about)
    return told.format(*map(label, values))


def label(size: Dim) -> str:
    """Return the name by which users know a size, or ?."""
    s = single(size)
    return s.name if s is not None and s.extent is None and type(s) is Symbol else "?"
