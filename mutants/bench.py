"""Runs tests on a copy of the tree that has one fault."""

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
FEWER = {"FUZZ_GRAPHS": "60"}  # of them than in a run of all tests
SLOWER = 4.0  # times as long as without a fault is a hang


@dataclass(frozen=True)
class Result:
    """outcome: killed, survived or equivalent. by: the first test that failed, or why there is none."""

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


class Bench:
    """A copy of the tree. seconds: what a set of tests may take."""

    def __init__(self, root: Path, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.usual: dict[tuple[str, ...], float] = {}
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, folder / name)

    def run(self, mutant: Mutant) -> Result:
        """Tries the sets of tests in turn."""
        start, path = time.monotonic(), self.folder / mutant.path
        for tests in self.sets(mutant.path):
            limit = self.limit(tests)
            path.write_text(mutant.after)
            try:
                failed = self.failed(tests, limit)
            finally:
                path.write_text(mutant.before)
            if failed:
                return Result(mutant, "killed", failed, time.monotonic() - start)
        return Result(mutant, "survived", "", time.monotonic() - start)

    def sets(self, path: str) -> list[tuple[str, ...]]:
        """The tests of a file; the random graphs; the tests of its folder."""
        inside = Path(path).relative_to(PACKAGE)
        beside = Path("tests") / inside.parent / f"test_{inside.name}"
        folder = sorted(str(p.relative_to(self.folder)) for p in (self.folder / "tests" / inside.parent).glob("test_*.py"))
        found = [(str(beside),), (GRAPHS,), tuple(folder)]
        return [tests for tests in found if tests and all((self.folder / test.split("::")[0]).exists() for test in tests)]

    def limit(self, tests: tuple[str, ...]) -> float:
        """Seconds after which tests hang: by how long they take without a fault. Raises RuntimeError if they fail then."""
        if tests not in self.usual:
            start = time.monotonic()
            failed = self.failed(tests, self.seconds)
            if failed and failed != "a hang":
                raise RuntimeError(f"without a fault, {failed} fails")
            self.usual[tests] = time.monotonic() - start
        return min(self.seconds, 20 + SLOWER * self.usual[tests])

    def failed(self, tests: Sequence[str], seconds: float) -> str:
        """The test that failed; empty if none did, or if they merely take as long as they may."""
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
            "not snapshot and not real",
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
            return "a hang" if seconds < self.seconds else ""
        if process.returncode in (0, 5):  # 5: no tests there
            return ""
        lines = [line for line in printed.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return lines[0][:160] if lines else f"status {process.returncode}"
