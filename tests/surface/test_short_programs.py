"""Short programs find the same with ONNX Runtime and, unchanged, with this package under its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("short_programs.py")
NAMES = [
    line.removeprefix("def ").split("(")[0]
    for line in PROGRAM.read_text(encoding="utf-8").splitlines()
    if line.startswith("def ") and line.endswith("():") and not line.startswith("def main")
]


def found(*before: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *before, str(PROGRAM)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return found("-m", "sardonyx.dropin")


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return found()


def test_there_are_thirty() -> None:
    assert len(NAMES) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_program(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert not isinstance(theirs[name], str), theirs[name]
    assert ours[name] == theirs[name]
