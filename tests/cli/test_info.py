"""`sardonyx info`: what this machine is taken for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import call


def test_info_names_target_threads_and_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path))
    monkeypatch.setenv("SARDONYX_TARGET", "avx2")
    facts = dict(line.split(None, 1) for line in call("info").stdout.splitlines())
    assert facts["target"].startswith("avx2: x86_64")
    assert facts["cache"].startswith(str(tmp_path))
    assert int(facts["threads"]) > 0
    monkeypatch.setenv("SARDONYX_CACHE", "off")
    assert "none: SARDONYX_CACHE is off" in call("info").stdout


def test_info_refuses_a_target_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_TARGET", "z80")
    done = call("info")
    assert done.exit_code == 2
    assert "no target z80" in done.stderr


def test_info_as_json() -> None:
    assert {"target", "threads", "cache"} <= set(json.loads(call("info", "--json").stdout))
