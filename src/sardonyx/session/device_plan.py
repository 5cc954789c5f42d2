"""The plan of a session whose providers have memories of their own. A value is copied where a step needs it and it isn't yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sardonyx.base.context import RunContext
from sardonyx.providers.base import copied_into
from sardonyx.runtime.device import Copies, Device, Target, home
from sardonyx.session.compiled_model import ModelStep, lifetimes


class DevicePlan:
    """The steps that compute certain outputs. Each value has one copy in each memory that steps or the caller need it in."""

    __slots__ = ("_constants", "_done_with", "_inputs", "_outputs", "steps")

    def __init__(
        self, inputs: tuple[str, ...], outputs: tuple[str, ...], constants: Mapping[str, Any], steps: tuple[ModelStep, ...]
    ) -> None:
        self._inputs, self._outputs, self.steps = inputs, outputs, steps
        self._constants = {name: Copies(value, lent=True) for name, value in constants.items()}  # copied to a device once
        self._done_with = lifetimes(steps, outputs)

    def replay(self, feed: Mapping[str, Any]) -> list[Any] | None:
        """Return None: each run is done anew."""
        return None

    def replay_into(self, feed: Mapping[str, Any], targets: Mapping[str, Any]) -> list[Any] | None:
        """Return None, see `replay`."""
        return None

    def run(self, arrays: list[Any], context: RunContext, overrides: Mapping[str, Any] | None = None) -> list[Any]:
        """Compute the outputs, in the CPU's memory. arrays: values of the inputs, in order, in any memory. overrides: values for
        inputs that have a default.
        """
        return self.run_into(arrays, {}, context, overrides)

    run_or_replay = run

    def run_into(
        self,
        arrays: list[Any],
        targets: Mapping[str, Target],
        context: RunContext,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Like `run`; outputs in `targets` are written there, or stay on the device that `targets` has for them."""
        given = {name: Copies(value, lent=True) for name, value in (overrides or {}).items()}
        found = self.compute([Copies(x, lent=True) for x in arrays], targets, context, given)
        return [delivered(name, value, targets.get(name)) for name, value in zip(self._outputs, found, strict=True)]

    def run_copies(self, inputs: Sequence[Copies], targets: Mapping[str, Target], context: RunContext) -> list[Copies]:
        """Compute the outputs from values wherever they are, and leave them where they are computed, or in tensors among the
        targets.
        """
        return self.compute(inputs, targets, context, {})

    def compute(
        self, inputs: Sequence[Copies], targets: Mapping[str, Target], context: RunContext, overrides: Mapping[str, Copies]
    ) -> list[Copies]:
        """Run the steps and return the outputs, wherever they are."""
        values = {**self._constants, **dict(zip(self._inputs, inputs, strict=True)), **overrides}
        for step, done_with in zip(self.steps, self._done_with, strict=True):
            context.check()
            read, into = [values[name] for name in step.inputs], [targets.get(name) for name in step.outputs]
            values.update(zip(step.outputs, step.executable.run_copies(read, into, context), strict=True))
            for name in done_with:
                del values[name]
        return [values[name] for name in self._outputs]


def delivered(name: str, value: Copies, target: Target) -> Any:
    """Return an output in its target, copying it unless it has been written there. The caller may change what is returned."""
    if target is None or isinstance(target, Device):
        return value.owned(target)
    found = value.nearest(home(target))
    return found if found is target else copied_into(found, target, name)
