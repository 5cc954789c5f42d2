"""How many processors this process may use: its affinity, and the quota of its control groups."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Iterator
from typing import NamedTuple


class _Mount(NamedTuple):
    """A mounted hierarchy of control groups: `root` of the hierarchy lies at `point`."""

    is_v2: bool
    root: str
    point: str


def available_cores(files: str | os.PathLike[str] = "/") -> int:
    """Processors in this process's affinity, or what the tightest quota of a control group allows, rounded up.

    files: where the system's /proc and the mount points it names are found; another place in tests.
    """
    quota = min(_quotas(os.fspath(files)), default=None)
    allowed = _affinity()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(files: str) -> Iterator[float]:
    """Processors that each control group of this process allows, from its own to the outermost that we can see."""
    memberships = [line.split(":", 2) for line in _lines(files, "proc/self/cgroup")]
    for mount in _mounts(files):
        for number, controllers, group in memberships:
            if (number == "0") if mount.is_v2 else ("cpu" in controllers.split(",")):
                for folder in _folders(mount, group):
                    yield from _quota(files, folder.lstrip("/"), mount.is_v2)


def _mounts(files: str) -> Iterator[_Mount]:
    """Mounted hierarchies that govern the processor. See proc(5), /proc/pid/mountinfo."""
    for line in _lines(files, "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield _Mount(kind == "cgroup2", fields[3], fields[4])


def _folders(mount: _Mount, group: str) -> Iterator[str]:
    """Folders of the group and of those around it, up to the mount point; that alone if the group lies elsewhere."""
    inner = posixpath.relpath(group, mount.root)
    parts = [] if inner.split("/")[0] in (".", "..") else inner.split("/")
    for count in range(len(parts), -1, -1):
        yield posixpath.join(mount.point, *parts[:count])


def _quota(files: str, folder: str, is_v2: bool) -> Iterator[float]:
    """Quota divided by period, where a quota is set."""
    if is_v2:
        words = " ".join(_lines(files, f"{folder}/cpu.max")).split()
    else:
        words = [*_lines(files, f"{folder}/cpu.cfs_quota_us"), *_lines(files, f"{folder}/cpu.cfs_period_us")]
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _lines(files: str, name: str) -> list[str]:
    """Lines of a file; none where there is no such file or it may not be read."""
    try:
        with open(os.path.join(files, name), "rb") as file:
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
