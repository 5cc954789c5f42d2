"""Builds parts of a session that are not in the cache: when one of them first runs, the whole model is built as it was the first
time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from sardonyx.base.errors import Fail
from sardonyx.providers.base import Executable
from sardonyx.providers.lazy import Lazy
from sardonyx.runtime.cache import Cache
from sardonyx.session.late import LateSubgraph, Variant
from sardonyx.session.session_parts import SessionParts
from sardonyx.session.stored_variants import Store


class Rebuilder:
    """Provides the parts of one session that are not stored. build: builds the session from its model; returns None if the model
    has changed.
    """

    def __init__(self, build: Callable[[], SessionParts | None], cache: Cache, key: str, threads: int) -> None:
        self._build, self._cache, self._key, self._threads = build, cache, key, threads
        self._built: SessionParts | None = None
        self._lock = threading.Lock()

    def executable(self, number: int) -> Executable:
        """Return the executable of a step. Raises Fail if the model has changed, and whatever loading it raises."""
        with self._lock:
            if self._built is None:
                self._built = self._build()
            if self._built is None:
                raise Fail(
                    "A part of this session has to be compiled for this run, but its model has changed since the session was made."
                )
            return self._built.program.steps[number].executable

    def lazy(self, number: int, description: str) -> Executable:
        """Return an executable that is built when it first runs."""
        return Lazy(lambda: self.executable(number), description)

    def late(self, number: int, names: Sequence[str]) -> LateSubgraph:
        """Return a sub-graph with stored variants; further variants are compiled."""

        def specialise(inputs: Sequence[Any]) -> Variant:
            there = self.executable(number)
            if not isinstance(there, LateSubgraph):
                raise Fail(
                    "A part of this session has to be compiled for this run, but the model has changed since the session was made."
                )
            return there.specialise(inputs)

        return LateSubgraph(names, specialise, self.store(number))

    def store(self, number: int) -> Store:
        """Return the store of a step's variants."""
        return Store(self._cache, self._key, number, self._threads)
