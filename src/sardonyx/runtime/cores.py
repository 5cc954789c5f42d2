"""How many processors this process may use: its affinity, and the quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy of control groups: `root` of the hierarchy lies at `point`."""

    is_v2: bool
    root: PurePosixPath
    point: PurePosixPath


def available_cores(files: Path = Path("/")) -> int:
    """Processors in this process's affinity, or what the tightest quota of a control group allows, rounded up.

    files: where the system's /proc and the mount points it names are found; another place in tests.
    """
    quota = min(_quotas(files), default=None)
    allowed = _affinity()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(files: Path) -> Iterator[float]:
    """Processors that each control group of this process allows, from its own to the outermost that we can see."""
    memberships = [line.split(":", 2) for line in _lines(files / "proc/self/cgroup")]
    for mount in _mounts(files):
        for number, controllers, group in memberships:
            if (number == "0") if mount.is_v2 else ("cpu" in controllers.split(",")):
                for folder in _folders(mount, PurePosixPath(group)):
                    yield from _quota(files / folder.relative_to("/"), mount.is_v2)


def _mounts(files: Path) -> Iterator[_Mount]:
    """Mounted hierarchies that govern the processor. See proc(5), /proc/pid/mountinfo."""
    for line in _lines(files / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield _Mount(kind == "cgroup2", PurePosixPath(fields[3]), PurePosixPath(fields[4]))


def _folders(mount: _Mount, group: PurePosixPath) -> Iterator[PurePosixPath]:
    """Folders of the group and of those around it, up to the mount point; that alone if the group lies elsewhere."""
    inner = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    folder = mount.point / inner
    while folder != mount.point:
        yield folder
        folder = folder.parent
    yield mount.point


def _quota(folder: Path, is_v2: bool) -> Iterator[float]:
    """Quota divided by period, where a quota is set."""
    if is_v2:
        words = " ".join(_lines(folder / "cpu.max")).split()
    else:
        words = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    """Lines of a file; none where there is no such file or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
