"""The process's one team of threads: workers are Python threads that wait inside native code, without the GIL.

The native half (worker, dispatch, stop) comes as an image; see runtime.abi for the control block they share with it.
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
ARRIVAL_SECONDS = 5.0  # the longest wait for new workers; a run that finds fewer goes on with fewer
LEAVING_SECONDS = 5.0  # the longest wait at exit for workers that are in a run


class Team:
    """A team that starts and grows when a run asks for threads, and is rebuilt in a forked child.

    A team lives as long as the process: one is enough, see `configure`.
    """

    def __init__(self, image: Image) -> None:
        """image: has the entries worker, dispatch, stop, walk, should_stop and replay. Raises ImageError if it can't be placed or lacks one."""
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
        """Call entry(context, tid, nt) on this thread and on idle workers, on at most `threads`; return when this thread has left it.

        Others may be inside still: see `await_leaving`, before the context is used again. Its slot FLAGS says how.
        """
        self.ensure(threads)
        self._dispatch(self._control, entry, context, threads)

    def walk(self, context: int, threads: int) -> None:
        """Run the steps that the context's slot STEPS leads to, on at most so many threads."""
        self.run(self._walk, context, threads)

    def replay(
        self, context: int, plan: int, threads: int, inputs: Sequence[tuple[int, Array]], outputs: Sequence[int]
    ) -> Replay | None:
        """A function that repeats a run: plan(context), then the steps on at most so many threads; see runtime.replay.request.

        None where there is no such function. It starts no workers: see `ensure`.
        """
        if not available():
            return None
        return self._replay.bound(request(context, plan, self._walk, self._control, threads, inputs, outputs))

    def ensure(self, threads: int) -> None:
        """Start what workers are missing, if any."""
        if threads > len(self._threads) + 1:
            self.grow(threads)

    def grow(self, threads: int) -> None:
        """Start what workers are missing for runs on this many threads. A closed team starts none."""
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
        """Send the workers home, each after its job. Later runs stay on their callers' threads."""
        with self._lock:
            self._closed = True
            self._stop(self._control)
            leaving, self._threads = self._threads, []
        deadline = time.monotonic() + LEAVING_SECONDS
        for thread in leaving:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _await_arrival(self) -> None:
        """Wait until every new worker can be borrowed. One that a concurrent run has borrowed already will do."""
        states = self._states[: len(self._threads)]
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while (states == abi.ABSENT).any() and time.monotonic() < deadline:
            time.sleep(0)

    def _restart_in_child(self) -> None:
        """A forked child has none of the workers, and nobody's runs: begin anew. The lock is still held."""
        self._block[:] = 0
        self._threads = []


def _hold_over_fork(lock: threading.Lock, in_child: Callable[[], None] | None = None) -> None:
    """Let no fork happen while another thread holds the lock: the child would find it locked for good."""

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
    """The process's team; made from this image at the first call, which later calls find."""
    global _team
    with _team_lock:
        if _team is None:
            _team = Team(image)
        return _team


def current() -> Team | None:
    """The process's team, if there is one yet."""
    return _team


def _native(address: int, *arguments: type[Any]) -> Callable[..., None]:
    """A native procedure; calls of it release the GIL."""
    return ctypes.CFUNCTYPE(None, *arguments)(address)
