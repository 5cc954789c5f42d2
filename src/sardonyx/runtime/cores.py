"""How many cores this process may use: its affinity, and the CPU quota of its control groups."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Iterator
from typing import NamedTuple


class _Mount(NamedTuple):
    """A mounted hierarchy of control groups: its path `root` is mounted at `point`."""

    is_v2: bool
    root: str
    point: str


def available_cores(files: str | os.PathLike[str] = "/") -> int:
    """Return the number of cores in this process's affinity, or the tightest CPU quota of its control groups, rounded up, if
    that is less.

    files: the root of /proc and of the mount points that it names; tests pass another one.
    """
    quota = min(_quotas(os.fspath(files)), default=None)
    allowed = _affinity()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(files: str) -> Iterator[float]:
    """Yield the quota, in cores, of each control group of this process, from its own to the outermost visible one."""
    memberships = [line.split(":", 2) for line in _lines(files, "proc/self/cgroup")]
    for mount in _mounts(files):
        for number, controllers, group in memberships:
            if (number == "0") if mount.is_v2 else ("cpu" in controllers.split(",")):
                for folder in _folders(mount, group):
                    yield from _quota(files, folder.lstrip("/"), mount.is_v2)


def _mounts(files: str) -> Iterator[_Mount]:
    """Yield the mounted hierarchies that have a CPU controller. See proc(5), /proc/pid/mountinfo."""
    for line in _lines(files, "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield _Mount(kind == "cgroup2", fields[3], fields[4])


def _folders(mount: _Mount, group: str) -> Iterator[str]:
    """Yield the folders of the group and of its ancestors, up to the mount point; only the mount point if the group lies
    elsewhere.
    """
    inner = posixpath.relpath(group, mount.root)
    parts = [] if inner.split("/")[0] in (".", "..") else inner.split("/")
    for count in range(len(parts), -1, -1):
        yield posixpath.join(mount.point, *parts[:count])


def _quota(files: str, folder: str, is_v2: bool) -> Iterator[float]:
    """Yield quota divided by period, if a quota is set."""
    if is_v2:
        words = " ".join(_lines(files, f"{folder}/cpu.max")).split()
    else:
        words = [*_lines(files, f"{folder}/cpu.cfs_quota_us"), *_lines(files, f"{folder}/cpu.cfs_period_us")]
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _lines(files: str, name: str) -> list[str]:
    """Return the lines of a file; none if it doesn't exist or may not be read."""
    try:
        with open(os.path.join(files, name), "rb") as file:
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
