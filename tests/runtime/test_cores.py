"""Counting processors under quotas, from copies of the files that Linux shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sardonyx.runtime import cores
from sardonyx.runtime.cores import available_cores

V2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 32 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
OTHER_V1 = "34 32 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory\n"


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path):
    assert available_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("own", "outer", "cores"),
    [
        ("200000 100000", "max 100000", 2),
        ("max 100000", "150000 100000", 2),
        ("400000 100000", "300000 100000", 3),
        ("5000 100000", "max 100000", 1),
        ("max 100000", "max 100000", 8),
        ("1600000 100000", "max 100000", 8),
        ("nonsense", "1 0", 8),
    ],
)
def test_quota_of_version_2(tmp_path: Path, own: str, outer: str, cores: int):
    files = {
        "proc/self/cgroup": "0::/user.slice/app.service\n",
        "proc/self/mountinfo": OTHER_V1 + V2,
        "sys/fs/cgroup/user.slice/app.service/cpu.max": own + "\n",
        "sys/fs/cgroup/user.slice/cpu.max": outer + "\n",
    }
    assert available_cores(write(tmp_path, files)) == cores


def test_quota_of_version_2_inside_a_container(tmp_path: Path):
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2,
        "sys/fs/cgroup/cpu.max": "300000 100000\n",
    }
    assert available_cores(write(tmp_path, files)) == 3


@pytest.mark.parametrize(
    ("root", "group", "folder", "quota", "cores"),
    [
        ("/", "/jobs/a", "jobs/a/", "250000", 3),
        ("/", "/jobs/a", "jobs/", "100000", 1),
        ("/docker/1f", "/docker/1f", "", "200000", 2),
        ("/docker/1f", "/elsewhere", "", "200000", 2),
        ("/", "/jobs/a", "jobs/a/", "-1", 8),
    ],
)
def test_quota_of_version_1(tmp_path: Path, root: str, group: str, folder: str, quota: str, cores: int):
    place = f"sys/fs/cgroup/cpu,cpuacct/{folder}"
    files = {
        "proc/self/cgroup": f"5:memory:/other\n4:cpu,cpuacct:{group}\n0::{group}\n",
        "proc/self/mountinfo": OTHER_V1 + V1.format(root=root),
        f"{place}cpu.cfs_quota_us": quota + "\n",
        f"{place}cpu.cfs_period_us": "100000\n",
    }
    assert available_cores(write(tmp_path, files)) == cores


def test_without_affinity_the_processors_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 5)
    assert available_cores(tmp_path) == 5
