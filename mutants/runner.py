"""Runs tests on a copy of the tree that has one fault: the tests of its file, those that run its function, and random graphs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants.draw import PACKAGE, Mutant
from mutants.function_coverage import Cover

COPIED = (
    "src",
    "tests",
    "fuzz",
    "benchmarks",
    "examples",
    "docs",
    "pyproject.toml",
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
    "mutants",
)
GRAPHS = "tests/fuzz/test_graphs.py::test_random_graphs"
FEWER = {"FUZZ_GRAPHS": "60"}  # fewer random graphs than in a run of all tests
SLOWER = 4.0  # tests that take this many times as long as without a fault count as a hang


def copy(root: Path, folder: Path) -> None:
    """Copy what tests need of a tree."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)


def beside_of(root: Path, path: str) -> tuple[str, ...]:
    """Return the test files of a source file: those at the same path, or those that `elsewhere.txt` names; empty if there are none."""
    inside = Path(path).relative_to(PACKAGE)
    folder = Path("tests") / inside.parent
    beside = folder / f"test_{'init' if inside.stem == '__init__' else inside.stem}.py"
    if (root / beside).exists():
        return (str(beside),)
    told = root / folder / "elsewhere.txt"
    lines = told.read_text().splitlines() if told.exists() else []
    return next(
        (tuple(line.split("  ")[0].split(": ")[1].split(", ")) for line in lines if line.startswith(f"{inside.name}: ")), ()
    )


@dataclass(frozen=True)
class Result:
    """outcome: killed, survived or equivalent. by: the first test that failed, or why the mutant is equivalent"""

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


class Bench:
    """A tree in which faults are seeded. cover: which tests run which functions. seconds: time limit of a set of tests"""

    def __init__(self, folder: Path, cover: Cover, seconds: float) -> None:
        self.folder, self.cover, self.seconds = folder, cover, seconds
        self.usual: dict[tuple[str, ...], float] = {}

    def run(self, mutant: Mutant) -> Result:
        """Run the sets of tests one after the other until one fails."""
        start, path = time.monotonic(), self.folder / mutant.path
        for tests in self.sets(mutant):
            limit = self.limit(tests)
            path.write_text(mutant.after)
            try:
                failed = self.failed(tests, limit)
            finally:
                path.write_text(mutant.before)
            if failed:
                return Result(mutant, "killed", failed, time.monotonic() - start)
        return Result(mutant, "survived", "", time.monotonic() - start)

    def sets(self, mutant: Mutant) -> list[tuple[str, ...]]:
        """Return the tests of the mutant's file, those that run its function, and the random graphs, without missing ones."""
        beside = beside_of(self.folder, mutant.path)
        found = [beside, self.running(mutant, beside), (GRAPHS,)]
        return [tests for tests in found if tests and (self.folder / tests[0].split("::")[0]).exists()]

    def running(self, mutant: Mutant, beside: Sequence[str]) -> tuple[str, ...]:
        """Return tests in other files that run the mutant's function, the shortest first, as many as the time allows."""
        chosen, left = [], self.seconds
        for test in self.cover.of(mutant.path, mutant.function):
            left -= self.cover.seconds[test]
            if left > 0 and test.split("::")[0] not in beside:
                chosen.append(test)
        return tuple(chosen)

    def limit(self, tests: tuple[str, ...]) -> float:
        """Return the seconds after which tests count as hanging, from their time without a fault. Raises RuntimeError if they fail
        without one.
        """
        known = [self.cover.usual(test) for test in tests]
        if None not in known:
            return 20 + SLOWER * sum(seconds or 0 for seconds in known)
        if tests not in self.usual:
            start = time.monotonic()
            if failed := self.failed(tests, 4 * self.seconds):
                raise RuntimeError(f"without a fault, {failed} fails")
            self.usual[tests] = time.monotonic() - start
        return 20 + SLOWER * self.usual[tests]

    def failed(self, tests: Sequence[str], seconds: float) -> str:
        """Run the tests. Returns the test that failed, empty if none did."""
        environment = {**os.environ, "PYTHONPATH": f"{self.folder / 'src'}:{self.folder}", "PYTHONDONTWRITEBYTECODE": "1", **FEWER}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "not snapshot and not real and not programs",
            "--no-header",
            *tests,
        ]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "a hang"
        if process.returncode in (0, 5):  # 5: no tests there
            return ""
        lines = [line for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return lines[0][:160] if lines else f"status {process.returncode}"
