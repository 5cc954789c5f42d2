"""An executable that is made at its first run, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from sardonyx.base.context import QUIET, RunContext
from sardonyx.providers.base import Executable
from sardonyx.providers.lazy import Lazy


class Echo(Executable):
    closed = False

    def run(self, inputs: Sequence[Any], context: RunContext = QUIET) -> list[Any]:
        return list(inputs)

    def describe(self) -> str:
        return "echo"

    def to_bytes(self) -> bytes | None:
        return b"echo"

    def close(self) -> None:
        self.closed = True


def test_it_is_made_once_by_whoever_comes_first():
    made: list[Echo] = []

    def make() -> Executable:
        time.sleep(0.01)
        made.append(Echo())
        return made[-1]

    lazy = Lazy(make, "an echo")
    assert lazy.describe() == "an echo"
    lazy.close()
    assert made == []
    found: list[list[Any]] = []
    threads = [threading.Thread(target=lambda i=i: found.append(lazy.run([i]))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [[0], [1], [2], [3]]
    assert len(made) == 1
    assert lazy.to_bytes() == b"echo"
    lazy.close()
    assert made[0].closed
