"""`sardonyx compile`: the first call fills the cache, the second finds it filled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sardonyx.runtime.cache import shared_cache
from tests.cli.invoke import DIGITS, call


def compiled(folder: Path) -> str:
    """What the command prints in a process of its own, with this cache."""
    code = "from sardonyx.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "compile", DIGITS],
        env={**os.environ, "SARDONYX_CACHE": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_compile_fills_the_cache_once(tmp_path: Path) -> None:
    assert "new entries" in compiled(tmp_path / "cache")
    assert "was compiled before" in compiled(tmp_path / "cache")


def test_compile_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", "off")
    shared_cache.cache_clear()
    try:
        done = call("compile", DIGITS)
    finally:
        shared_cache.cache_clear()
    assert done.exit_code == 2
    assert "compiled code can't be kept: SARDONYX_CACHE is off" in done.stderr


def test_compile_to_a_file_and_run_it(tmp_path: Path) -> None:
    path = tmp_path / "digits.sdx"
    done = call("compile", DIGITS, "-o", path)
    assert done.exit_code == 0, done.output
    assert f"to {path}" in done.output.replace("\n", "")
    done = call("run", path, "--size", "batch=2")
    assert done.exit_code == 2
    assert "trusted like a shared library" in done.output
    done = call("run", path, "--size", "batch=2", "--allow-machine-code")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-o", "digits.onnx"], "ends in .sdx"),
        (["--target", "sse2"], "needs -o FILE"),
        (["-o", "none/digits.sdx"], "no folder"),
        (["-o", "digits.sdx", "--target", "z80"], "no target z80"),
        (["-o", "digits.sdx", "--target", "wasm"], "can't run here"),
    ],
)
def test_files_that_are_not_written(arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("compile", DIGITS, *arguments)
    assert done.exit_code == 2
    assert reason in done.output
    assert not list(tmp_path.iterdir())
