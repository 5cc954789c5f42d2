"""The command as a whole: it is installed, its help is quick, and no command takes a bad file for a model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sardonyx
from tests.cli.invoke import COMMANDS, call

HEAVY = "numpy", "onnx", "onnx_ir", "llvmlite", "onnxruntime", "openvino", "PIL", "sardonyx.session.inference_session"


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("sardonyx")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sardonyx.__version__


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, sardonyx.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command() -> None:
    shown = call("--help").stdout
    for command in (*COMMANDS, "optimize", "cache", "info"):
        assert re.search(rf"\b{command} ", shown)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_no_model(command: str, tmp_path: Path) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"\xff" * 64)
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    reasons = {
        "none": "File doesn't exist",
        "garbage": "parsing failed",
        "empty": "No graph was found",
        "folder": "parsing failed",
        "pipe": "is not a regular file",
    }
    for name, reason in reasons.items():
        done = call(command, tmp_path / f"{name}.onnx")
        assert done.exit_code == 2
        assert done.stdout == ""
        assert re.match(rf"sardonyx: .*{name}\.onnx.*{reason}", done.stderr), done.stderr
