"""An executable that is built when it first runs, because building it needs slow imports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from sardonyx.base.context import QUIET, RunContext
from sardonyx.providers.base import Executable
from sardonyx.runtime.device import Copies, Target


class Lazy(Executable):
    """Takes the place of an executable until its first run. Several threads may run it at once; one of them builds it."""

    def __init__(self, make: Callable[[], Executable], description: str) -> None:
        self._make, self._description = make, description
        self._made: Executable | None = None
        self._lock = threading.Lock()

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return self.made().run(inputs, context)

    def run_copies(self, inputs: Sequence[Copies], targets: Sequence[Target], context: RunContext) -> list[Copies]:
        return self.made().run_copies(inputs, targets, context)

    def made(self) -> Executable:
        """Return the executable, building it first if necessary."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def assignment(self) -> Sequence[Any]:
        return self._made.assignment() if self._made is not None else ()

    def describe(self) -> str:
        return self._description

    def to_bytes(self) -> bytes | None:
        return self.made().to_bytes()

    def close(self) -> None:
        if self._made is not None:
            self._made.close()
