"""Settings of the Python interpreter that are changed while this package is imported and while sessions are created.

Modules stay for good, and creating a session allocates millions of objects, nearly all of which live until it is done. Garbage
collections would traverse them for nothing, in 8 to 11 % of the time. The largest cyclic structures are taken apart after use
instead (see `codegen.compile.print_module`). A collection still runs after ten million new objects (about 1 GB), because other
threads of the program may produce garbage meanwhile.

A background thread that mostly runs without the interpreter's lock needs it for short moments. It would wait for up to the
switch interval each time: 5 ms by default, longer than most compilations by LLVM.
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
    """An interpreter setting that has another value while any number of threads need it."""

    def __init__(self, get: Callable[[], T], put: Callable[[T], object], value: T) -> None:
        self._get, self._put, self._value = get, put, value
        self._lock, self._holders, self._before = threading.Lock(), 0, value
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the value inside the block. The last block to end restores the setting."""
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
        if self._get() == self._value:  # else the program has changed the setting meanwhile
            self._put(self._before)

    def _forget(self) -> None:
        """Restore the setting in a forked child, where the threads that needed it don't exist."""
        held, self._lock, self._holders = self._holders > 0, threading.Lock(), 0
        if held:
            self._restore()


def _set_thresholds(thresholds: tuple[int, int, int]) -> None:
    gc.set_threshold(*thresholds)


rare_collections = TemporarySetting(gc.get_threshold, _set_thresholds, (10_000_000, 10, 1 << 30)).applied
short_switch_interval = TemporarySetting(sys.getswitchinterval, sys.setswitchinterval, 0.0002).applied
