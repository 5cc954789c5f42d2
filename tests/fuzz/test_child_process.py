"""fuzz/child_process.py: whatever happens in a child, the parent learns what it was."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fuzz.child_process import Child, Limits, execute
from tests.fuzz.toy import Toy

SHORT = Limits(processor=0.5, clock=1.0)


@pytest.mark.parametrize(
    ("word", "label", "finding"),
    [
        ("fine", "fine", ""),
        ("wrong", "wrong", "a finding"),
        ("signal", "SIGSEGV", "SIGSEGV: outside the package"),
        ("spin", "hang", "hang: outside the package"),
        ("sleep", "hang", "hang: outside the package"),
        ("memory", "memory", "memory"),
        ("exit", "exit", "the process ended with status 3"),
        ("raise", "exit", "the process ended with status 70"),
    ],
)
def test_an_execution_ends(tmp_path: Path, word: str, label: str, finding: str) -> None:
    begun = time.monotonic()
    data, outcome = execute(lambda: f"{word} 1".encode(), Toy().run, SHORT, tmp_path)
    assert (outcome.label, outcome.finding) == (label, finding)
    assert data == f"{word} 1".encode()
    assert time.monotonic() - begun < 20


def test_no_child_is_left(tmp_path: Path) -> None:
    child = Child(lambda: b"sleep", Toy().run, SHORT, tmp_path)
    while not child.overdue():
        child.ended(0.05)
    child.end(overdue=True)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.process, os.WNOHANG)


def test_what_dies_says_where(tmp_path: Path) -> None:
    _, outcome = execute(lambda: b"sleep", Toy().run, SHORT, tmp_path)
    assert "toy.py" in outcome.details
    _, outcome = execute(lambda: b"raise", Toy().run, SHORT, tmp_path)
    assert "the fuzzer's own fault" in outcome.details
