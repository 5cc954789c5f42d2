"""A compiled model: executables, run one after the other, with values passed between them by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sardonyx.base.context import QUIET, RunContext
from sardonyx.providers.base import Executable


@dataclass(frozen=True, slots=True)
class Step:
    """An executable and the names of what it reads and writes, in its order."""

    provider: str
    executable: Executable
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """The steps of a model, in order.

    inputs: names of what is fed, in order. outputs: the model's own. constants: those initializers that are outputs, or inputs
    with a default.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Any]
    steps: tuple[Step, ...]

    def values(self) -> set[str]:
        """Every name whose value can be asked for."""
        return {*self.inputs, *self.constants, *(name for step in self.steps for name in step.outputs)}

    def plan(self, outputs: Sequence[str]) -> Plan:
        """How to get these outputs; steps that they don't need are left out."""
        wanted = set(outputs)
        needed: list[Step] = []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.outputs):
                wanted.update(step.inputs)
                needed.append(step)
        return Plan(self.inputs, tuple(outputs), self.constants, tuple(needed[::-1]))

    def close(self) -> None:
        for step in self.steps:
            step.executable.close()


class Plan:
    """The steps that lead to certain outputs."""

    __slots__ = ("_constants", "_done_with", "_inputs", "_outputs", "_single", "steps")

    def __init__(
        self, inputs: tuple[str, ...], outputs: tuple[str, ...], constants: Mapping[str, Any], steps: tuple[Step, ...]
    ) -> None:
        self._inputs, self._outputs, self._constants, self.steps = inputs, outputs, constants, steps
        direct = len(steps) == 1 and steps[0].inputs == inputs and steps[0].outputs == outputs
        self._single = steps[0].executable if direct else None
        self._done_with = lifetimes(steps, outputs)

    def again(self, feed: Mapping[str, Any]) -> list[Any] | None:
        """The outputs, if the model is one executable and has run on inputs like these before; None if not. Nothing is checked yet."""
        if self._single is None or len(feed) != len(self._inputs):
            return None
        try:
            arrays = [feed[name] for name in self._inputs]
        except KeyError:
            return None
        return self._single.again(arrays)

    def repeat(self, arrays: list[Any], context: RunContext) -> list[Any]:
        """As `run`, for a caller that has not tried the short way of `again`."""
        return self.run(arrays, context) if self._single is None else execute(self._single, arrays, context)

    def run(self, arrays: list[Any], context: RunContext, overrides: Mapping[str, Any] | None = None) -> list[Any]:
        """The outputs for the inputs' values. `overrides`: values for inputs that have a default."""
        if self._single is not None and not overrides:
            return self._single.run(arrays, context)
        values: dict[str, Any] = dict(zip(self._inputs, arrays, strict=True))
        values.update(self._constants)
        values.update(overrides or {})
        fed = {id(value) for value in values.values()}
        for step, done_with in zip(self.steps, self._done_with, strict=True):
            context.check()
            results = execute(step.executable, [values[name] for name in step.inputs], context)
            values.update(zip(step.outputs, results, strict=True))
            for name in done_with:
                del values[name]
        return [copied(values[name]) if id(values[name]) in fed else values[name] for name in self._outputs]


def execute(executable: Executable, inputs: list[Any], context: RunContext) -> list[Any]:
    """The executable's outputs, by the short way where a run before had inputs like these and nobody watches."""
    found = executable.again(inputs) if context is QUIET else None
    return executable.run(inputs, context) if found is None else found


def copied(value: Any) -> Any:
    """A copy of an output that is an input or a constant, so that the caller may change it."""
    return value.copy() if isinstance(value, np.ndarray | list | dict) else value


def lifetimes(steps: Sequence[Step], outputs: Sequence[str]) -> list[list[str]]:
    """For each step, the names that nobody reads after it, of those that a step writes."""
    kept = set(outputs)
    written = {name for step in steps for name in step.outputs}
    out: list[list[str]] = []
    for step in reversed(steps):
        last = [name for name in {*step.inputs, *step.outputs} if name in written and name not in kept]
        kept.update(last)
        out.append(last)
    return out[::-1]
