"""The on-disk cache of compiled programs and kernels: private to the user, checked on reading, limited in size.

An entry is read whole and verified by a SHA-256. A block is mapped; whoever maps it verifies it, by a checksum from a
verified entry.

No method raises for a broken cache: an entry that can't be read or verified counts as missing, and one that can't be written
is not stored. `problem` holds the reason, which is printed at the debug levels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mmap
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence

from sardonyx.runtime.mounts import is_remote

CAPACITY = 4 << 30
"""The most bytes of all entries together."""
ROOM_AFTER_EVICTION = 4
"""An eviction frees this fraction (1/4) of the capacity."""
STALE_SECONDS = 3600.0
"""Age after which a temporary file must be one whose writer has died."""

_LAYOUT = "v1"  # the name of the entries' folder
_MAGIC = b"SDXCACHE"
_DIGEST_BYTES = 32
_KIND = re.compile(r"[a-z0-9_]{1,32}")
_ASIDE = "."  # how names of temporary files begin


class Cache:
    """Stores entries by kind and key. Any number of threads and processes may use it at once: an entry is written to a temporary
    file, then renamed.
    """

    def __init__(self, directory: str | os.PathLike[str] | None, capacity: int = CAPACITY, problem: str | None = None) -> None:
        """Open a cache. It makes `directory` when the first entry is stored.

        directory: None for a cache that stores nothing; `problem` then says why. capacity: the most bytes of all entries.
        """
        self._folder = None if directory is None else os.path.join(os.path.abspath(directory), _LAYOUT)
        self.capacity = capacity
        self._room: int | None = None  # bytes that this process may write before it checks the total size
        self.problem = problem

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Cache:
        """Return the cache that SARDONYX_CACHE names (a directory, or `off`); without it `sardonyx` in XDG_CACHE_HOME, else in
        ~/.cache.
        """
        chosen = environment.get("SARDONYX_CACHE", "")
        if chosen == "off":
            return cls(None, problem="SARDONYX_CACHE is off")
        if not hasattr(os, "geteuid"):
            return cls(None, problem="this system does not tell who owns a file")
        if chosen:
            return cls(chosen)
        base = environment.get("XDG_CACHE_HOME", "")
        if os.path.isabs(base):
            return cls(os.path.join(base, "sardonyx"))
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return cls(None, problem="the user has no home directory")
        return cls(os.path.join(home, ".cache", "sardonyx"))

    @property
    def folder(self) -> str | None:
        """The folder of the entries; None if nothing is stored."""
        return self._folder

    def entries(self) -> list[tuple[str, int, int]]:
        """List the entries: name (its kind comes before the first "-"), bytes, and when it was last used (nanoseconds since 1970).

        There are none if there is no folder yet. Raises OSError if other users may write to the folder or read it.
        """
        if self._folder is None:
            return []
        try:
            with self._opened_folder(self._folder) as folder:
                return sorted((name, size, used) for used, size, name in _entries(folder) if not name.startswith(_ASIDE))
        except FileNotFoundError:
            return []

    def clear(self) -> tuple[int, int]:
        """Delete all entries. -> how many, and their bytes. Raises OSError if there are entries that can't be deleted."""
        deleted = [(size, name) for name, size, _ in self.entries()]
        if self._folder is not None and deleted:
            with self._opened_folder(self._folder) as folder:
                for _, name in deleted:
                    with contextlib.suppress(FileNotFoundError):  # another process was faster
                        os.unlink(name, dir_fd=folder)
        self._room = None
        return len(deleted), sum(size for size, _ in deleted)

    def get(self, kind: str, key: str) -> bytes | None:
        """Return an entry's data; None if there is no such entry, or if it is damaged."""
        name = _file_name(kind, key)
        if self._folder is None:
            return None
        try:
            with self._opened_folder(self._folder) as folder:
                record = _read(folder, name, self.capacity)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = str(error)
            return None
        data = record[len(_MAGIC) + _DIGEST_BYTES :]
        if record != _MAGIC + _digest(kind, key, data) + data:
            self.problem = f"damaged entry {name}"
            return None
        return data

    def put(self, kind: str, key: str, data: bytes) -> None:
        """Store an entry, if possible. It replaces an entry with the same kind and key."""
        name = _file_name(kind, key)
        if self._folder is None:
            return
        self._put(self._folder, name, [_MAGIC, _digest(kind, key, data), data])

    def map_block(self, kind: str, key: str, size: int) -> mmap.mmap | None:
        """Map a block of `size` bytes for reading; None if there is none, it has another size, or it can't be trusted.

        All processes that map the block share the memory, which stays valid if the entry is replaced or evicted. A block on a
        network file system is read into memory instead.
        """
        name = _file_name(kind, key)
        if self._folder is None:
            return None
        try:
            with self._opened_folder(self._folder) as folder:
                return _map(folder, name, size)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = str(error)
            return None

    def put_block(self, kind: str, key: str, pieces: Sequence[bytes | memoryview]) -> None:
        """Store a block, the concatenation of the pieces, if possible."""
        name = _file_name(kind, key)
        if self._folder is not None:
            self._put(self._folder, name, pieces)

    def _put(self, path: str, name: str, pieces: Sequence[bytes | memoryview]) -> None:
        size = sum(len(piece) for piece in pieces)
        if size > self.capacity:
            self.problem = f"entry {name} of {size} bytes is larger than the cache"
            return
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            with self._opened_folder(path) as folder:
                _write(folder, name, pieces)
                self._make_room(folder, size)
        except OSError as error:
            self.problem = str(error)

    @contextlib.contextmanager
    def _opened_folder(self, path: str) -> Iterator[int]:
        """Open the entries' folder; yield its descriptor. Raises OSError if there is none, or if other users may write to it or
        read it.
        """
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            status = os.fstat(folder)
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to user {status.st_uid}")
            if status.st_mode & 0o077:
                raise PermissionError(f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):o}, not 700)")
            yield folder
        finally:
            os.close(folder)

    def _make_room(self, folder: int, written: int) -> None:
        """Count the bytes written, and evict the least recently used entries once the capacity is exceeded.

        Other processes write too, so when this process's budget is used up the folder is scanned again.
        """
        self._room = None if self._room is None else self._room - written
        if self._room is not None and self._room >= 0:
            return
        entries = _entries(folder)
        total = sum(size for _, size, _ in entries)
        wanted = self.capacity - self.capacity // ROOM_AFTER_EVICTION if total > self.capacity else total
        for _, size, name in sorted(entries):
            if total <= wanted:
                break
            _remove(folder, name)
            total -= size
        self._room = self.capacity - total


def _file_name(kind: str, key: str) -> str:
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is not a kind of cache entry: use small letters, digits and _")
    return f"{kind}-{hashlib.sha256(key.encode()).hexdigest()}"


def _digest(kind: str, key: str, data: bytes) -> bytes:
    """Return the SHA-256 over kind, key and data, so that an entry that was renamed to another key is rejected."""
    return hashlib.sha256(f"{kind}\0{len(key)}\0{key}\0".encode() + data).digest()


def _read(folder: int, name: str, most: int) -> bytes:
    """Read a regular file of this user, and mark it as used now. Raises OSError for any other file, or one of more than `most`
    bytes.
    """
    with _opened(folder, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise PermissionError(f"{name} is too large")
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read()


def _map(folder: int, name: str, size: int) -> mmap.mmap | None:
    """Map a regular file of this user, of exactly this size, and mark it as used now. Raises OSError for any other file."""
    with _opened(folder, name) as descriptor:
        status = os.fstat(descriptor)
        if status.st_size != size:
            raise PermissionError(f"{name} is not of {size} bytes")
        if is_remote(status.st_dev):
            return _copied(descriptor, size)
        try:
            return mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except ValueError as error:  # the file has become shorter
            raise OSError(str(error)) from error


def _copied(descriptor: int, size: int) -> mmap.mmap:
    """Read the file's bytes into anonymous memory. Raises OSError if it is shorter."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with memoryview(memory) as view, open(descriptor, "rb", closefd=False) as file:
        if file.readinto(view) != size:
            raise OSError("the file has become shorter")
    return memory


@contextlib.contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    """Open a regular file of this user and mark it as used now; yield its descriptor. Raises OSError for any other file."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{name} is not a file of this user")
        with contextlib.suppress(OSError):  # the disk is read-only
            os.utime(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(folder: int, name: str, pieces: Sequence[bytes | memoryview]) -> None:
    """Write a temporary file, then rename it: a reader sees the old entry, the new one or none, never a part of one."""
    aside = f"{_ASIDE}{name}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(aside, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        _remove(folder, aside)
        raise


def _entries(folder: int) -> list[tuple[int, int, str]]:
    """Return (time of last use, size, name) of all entries; temporary files that a dead writer has left count as never used."""
    entries = []
    now = time.time()
    with os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(OSError):  # evicted by another process
                status = file.stat(follow_symlinks=False)
                if not file.name.startswith(_ASIDE):
                    entries.append((status.st_mtime_ns, status.st_size, file.name))
                elif now - status.st_mtime > STALE_SECONDS:
                    entries.append((0, status.st_size, file.name))
    return entries


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):  # another process was faster, or the disk is read-only
        os.unlink(name, dir_fd=folder)


@functools.cache
def shared_cache() -> Cache:
    """Return the user's cache, as the environment named it at the first call."""
    return Cache.from_environment()
