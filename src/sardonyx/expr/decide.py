"""Questions about sizes whose answers decide the form of a graph: is this axis of one element? which branch is taken?

A program holds for all sizes, so it has one form. Where the form depends on a size (the rank after a Squeeze without axes, the branch of
an If that looks at a shape), a program is made for one set of answers, and another one for the next set:

    with answering(sizes, fed) as answers:   the sizes of the run that the program is made for
        ...                                  ask() looks an answer up, and notes it in `answers`
    answers.hold(sizes, fed)                 may the program run with these sizes?

While no sizes are known, a question raises Undecided: the graph is then compiled when it is first run. A bool that is fed to the graph is
asked for in the same way (`ask_value`): an If whose branches have different ranks is compiled for the branch that is taken.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Defined, Dim, Int, Symbol, evaluate, symbols

Relation: TypeAlias = Literal["==", "<", "<="]
Sizes: TypeAlias = Mapping[Symbol, int]
Fed: TypeAlias = Mapping[str, npt.NDArray[Any]]

RELATIONS: Mapping[Relation, Callable[[int], bool]] = {"==": lambda n: n == 0, "<": lambda n: n < 0, "<=": lambda n: n <= 0}


class Undecided(Unsupported):
    """The form of the graph depends on a size, or a value, that only a run brings. The message says on which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether `dim` is in a relation to zero: Answer(n - 1, "==", True) says that n is 1."""

    dim: Dim
    relation: Relation
    truth: bool

    def holds(self, sizes: Sizes) -> bool:
        """Is it the right answer for these sizes too?"""
        return RELATIONS[self.relation](number(self.dim, sizes)) is self.truth


@dataclass(frozen=True, slots=True)
class ValueAnswer:
    """The element of the fed tensor `name` at these indices is `truth`."""

    name: str
    at: tuple[int, ...]
    truth: bool


@dataclass(slots=True)
class Answers:
    """What has been asked, in order: about sizes, and about fed values."""

    sizes: dict[Answer, None] = field(default_factory=dict)
    values: dict[ValueAnswer, None] = field(default_factory=dict)

    def hold(self, sizes: Sizes, fed: Fed) -> bool:
        """Are they the right answers for these sizes and values too?"""
        return all(a.holds(sizes) for a in self.sizes) and all(bool(fed[a.name][a.at]) is a.truth for a in self.values)


@dataclass(slots=True)
class _Answering:
    sizes: Sizes
    fed: Fed
    answers: Answers


_answering: contextvars.ContextVar[_Answering | None] = contextvars.ContextVar("answering", default=None)
_asking: contextvars.ContextVar[bool] = contextvars.ContextVar("asking", default=False)


@contextlib.contextmanager
def answering(sizes: Sizes, fed: Fed) -> Iterator[Answers]:
    """Answers questions inside. Gives the answers, to which those are added that are asked for.

    sizes: of the axes of what is fed. fed: {name: array}.
    """
    state = _Answering(sizes, fed, Answers())
    token = _answering.set(state)
    try:
        yield state.answers
    finally:
        _answering.reset(token)


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Inside, comparisons of shape arithmetic whose outcome depends on sizes are questions; outside they are left to the run."""
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)


def is_asking() -> bool:
    return _asking.get()


def ask(dim: Dim, relation: Relation) -> bool:
    """Is dim == 0, < 0 or <= 0? Raises Undecided where no sizes are given, or not all that the question is about."""
    if not isinstance(dim, Int):
        return RELATIONS[relation](dim)
    state = _answering.get()
    if state is None:
        raise Undecided(f"the form of the graph depends on whether {dim} {relation} 0")
    try:
        truth = RELATIONS[relation](number(dim, state.sizes))
    except KeyError as error:
        raise Undecided(f"the form of the graph depends on {error.args[0]}, which data decide") from None
    state.answers.sizes[Answer(dim, relation, truth)] = None
    return truth


def ask_number(dim: Dim, what: str) -> int:
    """The number that dim is in the run that the program is made for. Raises Undecided, saying what it is, where that is not known."""
    if not isinstance(dim, Int):
        return dim
    state = _answering.get()
    try:
        found = number(dim, state.sizes) if state is not None else None
    except KeyError:
        found = None
    if state is None or found is None:
        raise Undecided(f"the form of the graph depends on {what}, {dim}")
    state.answers.sizes[Answer(dim - found, "==", True)] = None
    return found


def ask_value(name: str, at: tuple[int, ...]) -> bool | None:
    """The element of the bool tensor that is fed as `name`. None while no values are given, or if that is not fed."""
    state = _answering.get()
    if state is None or name not in state.fed or state.fed[name].dtype != np.bool_:
        return None
    truth = bool(state.fed[name][at])
    state.answers.values[ValueAnswer(name, at, truth)] = None
    return truth


def number(dim: Dim, sizes: Sizes) -> int:
    """dim where the sizes are these. Raises KeyError for a symbol that is none of them.

    Defined sizes may stand on others however deep, so they are evaluated without recursion, the innermost first.
    """
    found = dict(sizes)
    waiting = defined(dim)
    while waiting:
        s = waiting[-1]
        missing = [d for d in defined(s.definition) if d not in found]
        if missing and s not in found:
            waiting += missing
            continue
        waiting.pop()
        found[s] = evaluate(s.definition, found.__getitem__)
    return evaluate(dim, found.__getitem__)


def defined(dim: Dim) -> list[Defined]:
    return [s for s in symbols(dim) if isinstance(s, Defined)]
