"""Each program prints the same, as JSON, with ONNX Runtime and with this package under its name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.programs
HERE = Path(__file__).parent
PYTHON = os.environ.get("PROGRAMS_PYTHON", "")
PROGRAMS = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("__init__", "small_models", "test_programs"))
TOLERANCE = {"magika_files": 1e-3}
"""Of numbers; 1e-4 of others. magika's scores differ in the fourth digit."""
SECONDS = 900


def told(program: str, folder: Path, dropin: bool) -> Any:
    """What the program prints last."""
    folder.mkdir()
    command = [PYTHON, *(["-m", "sardonyx.dropin"] if dropin else []), str(HERE / f"{program}.py"), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if dropin:
        environment["PYTHONPATH"] = str(HERE.parents[1] / "src")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(ours: Any, theirs: Any, tolerance: float) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            compare(a, b, tolerance)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    else:
        assert ours == theirs


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, tmp_path: Path) -> None:
    theirs = told(program, tmp_path / "theirs", dropin=False)
    ours = told(program, tmp_path / "ours", dropin=True)
    compare(ours, theirs, TOLERANCE.get(program, 1e-4))
