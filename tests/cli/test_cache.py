"""`sardonyx cache`: lists and deletes entries, and refuses folders of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sardonyx.runtime.cache import Cache
from tests.cli.invoke import call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SARDONYX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_empty_cache(folder: Path) -> None:
    assert json.loads(call("cache", "list", "--json").stdout)["kinds"] == []
    assert call("cache", "clear").stdout.startswith("deleted 0 entries, 0 B")
    assert not folder.exists()


def test_entries_are_listed_by_kind_and_deleted(folder: Path) -> None:
    cache = Cache(folder)
    cache.put("kernel", "a", b"x" * 1000)
    cache.put("kernel", "b", b"y")
    cache.put_block("weights", "c", [b"z" * 10])
    kinds = json.loads(call("cache", "list", "--json").stdout)["kinds"]
    assert [(row["kind"], row["entries"]) for row in kinds] == [("kernel", 2), ("weights", 1)]
    assert kinds[1]["bytes"] == 10
    assert "weights           1 entries       10 B" in call("cache", "list").stdout
    assert call("cache", "clear").stdout.startswith("deleted 3 entries, 1.1 kB")
    assert cache.get("kernel", "a") is None
    assert cache.entries() == []


def test_a_folder_that_others_may_read(folder: Path) -> None:
    Cache(folder).put("kernel", "a", b"x")
    (folder / "v1").chmod(0o755)
    for command in ("list", "clear"):
        done = call("cache", command)
        assert done.exit_code == 2
        assert "open to others" in done.stderr


def test_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", "off")
    done = call("cache", "list")
    assert done.exit_code == 2
    assert "nothing is kept on disk: SARDONYX_CACHE is off" in done.stderr
