"""Define what a step of lowering is: a name, a function, the fields of values that it may read and set, and whether it may be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from sardonyx.base.steps import run_steps

if TYPE_CHECKING:  # a protocol takes long to make
    from typing import Protocol

    class Told(Protocol):
        """What steps work on. Debug levels print it as text."""

        def text(self) -> str: ...


State = TypeVar("State", bound="Told")


class Step(Struct, Generic[State], frozen=True):
    """run works on the state in place. optional: a program that computes the same results without it. check: raises LoweringError for
    what may not be after the step; it is called also where the step is left out.

    reads, sets: the fields of values (lower.values) that the step may read or set, those of values that it makes itself excepted.
    """

    name: str
    run: Callable[[State], object]
    optional: bool = False
    check: Callable[[State], object] | None = None
    reads: str = ""
    sets: str = ""


def run_list(steps: Sequence[Step[State]], state: State, first: int, last_optional: int, title: str) -> None:
    """Run the steps, numbered from `first`. Optional steps after number `last_optional` are left out; their checks are not."""
    chosen = [(n, s) for n, s in enumerate(steps, first) if not s.optional or n <= last_optional or s.check is not None]
    numbered = [(n, Checked(s, not s.optional or n <= last_optional)) for n, s in chosen]
    run_steps(numbered, state, title, lambda s: s.text())


class Checked(Struct, Generic[State], frozen=True):
    """A step with the check that follows it."""

    step: Step[State]
    wanted: bool

    @property
    def name(self) -> str:
        return self.step.name if self.wanted else f"{self.step.name}, left out"

    def run(self, state: State) -> None:
        if self.wanted:
            self.step.run(state)
        if self.step.check is not None:
            self.step.check(state)
