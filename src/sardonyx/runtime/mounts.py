"""Tells whether a file lies on a network file system."""

from __future__ import annotations

import os

# Touching a mapped file of these kills the process when another machine has removed the file or the server does not answer.
REMOTE = ("9p", "afs", "ceph", "cifs", "fuse", "gpfs", "lustre", "ncp", "nfs", "orangefs", "smb", "virtiofs", "vboxsf")


def is_remote(device: int, table: str = "/proc/self/mountinfo") -> bool:
    """Is the file system with this device number (a file's st_dev) a network or user-space one? False if it isn't known."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(table, "rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return False
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ", 3)[2:3] == [number]]
    return any(kind.startswith(REMOTE) for kind in kinds)
