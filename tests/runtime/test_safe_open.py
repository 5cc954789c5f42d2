"""Opening what untrusted text names; tests/graph/test_external_data.py has the attacks on models."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from sardonyx.runtime.safe_open import identity_of, open_regular, opened


def test_a_plain_file_below_the_folder_is_opened(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"data")
    with opened(str(tmp_path), "a/file") as file:
        assert os.read(file, 10) == b"data"
        assert identity_of(file).size == 4


@pytest.mark.parametrize("location", ["", "/etc/passwd", "../x", "a/../b", "a//b", "c:x", "a\\b", "a\0b", "folder", "link", "pipe"])
def test_anything_else_is_not(tmp_path: Path, location: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((OSError, ValueError)), opened(str(tmp_path), location):
        pass


def test_what_the_user_names_is_a_regular_file(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "link"):
        file = open_regular(str(tmp_path / name))
        assert os.read(file, 10) == b"data"
        os.close(file)
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="not a regular file"):
            open_regular(str(path))
    with pytest.raises(IsADirectoryError):
        open_regular(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        open_regular(str(tmp_path / "nothing"))


def test_a_file_that_becomes_a_pipe_meanwhile_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"data")
    seen, before = os.stat(tmp_path / "file"), sorted(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "stat", lambda *_: seen)
    with pytest.raises(ValueError, match="not a regular file"):
        open_regular(str(tmp_path / "pipe"))
    monkeypatch.undo()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_folders_that_can_be_searched_but_not_listed_are_walked(tmp_path: Path):
    """As root nothing is forbidden; then this says little."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"data")
    (tmp_path / "a").chmod(0o111)
    try:
        with opened(str(tmp_path), "a/file") as file:
            assert os.read(file, 10) == b"data"
    finally:
        (tmp_path / "a").chmod(0o755)


@pytest.mark.parametrize("location", ["file", "a/b/file", "link", "a/nothing", "a/pipe"])
def test_no_descriptor_is_left_open(tmp_path: Path, location: str):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for path in ("file", "a/b/file"):
        (tmp_path / path).write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "a" / "pipe")
    before = sorted(os.listdir("/proc/self/fd"))
    with contextlib.suppress(OSError, ValueError), opened(str(tmp_path), location):
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before
