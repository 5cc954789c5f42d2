"""One execution in a forked child process, with limits on its time and memory.

The parent has imported what executions need, so that a child costs a fork only. The child makes the input, stores it in a file
where the parent finds it whatever happens, runs it, and sends its outcome through a pipe.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_FRAME = re.compile(r'File "[^"]*?/sardonyx/([^"]+)", line \d+ in (\S+)')
MOST_TEXT = 20_000  # characters of a child's output that are kept


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an execution: seconds of processor time, seconds of real time, bytes of address space beyond the parent's.

    Both times are limited, because a deadlock takes no processor time, and on a busy machine real time exceeds what an execution
    needs.
    """

    processor: float = 10.0
    clock: float = 60.0
    memory: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended.

    label: a few words, equal for executions that end alike; campaigns count labels. finding: empty if nothing is wrong, else one
    line that is equal for all inputs which show this fault. details: for whoever fixes it.
    """

    label: str
    finding: str = ""
    details: str = ""


class Child:
    """A running execution. It owns `folder` until `end` has been called."""

    def __init__(self, make: Callable[[], bytes], run: Callable[[bytes], Outcome], limits: Limits, folder: Path) -> None:
        self.limits, self.folder = limits, folder
        self.start = time.monotonic()
        self._received = b""
        self._status: int | None = None
        self.pipe, sending = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(self.pipe)
            _live(make, run, limits, folder, sending)
        os.close(sending)

    def ended(self, seconds: float) -> bool:
        """Wait at most this many seconds. Returns whether the child has sent its outcome or died."""
        if not select.select([self.pipe], [], [], seconds)[0]:
            return False
        piece = os.read(self.pipe, 1 << 16)
        self._received += piece
        return not piece

    def overdue(self) -> bool:
        """Return whether the child exceeds a time limit."""
        spent = time.monotonic() - self.start
        return spent > self.limits.clock or (
            spent > self.limits.processor and processor_seconds(self.process) > self.limits.processor
        )

    def end(self, overdue: bool = False) -> tuple[bytes, Outcome]:
        """Return (input, outcome). An overdue child is made to print its stack, then killed."""
        if overdue:
            os.kill(self.process, signal.SIGABRT)
            if not self._gone(2.0):
                os.kill(self.process, signal.SIGKILL)
        status = self._status if self._status is not None else os.waitpid(self.process, 0)[1]
        os.close(self.pipe)
        printed = (self.folder / "printed").read_text(errors="replace")[-MOST_TEXT:]
        path = self.folder / "input"
        return path.read_bytes() if path.exists() else b"", self._outcome(status, overdue, printed)

    def _gone(self, seconds: float) -> bool:
        """Wait at most this many seconds. Returns whether the process ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                self._status = status
                return True
            time.sleep(0.02)
        return False

    def _outcome(self, status: int, overdue: bool, printed: str) -> Outcome:
        """Return the outcome: a hang, a signal, or what the child sent."""
        if overdue:
            return Outcome("hang", f"hang: {place(printed)}", printed)
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return Outcome(name, f"{name}: {place(printed)}", printed)
        try:
            return Outcome(**json.loads(self._received))
        except (ValueError, TypeError):
            return Outcome("exit", f"the process ended with status {os.waitstatus_to_exitcode(status)}", printed)


def execute(make: Callable[[], bytes], run: Callable[[bytes], Outcome], limits: Limits, folder: Path) -> tuple[bytes, Outcome]:
    """Run one execution and wait for it. Returns (input, outcome)"""
    child = Child(make, run, limits, folder)
    while not child.ended(0.2):
        if child.overdue():
            return child.end(overdue=True)
    return child.end()


def _live(make: Callable[[], bytes], run: Callable[[bytes], Outcome], limits: Limits, folder: Path, pipe: int) -> NoReturn:
    """Run an execution in the child process, then exit."""
    try:
        printed = os.open(folder / "printed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        faulthandler.enable(printed, all_threads=True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        data = make()
        (folder / "input").write_bytes(data)
        most = address_space() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        outcome = run(data)
        told = json.dumps({"label": outcome.label, "finding": outcome.finding, "details": outcome.details[:MOST_TEXT]})
        os.write(pipe, told.encode())
    except BaseException:
        # A fault of the fuzzer itself. It is sent as text and must not propagate: the stack is a copy of the parent's.
        os.write(2, traceback.format_exc().encode())
        os._exit(70)
    os._exit(0)


def place(printed: str) -> str:
    """Return where a process died, from what faulthandler printed: the innermost frame in the package, preferably of the current
    thread.
    """
    current = printed.rpartition("Current thread")[2].partition("\n\n")[0]
    found = _FRAME.search(current) or _FRAME.search(printed)
    return f"{found[1]} in {found[2]}" if found else "outside the package"


def processor_seconds(process: int) -> float:
    """Return user and system time of a running process and its threads."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def address_space() -> int:
    """Return the bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
