"""A compiled model: executables that run one after the other and pass values by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from sardonyx.base.context import QUIET, RunContext
from sardonyx.providers.base import Executable, copied_into
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.device import Copies, Target


class ModelStep(Struct, frozen=True):
    """An executable, with the names of the values that it reads and writes, in its order."""

    provider: str
    executable: Executable
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class CompiledModel(Struct, frozen=True):
    """The steps of a model, in the order in which they run.

    inputs: names of the values that are fed. outputs: names of the model's outputs. constants: values of initializers that
    are outputs, or inputs with a default. on_devices: do providers of the session have memories of their own?
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Any]
    steps: tuple[ModelStep, ...]
    on_devices: bool = False

    def values(self) -> set[str]:
        """Return the names of all values that can be requested as outputs."""
        return {*self.inputs, *self.constants, *(name for step in self.steps for name in step.outputs)}

    def plan(self, outputs: Sequence[str]) -> Plan:
        """Plan how to compute these outputs, leaving out steps that they don't need."""
        wanted = set(outputs)
        needed: list[ModelStep] = []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.outputs):
                wanted.update(step.inputs)
                needed.append(step)
        told = self.inputs, tuple(outputs), self.constants, tuple(needed[::-1])
        if not self.on_devices:
            return ExecutionPlan(*told)
        from sardonyx.session.device_plan import DevicePlan  # most sessions run on the CPU alone

        return DevicePlan(*told)

    def close(self) -> None:
        """Close every executable."""
        for step in self.steps:
            step.executable.close()


class Plan(Protocol):
    """Computes certain outputs of a compiled model."""

    @property
    def steps(self) -> tuple[ModelStep, ...]: ...

    def replay(self, feed: Mapping[str, Any]) -> list[Any] | None:
        """Return the outputs if an earlier run can be repeated; else None. feed: unchecked values by name."""

    def replay_into(self, feed: Mapping[str, Any], targets: Mapping[str, Any]) -> list[Any] | None:
        """Like `replay`; outputs with an array in `targets` are written there, see `Executable.run_into`."""

    def run(self, arrays: list[Any], context: RunContext, overrides: Mapping[str, Any] | None = None) -> list[Any]:
        """Compute the outputs. arrays: values of the inputs, in order. overrides: values for inputs that have a default."""

    def run_or_replay(self, arrays: list[Any], context: RunContext) -> list[Any]:
        """Like `run`, but replay an earlier run if possible."""

    def run_into(
        self, arrays: list[Any], targets: Mapping[str, Any], context: RunContext, overrides: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Like `run`; outputs in `targets` are written there."""

    def run_copies(self, inputs: Sequence[Copies], targets: Mapping[str, Target], context: RunContext) -> list[Copies]:
        """Compute the outputs from values wherever they are, and leave them where they are computed, or in tensors among the
        targets.
        """


Call = tuple[Executable, list[int], slice, list[int]]
"""An executable, the indices of the values that it reads and writes, and those of values that no later step reads."""


class ExecutionPlan:
    """The steps that compute certain outputs. Values are kept in a list, each name at a fixed index; a step's outputs are
    adjacent.
    """

    __slots__ = ("_calls", "_direct", "_given", "_inputs", "_names", "_outputs", "_places", "_rest", "_single", "_start", "steps")

    def __init__(
        self, inputs: tuple[str, ...], outputs: tuple[str, ...], constants: Mapping[str, Any], steps: tuple[ModelStep, ...]
    ) -> None:
        self._inputs, self._names, self.steps = inputs, outputs, steps
        self._direct = bool(steps) and steps[0].inputs == inputs
        self._single = steps[0].executable if self._direct and len(steps) == 1 and steps[0].outputs == outputs else None
        names = [*inputs, *constants, *(name for step in steps for name in step.outputs)]
        self._places = places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        self._start: list[Any] = [constants.get(name) for name in places]
        given = {*inputs, *constants}
        self._outputs = [places[name] for name in outputs]
        self._given = [index for index, name in enumerate(outputs) if name in given]
        self._calls: list[Call] = [
            (
                step.executable,
                [places[name] for name in step.inputs],
                slice(places[step.outputs[0]], places[step.outputs[-1]] + 1),
                [places[name] for name in done_with],
            )
            for step, done_with in zip(steps, lifetimes(steps, outputs), strict=True)
        ]
        self._rest = self._calls[1:]

    def replay(self, feed: Mapping[str, Any]) -> list[Any] | None:
        """Return the outputs if the first executable takes exactly the inputs and can repeat an earlier run; else None.

        feed: unchecked values by name.
        """
        if not self._direct or len(feed) != len(self._inputs):
            return None
        try:
            arrays = [feed[name] for name in self._inputs]
        except KeyError:
            return None
        executable, _, writes, done_with = self._calls[0]
        results = executable.replay(arrays)
        if results is None or self._single is not None:
            return results
        values = self._start.copy()
        values[: len(arrays)] = arrays
        values[writes] = results
        for place in done_with:
            values[place] = None
        return self.finish(values, self._rest, QUIET)

    def replay_into(self, feed: Mapping[str, Any], targets: Mapping[str, Array]) -> list[Any] | None:
        """Like `replay`, for a plan with one step; outputs with an array in `targets` are written there, see `run_into`."""
        if self._single is None or len(feed) != len(self._inputs):
            return None
        try:
            arrays = [feed[name] for name in self._inputs]
        except KeyError:
            return None
        return self._single.replay(arrays, [targets.get(name) for name in self._names])

    def run_or_replay(self, arrays: list[Any], context: RunContext) -> list[Any]:
        """Like `run`, but replay an earlier run if possible."""
        return self.run(arrays, context) if self._single is None else execute(self._single, arrays, context)

    def run(self, arrays: list[Any], context: RunContext, overrides: Mapping[str, Any] | None = None) -> list[Any]:
        """Compute the outputs. arrays: values of the inputs, in order. overrides: values for inputs that have a default."""
        if self._single is not None and not overrides:
            return self._single.run(arrays, context)
        values = self._start.copy()
        values[: len(arrays)] = arrays
        for name, value in (overrides or {}).items():
            values[self._places[name]] = value
        return self.finish(values, self._calls, context)

    def run_into(
        self,
        arrays: list[Any],
        targets: Mapping[str, Array],
        context: RunContext,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Like `run`; outputs with an array in `targets` are written there. `Executable.run_into` states what the arrays have to
        be.
        """
        values = self._start.copy()
        values[: len(arrays)] = arrays
        for name, value in (overrides or {}).items():
            values[self._places[name]] = value
        for step, (executable, reads, writes, done_with) in zip(self.steps, self._calls, strict=True):
            context.check()
            inputs, into = [values[place] for place in reads], [targets.get(name) for name in step.outputs]
            if any(array is not None for array in into):
                values[writes] = executable.run_into(inputs, into, context)
            else:
                values[writes] = execute(executable, inputs, context)
            for place in done_with:
                values[place] = None
        found = [values[place] for place in self._outputs]
        for index in self._given:
            target = targets.get(self._names[index])
            found[index] = copied(found[index]) if target is None else copied_into(found[index], target)
        return found

    def run_copies(self, inputs: Sequence[Copies], targets: Mapping[str, Target], context: RunContext) -> list[Copies]:
        return [Copies(value) for value in self.run_or_replay([x.on(None) for x in inputs], context)]

    def finish(self, values: list[Any], calls: Sequence[Call], context: RunContext) -> list[Any]:
        """Run these calls on the values, and return the outputs."""
        for executable, reads, writes, done_with in calls:
            context.check()
            values[writes] = execute(executable, [values[place] for place in reads], context)
            for place in done_with:
                values[place] = None
        found = [values[place] for place in self._outputs]
        for index in self._given:
            found[index] = copied(found[index])
        return found


def execute(executable: Executable, inputs: list[Any], context: RunContext) -> list[Any]:
    """Run an executable, replaying an earlier run if the inputs are like its inputs and the run isn't traced or limited."""
    found = executable.replay(inputs) if context is QUIET else None
    return executable.run(inputs, context) if found is None else found


def copied(value: Any) -> Any:
    """Copy an output that is an input or a constant, so that the caller may change it."""
    return value.copy() if isinstance(value, np.ndarray | list | dict) else value


def lifetimes(steps: Sequence[ModelStep], outputs: Sequence[str]) -> list[list[str]]:
    """Return, for each step, the names of values that no later step reads."""
    kept = set(outputs)
    written = {name for step in steps for name in step.outputs}
    out: list[list[str]] = []
    for step in reversed(steps):
        last = [name for name in {*step.inputs, *step.outputs} if name in written and name not in kept]
        kept.update(last)
        out.append(last)
    return out[::-1]
