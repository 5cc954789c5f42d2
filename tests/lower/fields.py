"""Which fields of values a step of lowering reads and sets, seen from outside: `watch()` records every access.

What a step does with values that it makes itself is its own: such accesses are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sardonyx.lower.values import Value

MEMOS = frozenset({"form", "covered"})
"""Fields that repeat what others say."""
FIELDS = tuple(name for name in Value.__slots__ if name not in MEMOS | {"tensor"})


@dataclass
class Accesses:
    """Fields that were read and set since `begin`."""

    read: set[str] = field(default_factory=set)
    set: set[str] = field(default_factory=set)
    made: list[Value] = field(default_factory=list)
    """Since then: kept, so that no two have one id."""

    def begin(self) -> None:
        self.read, self.set, self.made = set(), set(), []
        self.own: set[int] = set()


@contextmanager
def watch() -> Iterator[Accesses]:
    """Records accesses to fields of all values while it is open."""
    found = Accesses()
    found.begin()
    plain = {name: Value.__dict__[name] for name in FIELDS}
    make = Value.__init__

    def made(self: Value, tensor: Any) -> None:
        found.own.add(id(self))
        found.made.append(self)
        make(self, tensor)

    def watched(name: str) -> property:
        slot = plain[name]

        def read(self: Value) -> Any:
            if id(self) not in found.own:
                found.read.add(name)
            return slot.__get__(self)

        def write(self: Value, x: Any) -> None:
            if id(self) not in found.own:
                found.set.add(name)
            slot.__set__(self, x)

        return property(read, write)

    Value.__init__ = made  # type: ignore[method-assign]
    for name in FIELDS:
        setattr(Value, name, watched(name))
    try:
        yield found
    finally:
        Value.__init__ = make  # type: ignore[method-assign]
        for name in FIELDS:
            setattr(Value, name, plain[name])


def watched_lists(found: dict[str, tuple[set[str], set[str]]]) -> Any:
    """A `run_list` that runs every step and adds what each of them reads and sets to found: {step: (read, set)}."""

    def run(steps: Any, state: Any, first: int, last_optional: int, title: str) -> None:
        with watch() as accesses:
            for step in steps:
                accesses.begin()
                step.run(state)
                read, was_set = found.setdefault(step.name, (set(), set()))
                read |= accesses.read
                was_set |= accesses.set

    return run
