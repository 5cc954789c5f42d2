"""Measures which tests run which functions, and how long each test takes.

`measure` runs the tests once while all calls are traced. The result is stored until a file of the package or of the tests changes.
This module is also a pytest plugin (`-p mutants.function_coverage`), which does the tracing in the process of the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

RESULT, ROOT = "MUTANTS_COVER", "MUTANTS_ROOT"  # environment variables: the file to write, the root of the tree
INNER = ("<locals>", "<lambda>", "<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


@dataclass(frozen=True)
class Cover:
    """Coverage by function. seconds: of each test that passed. runs: the tests that run a function, named
    `src/sardonyx/lower/place.py:Class.method`. failed: tests that fail without a fault
    """

    seconds: dict[str, float]
    runs: dict[str, list[str]]
    failed: list[str]

    def of(self, path: str, function: str) -> list[str]:
        """Return the tests that run a function or one inside it, the shortest first; those of a whole file if `function` is empty."""
        name = f"{path}:{function}"
        inside = f"{name}." if function else name
        found = {test for f, tests in self.runs.items() if f == name or f.startswith(inside) for test in tests}
        return sorted((test for test in found if test in self.seconds), key=lambda test: (self.seconds[test], test))

    def usual(self, tests: str) -> float | None:
        """Return the seconds of a test, or of all tests of a file; None if unknown. Raises RuntimeError if one fails."""
        inside = [t for t in (*self.seconds, *self.failed) if t == tests or t.startswith(f"{tests}::")]
        if failed := sorted(set(inside).intersection(self.failed)):
            raise RuntimeError(f"without a fault, {failed[0]} fails")
        return sum(self.seconds[t] for t in inside) if inside else None


def measure(root: Path, tests: Sequence[str], kept: Path) -> Cover:
    """Run the tests, or read the result of an earlier run of the same files from the folder `kept`."""
    file = kept / f"{digest(root, tests)}.json"
    if not file.exists():
        kept.mkdir(exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        here = Path(__file__).parents[1]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{root / 'src'}:{root}:{here}",
            RESULT: str(temporary),
            ROOT: str(root.resolve()),
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "mutants.function_coverage",
            "-m",
            "not snapshot and not real and not programs",
        ]
        ran = subprocess.run([*command, *tests], cwd=root, env=environment, capture_output=True, text=True, check=False)
        if not temporary.exists():
            raise RuntimeError(f"the tests ended with status {ran.returncode}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        temporary.replace(file)
    return Cover(**json.loads(file.read_text()))


def digest(root: Path, tests: Sequence[str]) -> str:
    """Return a digest of the package, the tests, and the list of tests to run."""
    found = hashlib.sha256(repr(list(tests)).encode())
    for path in sorted(p for folder in ("src", "tests", "fuzz") for p in (root / folder).rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:20]


# ---- in the process of the tests ----------------------------------------------------------------------------------------


class Tracer:
    """Records the functions that run between `begin` and `end`; a test's code objects are named afterwards."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.codes: set[CodeType] = set()
        self.start = 0.0
        self.seconds: dict[str, float] = {}
        self.runs: dict[str, list[str]] = {}

    def trace(self, frame: FrameType, event: str, _: Any) -> None:
        self.codes.add(frame.f_code)

    def begin(self) -> None:
        self.codes = set()
        self.start = time.perf_counter()
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    def end(self, test: str) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        taken = time.perf_counter() - self.start
        names = {name for code in list(self.codes) if (name := self.name(code))}
        self.seconds[test] = round(taken, 3)
        for name in names:
            self.runs.setdefault(name, []).append(test)

    def name(self, code: CodeType) -> str:
        """Return the function's name, empty for code outside the package."""
        if not code.co_filename.startswith(self.folder):
            return ""
        parts = [part for part in code.co_qualname.split(".") if part not in (*INNER, "<module>")]
        return f"src/sardonyx/{code.co_filename[len(self.folder) :]}:{'.'.join(parts)}"


TRACER = Tracer(f"{os.environ.get(ROOT, '')}/src/sardonyx/")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    TRACER.begin()
    result = yield
    TRACER.end(item.nodeid)
    return result  # type: ignore[return-value]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        FAILED.add(report.nodeid)


def pytest_sessionfinish() -> None:
    seconds = {test: taken for test, taken in TRACER.seconds.items() if test not in FAILED}
    Path(os.environ[RESULT]).write_text(json.dumps({"seconds": seconds, "runs": TRACER.runs, "failed": sorted(FAILED)}))


FAILED: set[str] = set()
