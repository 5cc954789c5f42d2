"""Settings of the interpreter that are other than usual while sessions are made.

Making one builds hundreds of thousands of objects, nearly all of which live until it is done. Full garbage collections would look through
them again and again, for a sixth of the whole time, and find nothing; the quick ones of young objects stay, less often.

A thread that works mostly without the interpreter's lock needs it for moments, and would wait for each until the main thread has had
its turn: 5 ms by default, longer than most of what LLVM is asked for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class TemporarySetting(Generic[T]):
    """A setting that has another value as long as anybody holds it there; any number of threads may."""

    def __init__(self, get: Callable[[], T], put: Callable[[T], object], value: T) -> None:
        self._get, self._put, self._value = get, put, value
        self._lock, self._holders, self._before = threading.Lock(), 0, value
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        with self._lock:
            if self._holders == 0:
                self._before = self._get()
                self._put(self._value)
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._restore()

    def _restore(self) -> None:
        if self._get() == self._value:  # else the program has set another meanwhile
            self._put(self._before)

    def _forget(self) -> None:
        """In a forked child: those who hold on in other threads are not there to let go."""
        held, self._lock, self._holders = self._holders > 0, threading.Lock(), 0
        if held:
            self._restore()


def _set_thresholds(thresholds: tuple[int, int, int]) -> None:
    gc.set_threshold(*thresholds)


no_full_collections = TemporarySetting(gc.get_threshold, _set_thresholds, (200_000, 10, 1 << 30)).applied
short_switch_interval = TemporarySetting(sys.getswitchinterval, sys.setswitchinterval, 0.0002).applied
