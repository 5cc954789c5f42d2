"""Campaigns: many executions of a fuzzer, counted in a file, so that later runs continue and add to earlier ones.

    DIR/NAME-SEED.json       how many executions there were, how they ended, what was found
    DIR/NAME-SEED-N.onnx     the input of execution N, which found something, shrunk as far as possible; N.txt says what it found

Execution N of a campaign depends on SEED and N only. Two campaigns that run at once must have different seeds.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from fuzz.child_process import Child, Limits, Outcome, execute

MOST_KEPT = 3  # reproducers that are kept of one finding
MOST_TRIES = 200  # executions that may be spent on shrinking one input
SAVE_SECONDS = 5.0
LIMITS = Limits()


class Fuzzer(Protocol):
    """What a campaign runs. name: part of file names, without spaces"""

    name: str

    def load(self) -> None:
        """Import, in the parent process, what executions need."""

    def make(self, random: random.Random) -> bytes:
        """Return the input of an execution, in the form in which it is kept in a file."""

    def run(self, data: bytes) -> Outcome:
        """Run one execution; called in a child process."""

    def smaller(self, data: bytes) -> Iterator[bytes]:
        """Yield inputs that are a little smaller, those that omit most first. Without any, inputs are kept as they are."""


@dataclass
class Found:
    """A finding: how many executions had it, and the numbers of the executions whose inputs were kept."""

    count: int = 0
    kept: list[int] = field(default_factory=list)


@dataclass
class State:
    """Progress of a campaign. All executions below `next` are done, and those in `done`, whose numbers are larger."""

    next: int = 0
    executions: int = 0
    seconds: float = 0.0
    labels: dict[str, int] = field(default_factory=dict)
    findings: dict[str, Found] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)  # findings that no longer occur, with their counts
    done: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> State:
        """Read the state from a file, or return a new one if there is no file."""
        if not path.exists():
            return cls()
        told = json.loads(path.read_text())
        told["findings"] = {finding: Found(**found) for finding, found in told["findings"].items()}
        return cls(**told)

    def count(self, number: int, outcome: Outcome) -> None:
        """Count an execution."""
        self.executions += 1
        self.labels[outcome.label] = self.labels.get(outcome.label, 0) + 1
        self.done.append(number)
        while self.next in self.done:
            self.done.remove(self.next)
            self.next += 1

    def save(self, path: Path) -> None:
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(asdict(self), indent=1))
        os.replace(aside, path)


class Campaign:
    """A fuzzer's executions with one seed, stored in `folder`. No other process can continue it until the `with` statement ends.

    Entering raises BlockingIOError if another process runs it.
    """

    def __init__(self, fuzzer: Fuzzer, seed: int, folder: Path, limits: Limits = LIMITS) -> None:
        self.fuzzer, self.seed, self.folder, self.limits = fuzzer, seed, folder, limits
        self.title = f"{fuzzer.name}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{self.title}.json"
        self.state = State()
        self._lock = -1

    def __enter__(self) -> Campaign:
        self._lock = os.open(self.path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise
        self.state = State.read(self.path)
        self._began = self._saved = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def made(self, number: int) -> bytes:
        """Return the input of an execution."""
        return self.fuzzer.make(random.Random(f"{self.fuzzer.name} {self.seed} {number}"))

    def run(self, executions: int | None, seconds: float | None = None, jobs: int = 1) -> list[str]:
        """Run this many more executions, or for this many seconds. Returns the findings among them."""
        until = time.monotonic() + seconds if seconds is not None else None
        last = sys.maxsize if executions is None else self.state.executions + executions
        numbers = (n for n in range(self.state.next, sys.maxsize) if n not in self.state.done)
        found: dict[str, None] = {}
        under_way: dict[int, Child] = {}
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            try:
                while True:
                    over = until is not None and time.monotonic() > until
                    while not over and len(under_way) < jobs and self.state.executions + len(under_way) < last:
                        number = next(numbers)
                        under_way[number] = self._start(number, Path(scratch))
                    if not under_way:
                        return list(found)
                    for number, child in list(under_way.items()):
                        late = not child.ended(0.2 / len(under_way))
                        if late and not child.overdue():
                            continue
                        del under_way[number]
                        finding = self._finish(number, *child.end(overdue=late), Path(scratch))
                        found.update({finding: None} if finding else {})
            finally:
                for child in under_way.values():
                    child.end(overdue=True)
                self._save()

    def _start(self, number: int, scratch: Path) -> Child:
        place = scratch / str(number)
        place.mkdir()
        return Child(lambda: self.made(number), self.fuzzer.run, self.limits, place)

    def _finish(self, number: int, data: bytes, outcome: Outcome, scratch: Path) -> str:
        """Count an execution, and keep its input if its finding is new. Returns the finding."""
        for path in (scratch / str(number)).iterdir():
            path.unlink()
        self.state.count(number, outcome)
        if outcome.finding:
            found = self.state.findings.setdefault(outcome.finding, Found())
            found.count += 1
            if len(found.kept) < MOST_KEPT:
                found.kept.append(number)
                self.keep(number, self.shrunk(data, outcome.finding, scratch) if len(found.kept) == 1 else data, outcome)
        if time.monotonic() > self._saved + SAVE_SECONDS:
            self._save()
        return outcome.finding

    def _save(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._began
        self._began = self._saved = now
        self.state.save(self.path)

    # ---- inputs that found something ----------------------------------------------------------------------------------------

    def keep(self, number: int, data: bytes, outcome: Outcome) -> None:
        """Write a reproducer, and a text that says what it shows."""
        (self.folder / f"{self.title}-{number}.onnx").write_bytes(data)
        (self.folder / f"{self.title}-{number}.txt").write_text(f"{outcome.finding}\n\n{outcome.details}\n")

    def shrunk(self, data: bytes, finding: str, scratch: Path) -> bytes:
        """Return a smaller input with the same finding: the first candidate that has it replaces the input, repeatedly."""
        tries, place = 0, Path(tempfile.mkdtemp(dir=scratch))
        smaller = self.fuzzer.smaller(data)
        while tries < MOST_TRIES and (candidate := next(smaller, None)) is not None:
            tries += 1
            if self.outcome_of(candidate, place).finding == finding:
                data, smaller = candidate, self.fuzzer.smaller(candidate)
        return data

    def outcome_of(self, data: bytes, scratch: Path) -> Outcome:
        return execute(lambda: data, self.fuzzer.run, self.limits, scratch)[1]

    def again(self) -> list[str]:
        """Run the kept inputs again. Findings that none of them shows any more are counted as mended. Returns the others."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            for finding, found in list(self.state.findings.items()):
                paths = [self.folder / f"{self.title}-{number}.onnx" for number in found.kept]
                left = [path for path in paths if self.outcome_of(path.read_bytes(), Path(scratch)).finding]
                if not left:
                    self.state.mended[finding] = self.state.mended.get(finding, 0) + found.count
                    del self.state.findings[finding]
        self._save()
        return list(self.state.findings)


# ---- the command line -------------------------------------------------------------------------------------------------------


def totals(fuzzer: Fuzzer, folder: Path) -> str:
    """Return the sums over all campaigns of a fuzzer in a folder, as text."""
    states = [State.read(path) for path in sorted(folder.glob(f"{fuzzer.name}-*.json"))]
    labels, findings, mended = Counter[str](), Counter[str](), Counter[str]()
    for state in states:
        labels.update(state.labels)
        findings.update({finding: found.count for finding, found in state.findings.items()})
        mended.update(state.mended)
    lines = [f"{sum(s.executions for s in states):,} executions in {sum(s.seconds for s in states) / 60:.1f} minutes"]
    lines += [f"  {count:8,} {label}" for label, count in labels.most_common()]
    lines += [f"mended: {finding} ({count})" for finding, count in mended.most_common()]
    lines += [f"FOUND: {finding} ({count})" for finding, count in findings.most_common()] or ["no findings"]
    return "\n".join(lines)


def main(fuzzer: Fuzzer, arguments: list[str] | None = None) -> int:
    """Run the command line that all fuzzers share. Returns the exit status: 1 if anything was found."""
    parser = argparse.ArgumentParser(prog=f"python -m fuzz.{fuzzer.name}")
    parser.add_argument("--executions", type=int, help="how many to run now")
    parser.add_argument("--minutes", type=float, help="how long to run now")
    parser.add_argument("--seed", type=int, default=0, help="of the campaign")
    parser.add_argument("--state", type=Path, default=Path(".fuzz"), help="the folder of campaigns and reproducers")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="executions at once")
    parser.add_argument("--report", action="store_true", help="say what all campaigns in the folder add up to, and run nothing")
    parser.add_argument("--again", action="store_true", help="run the campaign's kept inputs once more, and nothing else")
    parser.add_argument("--replay", type=Path, help="run the input in this file, in this process")
    given = parser.parse_args(arguments)
    if given.report:
        print(totals(fuzzer, given.state))
        return 0
    fuzzer.load()
    if given.replay is not None:
        outcome = fuzzer.run(given.replay.read_bytes())
        print(outcome.label, outcome.finding, outcome.details, sep="\n")
        return int(bool(outcome.finding))
    if given.executions is None and given.minutes is None and not given.again:
        parser.error("say --executions or --minutes")
    gc.collect()
    gc.freeze()  # a child that looks through all of the parent's objects copies the pages that they lie in
    with Campaign(fuzzer, given.seed, given.state) as campaign:
        if given.again:
            left = campaign.again()
            print("\n".join(left) or "no findings are left")
            return int(bool(left))
        found = campaign.run(given.executions, None if given.minutes is None else given.minutes * 60, given.jobs)
    print(totals(fuzzer, given.state))
    return int(bool(found))
