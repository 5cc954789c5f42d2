"""Questions about sizes that decide the form of a graph, for example: does this axis have one element? Which branch is taken?

A program has one form, for all sizes. If the form depends on a size (the rank after a Squeeze without axes, the branch of an
If on a shape), a program is compiled for one set of answers, and another program for the next set:

    with answering(sizes, fed) as answers:   the sizes of the run that the program is compiled for
        ...                                  ask() computes an answer and records it in `answers`
    answers.hold(sizes, fed)                 True if the program may also run with these sizes

Before sizes are known, a question raises Undecided, and the graph is compiled at its first run. The value of a bool input is
asked for in the same way (`ask_value`): an If whose branches have different ranks is compiled for the branch that is taken.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Defined, Dim, Int, Symbol, evaluate, symbols

Relation: TypeAlias = Literal["==", "<", "<="]
Sizes: TypeAlias = Mapping[Symbol, int]
Fed: TypeAlias = Mapping[str, npt.NDArray[Any]]

RELATIONS: Mapping[Relation, Callable[[int], bool]] = {"==": lambda n: n == 0, "<": lambda n: n < 0, "<=": lambda n: n <= 0}


class Undecided(Unsupported):
    """The form of the graph depends on a size or value that only a run supplies. The message says which."""


class Answer(Struct, frozen=True):
    """States whether `dim` is in a relation to zero. Example: Answer(n - 1, "==", True) states that n is 1."""

    dim: Dim
    relation: Relation
    truth: bool

    def holds(self, sizes: Sizes) -> bool:
        """Tell whether the answer is also right for these sizes."""
        return RELATIONS[self.relation](number(self.dim, sizes)) is self.truth


class ValueAnswer(Struct, frozen=True):
    """States that the element at this index of the input `name` is `truth`."""

    name: str
    at: tuple[int, ...]
    truth: bool


class Answers(Struct):
    """The answers given so far, in order: about sizes, and about values of inputs."""

    sizes: dict[Answer, None] = field(default_factory=dict)
    values: dict[ValueAnswer, None] = field(default_factory=dict)

    def hold(self, sizes: Sizes, fed: Fed) -> bool:
        """Tell whether all answers are also right for these sizes and values."""
        return all(a.holds(sizes) for a in self.sizes) and all(bool(fed[a.name][a.at]) is a.truth for a in self.values)


class _Answering(Struct):
    sizes: Sizes
    fed: Fed
    answers: Answers


_answering: contextvars.ContextVar[_Answering | None] = contextvars.ContextVar("answering", default=None)
_asking: contextvars.ContextVar[bool] = contextvars.ContextVar("asking", default=False)


@contextlib.contextmanager
def answering(sizes: Sizes, fed: Fed) -> Iterator[Answers]:
    """Answer the questions asked inside, and yield the `Answers` in which they are recorded.

    sizes: of the axes of all inputs. fed: {name: array}.
    """
    state = _Answering(sizes, fed, Answers())
    token = _answering.set(state)
    try:
        yield state.answers
    finally:
        _answering.reset(token)


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Turn comparisons in shape arithmetic whose outcome depends on sizes into questions. Outside, such comparisons are left
    to the run."""
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)


def is_asking() -> bool:
    """Tell whether comparisons are questions at present."""
    return _asking.get()


def ask(dim: Dim, relation: Relation) -> bool:
    """Tell whether dim == 0, < 0 or <= 0. Raises Undecided if sizes that dim depends on are not known."""
    if not isinstance(dim, Int):
        return RELATIONS[relation](dim)
    state = _answering.get()
    if state is None:
        raise Undecided(f"the form of the graph depends on whether {dim} {relation} 0")
    try:
        truth = RELATIONS[relation](number(dim, state.sizes))
    except KeyError as error:
        raise Undecided(f"the form of the graph depends on {error.args[0]}, which the model computes") from None
    state.answers.sizes[Answer(dim, relation, truth)] = None
    return truth


def ask_number(dim: Dim, what: str) -> int:
    """Return the value of dim in the run that is being compiled for. Raises Undecided, naming `what`, if it is not known."""
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
    """Return the element of the bool input `name`. None if no values are known yet, or if there is no such bool input."""
    state = _answering.get()
    if state is None or name not in state.fed or state.fed[name].dtype != np.bool_:
        return None
    truth = bool(state.fed[name][at])
    state.answers.values[ValueAnswer(name, at, truth)] = None
    return truth


def number(dim: Dim, sizes: Sizes) -> int:
    """Evaluate dim for these sizes. Raises KeyError for a symbol that is none of them.

    Defined sizes may be nested deeply, so they are evaluated without recursion, the innermost first.
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
    """List the defined sizes in dim."""
    return [s for s in symbols(dim) if isinstance(s, Defined)]
