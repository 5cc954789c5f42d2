"""Run work on one background thread, most urgent first.

LLVM and file reads release Python's lock, so a kernel can be compiled while the next one is emitted. The thread exists from
the first submitted work to the end of the `with` statement.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from sardonyx.base.interpreter_settings import short_switch_interval

T = TypeVar("T")


class Background:
    """A priority queue and the thread that executes it. If the `with` statement fails, work that has not begun is cancelled."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._switching = short_switch_interval()
        self._lock = threading.Lock()
        self._waiting: list[tuple[bool, int, Future[Any], Callable[[], Any]]] = []
        self._count = itertools.count()

    def __enter__(self) -> Background:
        self._switching.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._pool.shutdown(cancel_futures=error is not None)
        finally:
            self._switching.__exit__(None, None, None)

    def submit(self, work: Callable[[], T], urgent: bool = False) -> Future[T]:
        """Queue work; return the future of its result or exception. Urgent work is executed before other work."""
        result: Future[T] = Future()
        with self._lock:
            heapq.heappush(self._waiting, (not urgent, next(self._count), result, work))
        self._pool.submit(self._next)
        return result

    def _next(self) -> None:
        with self._lock:
            _, _, result, work = heapq.heappop(self._waiting)
        try:
            done = work()
        except BaseException as error:  # raised where the result is asked for
            result.set_exception(error)
        else:
            result.set_result(done)
