"""The process's team of threads: workers are Python threads that wait inside native code, without the GIL.

The native half (worker, dispatch, stop) comes as an image; runtime.abi describes the control block that both halves share.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sardonyx.runtime import abi
from sardonyx.runtime.arrays import Array
from sardonyx.runtime.cores import available_cores
from sardonyx.runtime.image import Image
from sardonyx.runtime.loader import load
from sardonyx.runtime.memory import allocate
from sardonyx.runtime.replay import Function, Replay, available, request

MOST_WORKERS = 1023
ARRIVAL_SECONDS = 5.0  # the longest wait for new workers; a run starts with those that have arrived
LEAVING_SECONDS = 5.0  # the longest wait, when the process exits, for workers that are in a run


class Team:
    """Threads that are started when a run asks for them, and again in a forked child.

    A process has one team, which lives as long as the process; see `configure`.
    """

    def __init__(self, image: Image) -> None:
        """Place the image, which has the entries worker, dispatch, stop, walk, should_stop and replay. Raises ImageError if it
        can't be placed or lacks an entry.
        """
        self.image = load(image)
        self._worker = _native(self.image.address("worker"), ctypes.c_void_p, ctypes.c_int64)
        self._dispatch = _native(self.image.address("dispatch"), ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
        self._stop = _native(self.image.address("stop"), ctypes.c_void_p)
        self._walk = self.image.address("walk")
        self.should_stop = self.image.address("should_stop")
        self._replay = Function(self.image.address("replay"))
        self._block = allocate(abi.control_bytes(MOST_WORKERS))
        self._block[:] = 0
        self._control = self._block.ctypes.data
        self._workers = self._block[abi.CONTROL_WORKERS :][:8].view(np.int64)
        self._states = self._block.view(np.int32)[abi.CONTROL_RECORDS // 4 :: abi.RECORD_BYTES // 4]
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._lock = threading.Lock()
        self.size = available_cores()
        _hold_over_fork(self._lock, self._restart_in_child)
        atexit.register(self.close)

    def run(self, entry: int, context: int, threads: int) -> None:
        """Call entry(context, tid, nt) on this thread and on idle workers, at most `threads` threads in all. Return when this
        thread has left the entry.

        Workers may still be inside: call `Context.await_leaving` before the context is used again. The context's slot FLAGS
        holds the run's flags.
        """
        self.ensure(threads)
        self._dispatch(self._control, entry, context, threads)

    def walk(self, context: int, threads: int) -> None:
        """Execute the step table whose address is in the context's slot STEPS, on at most `threads` threads."""
        self.run(self._walk, context, threads)

    def replay(
        self, context: int, plan: int, threads: int, inputs: Sequence[tuple[int, Array]], outputs: Sequence[int]
    ) -> Replay | None:
        """Return a function that repeats a run: plan(context), then the steps, on at most `threads` threads; see
        runtime.replay.request.

        None if replays aren't available. The function starts no workers: call `ensure` first.
        """
        if not available():
            return None
        return self._replay.bound(request(context, plan, self._walk, self._control, threads, inputs, outputs))

    def ensure(self, threads: int) -> None:
        """Start the workers that are missing for runs on this many threads, if any."""
        if threads > len(self._threads) + 1:
            self.grow(threads)

    def grow(self, threads: int) -> None:
        """Start the missing workers for runs on this many threads. A closed team starts none."""
        wanted = min(threads - 1, MOST_WORKERS)
        with self._lock:
            if self._closed:
                return
            for index in range(len(self._threads), wanted):
                thread = threading.Thread(
                    target=self._worker, args=(self._control, index), name=f"sardonyx-{index + 1}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
                self._workers[0] = len(self._threads)
            self._await_arrival()

    def close(self) -> None:
        """Stop the workers, each after its job. Later runs use their callers' threads only."""
        with self._lock:
            self._closed = True
            self._stop(self._control)
            leaving, self._threads = self._threads, []
        deadline = time.monotonic() + LEAVING_SECONDS
        for thread in leaving:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _await_arrival(self) -> None:
        """Wait until every new worker is idle, or has already been borrowed by a concurrent run."""
        states = self._states[: len(self._threads)]
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while (states == abi.ABSENT).any() and time.monotonic() < deadline:
            time.sleep(0)

    def _restart_in_child(self) -> None:
        """Reset the team in a forked child, which has no workers and no runs. The lock is still held."""
        self._block[:] = 0
        self._threads = []


def _hold_over_fork(lock: threading.Lock, in_child: Callable[[], None] | None = None) -> None:
    """Acquire the lock before a fork and release it after, because a child could never acquire a lock that another thread held."""

    def after_in_child() -> None:
        if in_child is not None:
            in_child()
        lock.release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=after_in_child)


_team: Team | None = None
_team_lock = threading.Lock()
_hold_over_fork(_team_lock)


def configure(image: Image) -> Team:
    """Return the process's team. The first call makes it from this image."""
    global _team
    with _team_lock:
        if _team is None:
            _team = Team(image)
        return _team


def current() -> Team | None:
    """Return the process's team; None if there is none yet."""
    return _team


def _native(address: int, *arguments: type[Any]) -> Callable[..., None]:
    """Return a native procedure as a Python function, which releases the GIL when called."""
    return ctypes.CFUNCTYPE(None, *arguments)(address)
