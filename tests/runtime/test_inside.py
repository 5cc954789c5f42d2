"""Opening what untrusted text names; tests/graph/test_external_data.py has the attacks on models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sardonyx.runtime.inside import identity_of, opened


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
