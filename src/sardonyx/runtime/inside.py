"""Opens files that untrusted text names, below a folder, and nothing else.

A location is walked component by component from an open directory and no link is followed, so nothing can be swapped between check
and open. Refused:

1. absolute paths, drive letters, `..`, backslashes, empty names and NUL bytes;
2. symbolic links, whether the file or a folder on the way to it, hard links, and anything that is not a regular file.

The one exception to 2 is the layout of the Hugging Face cache, where a file in `models--x/snapshots/<revision>/...` is a link to
`models--x/blobs/<digest>` of the same `models--x`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = _READ | getattr(os, "O_DIRECTORY", 0)
_FILE = _READ | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)


class Identity(NamedTuple):
    """What tells one file from another: it must not change between check and read."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@contextlib.contextmanager
def opened(folder: str, location: str) -> Iterator[int]:
    """A descriptor of the regular file at `location` below `folder`. Raises OSError or ValueError for whatever is refused."""
    file = open_inside(folder, split_location(location))
    try:
        check_regular(file, location)
        yield file
    finally:
        os.close(file)


def split_location(location: str) -> list[str]:
    """The components of a relative path that stays where it is. Raises ValueError for any other."""
    if not location:
        raise ValueError("it has no location")
    parts = location.removeprefix("./").split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part or ":" in part for part in parts):
        raise ValueError(f"its location {location!r} is not a plain path below the model's folder")
    return parts


def open_inside(folder: str, parts: list[str]) -> int:
    """A descriptor of the file at `parts` below `folder`; only `folder` itself may be reached through links.

    Raises OSError where a file can't be opened, ValueError where a link stands in the way.
    """
    if os.open not in os.supports_dir_fd:
        return open_by_path(folder, parts)
    directory = os.open(folder or ".", _DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY | _NO_FOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        return os.open(parts[-1], _FILE, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            raise
        blob = huggingface_blob(folder, parts)
        if blob is None:
            raise ValueError(f"{'/'.join(parts)!r} is, or lies behind, a symbolic link") from error
        return open_inside(*blob)
    finally:
        os.close(directory)


def open_by_path(folder: str, parts: list[str]) -> int:
    """`open_inside` where the system can't open relative to a directory (Windows): the resolved path must be the plain one."""
    path = os.path.join(os.path.realpath(folder), *parts)
    if os.path.realpath(path) == path:
        return os.open(path, _FILE)
    blob = huggingface_blob(folder, parts)
    if blob is None:
        raise ValueError(f"{'/'.join(parts)!r} is, or lies behind, a symbolic link")
    return open_by_path(*blob)


def huggingface_blob(folder: str, parts: list[str]) -> tuple[str, list[str]] | None:
    """(blobs folder, [name]) if the file is a link of the Hugging Face cache's layout, else None.

    The cache keeps `models--x/snapshots/<revision>/<path>` as a link to `models--x/blobs/<digest>`.
    """
    link = os.path.join(os.path.realpath(folder), *parts)
    above, separator, below = link.rpartition(f"{os.sep}snapshots{os.sep}")
    if not separator or not os.path.basename(above).startswith("models--") or os.sep not in below:
        return None
    if not os.path.islink(link) or os.path.realpath(os.path.dirname(link)) != os.path.dirname(link):
        return None
    blobs, name = os.path.split(os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link))))
    return (blobs, [name]) if blobs == os.path.join(above, "blobs") and name not in ("", "..") else None


def check_regular(file: int, location: str) -> None:
    """Raises ValueError unless the open file is a regular one with no other name."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{location!r} is not a regular file")
    if found.st_nlink > 1:
        raise ValueError(f"{location!r} has other hard links, so it may be a file from elsewhere; copy it instead")


def identity_of(file: int) -> Identity:
    found = os.fstat(file)
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
