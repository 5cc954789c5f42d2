"""One execution in a forked child, with limits on its time and memory: how it ended.

The parent has loaded what executions need, so that a child costs a fork. The child makes the input, leaves it in a file where the parent
finds it whatever happens, runs it, and sends its outcome through a pipe.
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
MOST_TEXT = 20_000  # characters that are kept of what a child prints


@dataclass(frozen=True, slots=True)
class Limits:
    """What an execution may take: seconds of processor time, seconds by the clock, bytes of address space beyond the parent's.

    A deadlock takes no processor time, and a busy machine makes the clock's seconds long: so there are two limits.
    """

    processor: float = 10.0
    clock: float = 60.0
    memory: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended.

    label: a few words, the same for executions that end alike; campaigns count them. finding: empty if all is well, else what is
    wrong in one line that is the same for all inputs with this fault. details: for whoever mends it.
    """

    label: str
    finding: str = ""
    details: str = ""


class Child:
    """An execution under way in `folder`, which is its own until `end` has been called."""

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
        """Has the child sent its outcome, or died, within so many seconds from now?"""
        if not select.select([self.pipe], [], [], seconds)[0]:
            return False
        piece = os.read(self.pipe, 1 << 16)
        self._received += piece
        return not piece

    def overdue(self) -> bool:
        """Has it run out of time?"""
        spent = time.monotonic() - self.start
        return spent > self.limits.clock or (
            spent > self.limits.processor and processor_seconds(self.process) > self.limits.processor
        )

    def end(self, overdue: bool = False) -> tuple[bytes, Outcome]:
        """(the input, the outcome). An overdue child is told to print where it is, then killed."""
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
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                self._status = status
                return True
            time.sleep(0.02)
        return False

    def _outcome(self, status: int, overdue: bool, printed: str) -> Outcome:
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
    """(the input, the outcome) of one execution, awaited."""
    child = Child(make, run, limits, folder)
    while not child.ended(0.2):
        if child.overdue():
            return child.end(overdue=True)
    return child.end()


def _live(make: Callable[[], bytes], run: Callable[[bytes], Outcome], limits: Limits, folder: Path, pipe: int) -> NoReturn:
    """The child's life."""
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
        # The fuzzer's own fault: it goes to the parent as text, and never up into the parent's stack, of which this is a copy.
        os.write(2, traceback.format_exc().encode())
        os._exit(70)
    os._exit(0)


def place(printed: str) -> str:
    """Where a process was when it died, as faulthandler printed it: the innermost frame in the package, of the current thread if it has one."""
    current = printed.rpartition("Current thread")[2].partition("\n\n")[0]
    found = _FRAME.search(current) or _FRAME.search(printed)
    return f"{found[1]} in {found[2]}" if found else "outside the package"


def processor_seconds(process: int) -> float:
    """User and system time of a running process and its threads."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def address_space() -> int:
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
