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
