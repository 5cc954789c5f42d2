"""File systems by their device number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sardonyx.runtime.mounts import is_remote

TABLE = """22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
41 22 0:45 / /home rw - nfs4 server:/home rw,vers=4.2
42 22 0:46 / /media rw - fuse.sshfs host:/ rw
43 22 0:47 / /dev/shm rw - tmpfs none rw
broken
"""


@pytest.mark.parametrize(
    ("major", "minor", "expected"), [(254, 0, False), (0, 45, True), (0, 46, True), (0, 47, False), (9, 9, False)]
)
def test_those_of_other_machines_are_told_apart(tmp_path: Path, major: int, minor: int, expected: bool):
    (tmp_path / "mountinfo").write_text(TABLE)
    assert is_remote(os.makedev(major, minor), str(tmp_path / "mountinfo")) == expected


def test_without_a_table_none_is_remote(tmp_path: Path):
    assert not is_remote(os.makedev(0, 45), str(tmp_path / "nothing"))
    assert not is_remote(tmp_path.stat().st_dev)
