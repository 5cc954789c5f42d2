"""Sizes of the data caches of one core, as the system reports them."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

SYSFS = "/sys/devices/system/cpu/cpu0/cache"
"""Linux's description of the first core's caches: folders index0, index1, ... with files level, type, size and
ways_of_associativity. See Documentation/ABI/testing/sysfs-devices-system-cpu in Linux's sources.
"""
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LEAST, MOST = 4 << 10, 4 << 30
"""The range of plausible sizes in bytes; a virtual machine may report others."""
MOST_WAYS = 64


class Caches(NamedTuple):
    """Bytes of a core's L1, L2 and last-level cache, and the associativity of L1. The defaults are those of a server core of
    2023.
    """

    l1: int = 48 << 10
    ways: int = 12
    l2: int = 2 << 20
    l3: int = 32 << 20


@functools.cache
def caches(folder: str = SYSFS) -> Caches:
    """Return the caches that the system reports, and defaults for those that it doesn't report or reports implausibly.

    folder: where Linux's files are; tests pass another one.
    """
    told: dict[str, int] = {}
    for index in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        names = ("level", "type", "size", "ways_of_associativity")
        level, kind, size, ways = (_text(os.path.join(folder, index, name)) for name in names)
        if kind == "Instruction" or level not in ("1", "2", "3") or (size_in_bytes := _bytes(size)) is None:
            continue
        told[f"l{level}"] = size_in_bytes
        if level == "1" and ways.isdigit() and 0 < int(ways) <= MOST_WAYS:
            told["ways"] = int(ways)
    if "l3" not in told and "l2" in told:
        told["l3"] = told["l2"]  # L2 is the last-level cache
    return Caches(**told)


def _bytes(size: str) -> int | None:
    """Parse a size such as "48K"; None if it isn't plausible."""
    number, unit = (size[:-1], UNITS[size[-1]]) if size[-1:] in UNITS else (size, 1)
    found = int(number) * unit if number.isdigit() else 0
    return found if LEAST <= found <= MOST else None


def _text(path: str) -> str:
    """Return a file's text, stripped; empty if it can't be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
