"""A compiled graph as an executable. Neither running it nor loading it from the cache needs the compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sardonyx.base.context import QUIET, RunContext
from sardonyx.base.errors import InvalidArgument
from sardonyx.providers.base import Executable
from sardonyx.runtime.arrays import Array, quick_check
from sardonyx.runtime.draws import STATE, Draws
from sardonyx.runtime.execution import Program


class NativeGraph(Executable):
    """A native program for one graph."""

    def __init__(self, program: Program, threads: int, description: Callable[[], str]) -> None:
        """threads: the most threads of a run. description: describes what the compiler made of the graph."""
        self.program, self.threads, self._description = program, threads, description
        self._draws = Draws() if any(port.name == STATE for port in program.spec.inputs) else None
        self._quick = [quick_check([n if n >= 0 else None for n in port.shape]) for port in program.spec.inputs]

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return self.program.run(self.checked(inputs), self.threads, context)

    def checked(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return what the program is fed: the inputs, and the state of random operators. Raises InvalidArgument for a wrong rank
        or fixed size.
        """
        if self._draws is not None:
            inputs = [*inputs, self._draws.next()]
        for x, (rank, fixed, sizes) in zip(inputs, self._quick, strict=True):
            if len(x.shape) != rank or (fixed is not None and fixed(x.shape) != sizes):
                self.check(inputs)
        return inputs

    def replay(self, inputs: list[Any], outputs: Sequence[Array | None] | None = None) -> list[Any] | None:
        return None if self._draws is not None else self.program.replay(inputs, self.threads, outputs)

    def run_into(self, inputs: Sequence[Any], outputs: Sequence[Array | None], context: RunContext = QUIET) -> list[Any]:
        found = self.replay(list(inputs), outputs) if context is QUIET else None
        if found is not None:
            return found
        return self.program.run(self.checked(inputs), self.threads, context, outputs)

    def check(self, inputs: Sequence[Any]) -> None:
        """Raise InvalidArgument for an input with a wrong rank or fixed size."""
        for x, port in zip(inputs, self.program.spec.inputs, strict=True):
            if x.ndim != len(port.shape) or any(n >= 0 and n != got for n, got in zip(port.shape, x.shape, strict=True)):
                raise InvalidArgument(f"input {port.name} has shape {list(x.shape)}, not {list(port.shape)}")

    def describe(self) -> str:
        return self._description()

    def close(self) -> None:
        self.program.close()
