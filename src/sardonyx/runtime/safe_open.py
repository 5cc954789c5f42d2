"""Opens the files that a model names (external data) below a folder, although the model is untrusted.

A location is opened component by component from an open directory, following no link, so that nothing can be exchanged
between check and open. Refused are

1. absolute paths, drive letters, `..`, backslashes, empty names and NUL bytes;
2. symbolic links, whether the file or a folder on the path;
3. files with several hard links, and anything that is not a regular file.

Exceptions to 2 and 3 allow the layout of the Hugging Face cache, where only the file itself is a link:

    models--x/snapshots/<revision>/...  a link to  models--x/blobs/<digest>  of the same `models--x`, in which no folder is a link
    any other folder (`local_dir`)      a link to  models--x/blobs/<digest>  of any cache, if the digest is right
    a blob with hard links              if the digest is right

The digest is the SHA-256 of the content. Whoever creates a link that is named by a digest must know the content, so such a
link gives away nothing that its creator could not have copied. A blob with another kind of name (small files have other
digests) is read only in the first case and if it has no hard links.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0)
_PLAIN = _READ | getattr(os, "O_NONBLOCK", 0)  # opening a pipe doesn't block
_LINK = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)  # errors of opening a link with O_NOFOLLOW

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20
_MOST_REMEMBERED = 1000


class Identity(NamedTuple):
    """Identifies a file and its version; it must not change between check and read."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class Blob(NamedTuple):
    """The target of a link in the cache's layout: `repository`/blobs/`name`. own: the link lies in a snapshot of the same
    repository.
    """

    repository: str
    name: str
    own: bool


@contextlib.contextmanager
def opened(folder: str, location: str) -> Iterator[int]:
    """Open the regular file at `location` below `folder`; yield its descriptor. Raises OSError or ValueError for whatever is
    refused.
    """
    parts = split_location(location)
    file, blob = open_linked(folder, parts)
    try:
        check_regular(file, location)
        links = os.fstat(file).st_nlink
        if (blob is not None and not blob.own) or links > 1:
            name = blob.name if blob is not None else blob_name(folder, parts, file)
            if name is None or not _SHA256.fullmatch(name) or sha256(file) != name:
                raise ValueError(unproven(location, links if blob is None or blob.own else 0))
        yield file
    finally:
        os.close(file)


def unproven(location: str, links: int) -> str:
    """Return why a file that may come from elsewhere is refused. links: how many hard links it has; 0 if it is behind a symbolic
    link.
    """
    how = f"has {links} hard links" if links else "is a symbolic link to a blob of a cache"
    return (
        f"{location!r} {how}, so it may be a file from elsewhere; only a blob of the Hugging Face cache that is named by the SHA-256 "
        "of its content is read all the same. Copy the file instead"
    )


def open_regular(path: str) -> int:
    """Open the regular file at a path that the user gives, following links. -> its descriptor

    Raises OSError, and ValueError for a pipe, a device or a socket, which is never opened, so it can't block.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path!r} is not a regular file")
    file = os.open(path, _PLAIN)
    try:
        check_regular(file, path)
    except ValueError:
        os.close(file)
        raise
    return file


def split_location(location: str) -> list[str]:
    """Split a relative path into components. Raises ValueError for a path that could lead out of its folder."""
    if not location:
        raise ValueError("it has no location")
    parts = location.removeprefix("./").split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part or ":" in part for part in parts):
        raise ValueError(f"its location {location!r} is not a plain path below the model's folder")
    return parts


# ---- walking ----------------------------------------------------------------------------------------------------------------


def open_linked(folder: str, parts: Sequence[str]) -> tuple[int, Blob | None]:
    """Open the file at `parts` below `folder`. -> (a descriptor, the blob if a link of the cache's layout leads to it)

    Only `folder` itself may be reached through other links. Raises OSError if the file can't be opened, ValueError for any
    other link.
    """
    try:
        return open_inside(folder, parts), None
    except OSError as error:
        if error.errno not in _LINK:
            raise
        blob = linked_blob(folder, parts)
        if blob is None:
            raise ValueError(f"{'/'.join(parts)!r} is, or lies behind, a symbolic link") from error
    try:
        return open_inside(*real_path(blob)), blob
    except OSError as error:
        if error.errno not in _LINK:
            raise
        raise ValueError(f"{'/'.join(parts)!r} leads to a blob that is, or lies behind, a symbolic link") from error


def open_inside(folder: str, parts: Sequence[str]) -> int:
    """Open the file at `parts` below `folder`, following no link. -> a descriptor. Raises OSError."""
    if os.open not in os.supports_dir_fd:
        path = os.path.join(os.path.realpath(folder), *parts)
        if os.path.realpath(path) != path:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return os.open(path, _PLAIN)
    with directory_inside(folder, parts[:-1]) as directory:
        return os.open(parts[-1], _PLAIN | _NO_FOLLOW, dir_fd=directory)


@contextlib.contextmanager
def directory_inside(folder: str, parts: Sequence[str]) -> Iterator[int]:
    """Open the directory at `parts` below `folder`, following no link; yield its descriptor. Raises OSError."""
    directory = os.open(folder or ".", _DIRECTORY)
    try:
        for part in parts:
            inner = os.open(part, _DIRECTORY | _NO_FOLLOW, dir_fd=directory)
            os.close(directory)
            directory = inner
        yield directory
    finally:
        os.close(directory)


def real_path(blob: Blob) -> tuple[str, list[str]]:
    """Return (root folder, components) of a blob's path, so that the whole path is opened without following links."""
    drive, tail = os.path.splitdrive(blob.repository)
    return drive + os.sep, [*filter(None, tail.split(os.sep)), "blobs", blob.name]


# ---- the Hugging Face cache -------------------------------------------------------------------------------------------------


def linked_blob(folder: str, parts: Sequence[str]) -> Blob | None:
    """Return the blob that the file links to, if it is a link in the cache's layout; None if it is no link, or lies behind one."""
    where = os.path.join(os.path.realpath(folder), *parts[:-1])
    if os.path.realpath(where) != where:
        return None
    try:
        target = os.path.normpath(os.path.join(where, os.readlink(os.path.join(where, parts[-1]))))
    except OSError:
        return None
    blobs, name = os.path.split(target)
    repository = os.path.dirname(blobs)
    if os.path.basename(blobs) != "blobs" or not os.path.basename(repository).startswith("models--") or not name:
        return None
    own = revision_of(where, repository) is not None
    return Blob(repository if own else os.path.realpath(repository), name, own)


def revision_of(where: str, repository: str) -> str | None:
    """Return the revision in whose snapshot the folder lies; None if it lies in no snapshot of this repository."""
    snapshots = os.path.join(repository, "snapshots") + os.sep
    return where.removeprefix(snapshots).split(os.sep)[0] or None if where.startswith(snapshots) else None


def blob_name(folder: str, parts: Sequence[str], file: int) -> str | None:
    """Return the name in blobs/ of a file in a snapshot that is a hard link to the blob; None if there is none."""
    where = os.path.join(os.path.realpath(folder), *parts[:-1])
    repository, separator, _ = (where + os.sep).rpartition(f"{os.sep}snapshots{os.sep}")
    if not separator or not os.path.basename(repository).startswith("models--"):
        return None
    inode = os.fstat(file).st_ino
    try:
        with os.scandir(os.path.join(repository, "blobs")) as entries:
            return next((entry.name for entry in entries if entry.inode() == inode), None)
    except OSError:
        return None


_digests: dict[Identity, str] = {}  # SHA-256 of files that were read


def sha256(file: int) -> str | None:
    """Return the SHA-256 of an open file's content, read once per process; None if it changes meanwhile. Raises OSError."""
    identity = identity_of(file)
    if identity not in _digests:
        total, at = hashlib.sha256(), 0
        while piece := os.pread(file, _PIECE, at):
            total.update(piece)
            at += len(piece)
        if identity_of(file) != identity:
            return None
        if len(_digests) >= _MOST_REMEMBERED:
            _digests.clear()
        _digests[identity] = total.hexdigest()
    return _digests[identity]


# ---- open files -------------------------------------------------------------------------------------------------------------


def check_regular(file: int, location: str) -> None:
    """Raise ValueError unless the open file is a regular file."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise ValueError(f"{location!r} is not a regular file")


def identity_of(file: int) -> Identity:
    found = os.fstat(file)
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
