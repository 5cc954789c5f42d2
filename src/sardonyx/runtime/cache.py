"""The on-disk cache of compiled programs and kernels: private to the user, checked on reading, capped in size.

Entries are read whole; blocks are mapped. A block's content is checked by whoever maps it, against what a checked entry says of it.

Nothing here fails a caller: what can't be read, or fails its checks, is a miss, and what can't be written is not kept.
`problem` tells why, for the debug dial.
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

CAPACITY = 4 << 30  # bytes
ROOM_AFTER_EVICTION = 4  # an eviction frees one part in so many
STALE_SECONDS = 3600.0  # a file written aside for longer than this was left by a writer that died

_LAYOUT = "v1"  # names the folder of the entries
_MAGIC = b"SDXCACHE"
_DIGEST_BYTES = 32
_KIND = re.compile(r"[a-z0-9_]{1,32}")
_ASIDE = "."  # files written aside begin with it


class Cache:
    """Entries by kind and key. Safe for any number of threads and processes at once: entries are written aside, renamed."""

    def __init__(self, directory: str | os.PathLike[str] | None, capacity: int = CAPACITY, problem: str | None = None) -> None:
        """directory: made when the first entry is kept; None keeps nothing, `problem` says why. capacity: bytes of all entries."""
        self._folder = None if directory is None else os.path.join(os.path.abspath(directory), _LAYOUT)
        self.capacity = capacity
        self._room: int | None = None  # bytes until the next eviction, as far as this process knows
        self.problem = problem

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Cache:
        """SARDONYX_CACHE: a directory, or `off`. Without it `sardonyx` in XDG_CACHE_HOME, or in ~/.cache."""
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
        """Where the entries lie; None if nothing is kept."""
        return self._folder

    def get(self, kind: str, key: str) -> bytes | None:
        """The entry's data; None if there is none, or none that can be trusted."""
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
        """Keep an entry, if that is possible; it replaces one of the same kind and key."""
        name = _file_name(kind, key)
        if self._folder is None:
            return
        self._put(self._folder, name, [_MAGIC, _digest(kind, key, data), data])

    def map_block(self, kind: str, key: str, size: int) -> mmap.mmap | None:
        """A block's `size` bytes, mapped for reading; None if there is none of this size, or none that can be trusted.

        The memory is shared by all processes that map the block, and stays theirs if the entry is replaced or evicted. A block
        on a file system of another machine is read instead.
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
        """Keep a block, its pieces one after the other, if that is possible."""
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
        """A descriptor of the entries' folder. Raises OSError if there is none, or if others could have changed it."""
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
        """Count what was written, and evict what was used longest ago once the capacity is exceeded.

        Other processes write too, so the count is only good until it runs out; then the folder is looked at again.
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
        raise ValueError(f"{kind!r} is no kind of cache entry: small letters, digits and _ only")
    return f"{kind}-{hashlib.sha256(key.encode()).hexdigest()}"


def _digest(kind: str, key: str, data: bytes) -> bytes:
    """Checksum of an entry, of its name too: an entry that was moved to another's place does not pass."""
    return hashlib.sha256(f"{kind}\0{len(key)}\0{key}\0".encode() + data).digest()


def _read(folder: int, name: str, most: int) -> bytes:
    """Content of a plain file of ours. Raises OSError for anything else. Marks it as used now."""
    with _opened(folder, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise PermissionError(f"{name} is too large")
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read()


def _map(folder: int, name: str, size: int) -> mmap.mmap | None:
    """A plain file of ours, of exactly this size, mapped. Raises OSError for anything else. Marks it as used now."""
    with _opened(folder, name) as descriptor:
        status = os.fstat(descriptor)
        if status.st_size != size:
            raise PermissionError(f"{name} is not of {size} bytes")
        if is_remote(status.st_dev):
            return _copied(descriptor, size)
        try:
            return mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except ValueError as error:  # it was cut since
            raise OSError(str(error)) from error


def _copied(descriptor: int, size: int) -> mmap.mmap:
    """The file's bytes in memory of our own. Raises OSError if there are fewer."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with memoryview(memory) as view, open(descriptor, "rb", closefd=False) as file:
        if file.readinto(view) != size:
            raise OSError("the file was cut")
    return memory


@contextlib.contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    """A descriptor of a plain file of ours. Raises OSError for anything else. Marks it as used now."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{name} is not a file of this user")
        with contextlib.suppress(OSError):  # a read-only disk
            os.utime(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(folder: int, name: str, pieces: Sequence[bytes | memoryview]) -> None:
    """Write aside, then rename: a reader sees the old entry, the new one or none, never half of one."""
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
    """(time of last use, size, name) of all entries, and of the files of writers that died, as if never used."""
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
    """The user's cache, as the environment said when it was first asked for."""
    return Cache.from_environment()
