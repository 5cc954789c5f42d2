"""Which kind of file system a file lies on."""

from __future__ import annotations

import os

# Their files can go away under a mapping when another machine removes them, or a server does not answer: touching it then kills the process.
REMOTE = ("9p", "afs", "ceph", "cifs", "fuse", "gpfs", "lustre", "ncp", "nfs", "orangefs", "smb", "virtiofs", "vboxsf")


def is_remote(device: int, table: str = "/proc/self/mountinfo") -> bool:
    """Does the file system of this device number (a file's st_dev) lie on another machine, or in a process? False if it isn't known."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(table, "rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return False
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ", 3)[2:3] == [number]]
    return any(kind.startswith(REMOTE) for kind in kinds)
