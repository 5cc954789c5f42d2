"""The on-disk cache: what it keeps, what it refuses to trust, and that trouble is never more than a miss."""

from __future__ import annotations

import errno
import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sardonyx.runtime import cache as module
from sardonyx.runtime.cache import CAPACITY, STALE_SECONDS, Cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> Cache:
    return Cache(folder)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "v1").iterdir())


def test_what_was_put_is_found(cache: Cache, folder: Path):
    assert cache.get("kernel", "a") is None
    cache.put("kernel", "a", b"one")
    cache.put("program", "a", b"two")
    cache.put("kernel", "b", b"")
    cache.put("kernel", "a", b"three")
    again = Cache(folder)
    found = [again.get(kind, key) for kind, key in (("kernel", "a"), ("program", "a"), ("kernel", "b"))]
    assert found == [b"three", b"two", b""]
    assert (cache.problem, again.problem) == (None, None)


def test_any_text_is_a_key_and_few_are_kinds(cache: Cache, folder: Path):
    cache.put("kernel", "../../x\0/é", b"data")
    assert cache.get("kernel", "../../x\0/é") == b"data"
    assert [path.parent for path in files(folder)] == [folder / "v1"]
    for kind in ("", "../x", "Kernel", "a-b", "a" * 33):
        with pytest.raises(ValueError, match="not a kind of cache entry"):
            cache.put(kind, "a", b"")
        with pytest.raises(ValueError, match="not a kind of cache entry"):
            cache.get(kind, "a")


def test_only_the_user_has_access(cache: Cache, folder: Path):
    cache.put("kernel", "a", b"data")
    assert stat.S_IMODE((folder / "v1").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in files(folder)] == [0o600]


def test_damaged_entries_are_misses(cache: Cache, folder: Path):
    cache.put("kernel", "a", b"data")
    (path,) = files(folder)
    good = path.read_bytes()
    damaged = [good[:-1], good + b"x", b"", good[:20], b"X" + good[1:], good[:-1] + b"b"]
    damaged += [bytes([*good[:at], good[at] ^ 1, *good[at + 1 :]]) for at in range(len(good))]
    for content in damaged:
        path.write_bytes(content)
        assert cache.get("kernel", "a") is None
        assert "damaged entry" in str(cache.problem)
    cache.put("kernel", "a", b"data")
    assert cache.get("kernel", "a") == b"data"


def test_an_entry_in_anothers_place_is_a_miss(cache: Cache, folder: Path):
    cache.put("kernel", "a", b"of a")
    (a,) = files(folder)
    cache.put("kernel", "b", b"of b")
    (b,) = (path for path in files(folder) if path != a)
    a.write_bytes(b.read_bytes())
    assert cache.get("kernel", "a") is None
    assert cache.get("kernel", "b") == b"of b"


def replace_by_link(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_endless_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(CAPACITY + 1)


@pytest.mark.parametrize("change", [replace_by_link, replace_by_folder, replace_by_pipe, replace_by_endless_file])
def test_what_is_no_plain_file_is_a_miss(cache: Cache, folder: Path, change: Callable[[Path], None]):
    cache.put("kernel", "a", b"data")
    change(files(folder)[0])
    assert cache.get("kernel", "a") is None
    assert cache.problem


def test_a_folder_open_to_others_is_not_used(cache: Cache, folder: Path):
    cache.put("kernel", "a", b"data")
    (folder / "v1").chmod(0o750)
    assert cache.get("kernel", "a") is None
    assert "open to others (mode 750" in str(cache.problem)
    cache.put("kernel", "b", b"data")
    assert len(files(folder)) == 1


def test_anothers_folder_is_not_used(cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch):
    cache.put("kernel", "a", b"data")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert cache.get("kernel", "a") is None
    assert "belongs to user" in str(cache.problem)
    cache.put("kernel", "b", b"data")
    assert len(files(folder)) == 1


def test_a_link_in_place_of_the_folder_is_not_followed(cache: Cache, folder: Path):
    cache.put("kernel", "a", b"data")
    (folder / "v1").rename(folder / "elsewhere")
    (folder / "v1").symlink_to(folder / "elsewhere")
    assert cache.get("kernel", "a") is None
    cache.put("kernel", "b", b"data")
    assert len(list((folder / "elsewhere").iterdir())) == 1


def test_a_file_in_place_of_the_folder_means_no_cache(tmp_path: Path):
    (tmp_path / "cache").write_text("not a folder")
    cache = Cache(tmp_path / "cache")
    cache.put("kernel", "a", b"data")
    assert cache.get("kernel", "a") is None
    assert cache.problem


@pytest.mark.parametrize("call", ["open", "rename", "makedirs"])
@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_takes_nothing_means_no_cache(
    cache: Cache, folder: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch
):
    cache.put("kernel", "kept", b"data")
    original = getattr(os, call)

    def refuse(*arguments: object, **options: object) -> object:
        reads = call == "open" and not arguments[1] & os.O_WRONLY
        if reads:
            return original(*arguments, **options)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        cache.put("kernel", "lost", b"data")
    assert os.strerror(code) in str(cache.problem)
    assert cache.get("kernel", "lost") is None
    assert cache.get("kernel", "kept") == b"data"
    assert len(files(folder)) == 1


def test_an_unreadable_entry_is_a_miss(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    cache.put("kernel", "a", b"data")
    original = os.open

    def fail(path: str | Path, *arguments: object, **options: object) -> int:
        if str(path).startswith("kernel-"):
            raise OSError(errno.EIO, "Input/output error")
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", fail)
    assert cache.get("kernel", "a") is None
    assert "Input/output error" in str(cache.problem)


def test_a_read_only_disk_can_be_read(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    cache.put("kernel", "a", b"data")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert cache.get("kernel", "a") == b"data"


def age(folder: Path, seconds: float) -> None:
    """Make all entries so much older."""
    for path in files(folder):
        moment = path.stat().st_mtime - seconds
        os.utime(path, (moment, moment))


def test_the_entry_used_longest_ago_goes_first(folder: Path):
    cache = Cache(folder, capacity=1000)
    for key in "abc":
        cache.put("kernel", key, bytes(250))
        age(folder, 10)
    assert cache.get("kernel", "a") == bytes(250)
    age(folder, 10)
    cache.put("kernel", "d", bytes(250))
    assert [cache.get("kernel", key) is not None for key in "abcd"] == [True, False, False, True]


def test_the_size_stays_capped(folder: Path):
    cache = Cache(folder, capacity=10_000)
    for number in range(100):
        cache.put("kernel", str(number), bytes(900))
        assert sum(path.stat().st_size for path in files(folder)) <= 10_000
    assert cache.get("kernel", "99") == bytes(900)


def test_an_entry_larger_than_the_cache_is_not_kept(folder: Path):
    cache = Cache(folder, capacity=100)
    cache.put("kernel", "a", bytes(100))
    assert cache.get("kernel", "a") is None
    assert "larger than the cache" in str(cache.problem)


def test_what_dead_writers_left_is_cleared_away(folder: Path):
    cache = Cache(folder, capacity=1000)
    cache.put("kernel", "a", bytes(100))
    for name, old in ((".kernel-x.dead", STALE_SECONDS + 10), (".kernel-x.alive", 0.0)):
        (folder / "v1" / name).write_bytes(bytes(400))
        moment = time.time() - old
        os.utime(folder / "v1" / name, (moment, moment))
    Cache(folder, capacity=1000).put("kernel", "b", bytes(500))
    names = [path.name for path in files(folder)]
    assert ".kernel-x.dead" not in names
    assert ".kernel-x.alive" in names


def write_many(folder: Path, seed: int) -> None:
    cache = Cache(folder, capacity=20_000)
    for step in range(100):
        key = str((seed + step) % 7)
        cache.put("kernel", key, key.encode() * 1000)
        assert cache.get("kernel", key) in (None, key.encode() * 1000)


def test_threads_and_processes_write_at_once(folder: Path):
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=write_many, args=(folder, 3))
    child.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: write_many(folder, seed), range(4)))
    child.join(60)
    assert child.exitcode == 0
    cache = Cache(folder)
    assert [cache.get("kernel", str(key)) for key in range(7)] == [str(key).encode() * 1000 for key in range(7)]
    assert cache.problem is None


def test_an_entry_never_shows_half(folder: Path):
    """Readers beside a writer that replaces an entry see one version or the other."""
    cache, stop = Cache(folder), threading.Event()
    versions = [bytes([number]) * 100_000 for number in range(2)]
    cache.put("kernel", "a", versions[0])

    def write() -> None:
        while not stop.is_set():
            for version in versions:
                cache.put("kernel", "a", version)

    writer = threading.Thread(target=write)
    writer.start()
    seen = [Cache(folder).get("kernel", "a") for _ in range(100)]
    stop.set()
    writer.join(30)
    assert set(seen) <= set(versions)


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def place(**environment: str) -> Path | None:
        folder = Cache.from_environment(environment)._folder
        return None if folder is None else Path(folder).parent

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place() == tmp_path / "home/.cache/sardonyx"
    assert place(XDG_CACHE_HOME=str(tmp_path)) == tmp_path / "sardonyx"
    assert place(XDG_CACHE_HOME="relative") == tmp_path / "home/.cache/sardonyx"
    assert place(SARDONYX_CACHE=str(tmp_path / "own"), XDG_CACHE_HOME=str(tmp_path)) == tmp_path / "own"
    assert place(SARDONYX_CACHE="own") == Path.cwd() / "own"
    assert place(SARDONYX_CACHE="off") is None


def test_a_cache_that_is_off_keeps_nothing():
    cache = Cache.from_environment({"SARDONYX_CACHE": "off"})
    cache.put("kernel", "a", b"data")
    assert cache.get("kernel", "a") is None
    assert cache.problem == "SARDONYX_CACHE is off"


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert "no home" in str(Cache.from_environment({}).problem)


# ---- blocks -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote", [False, True])
def test_a_block_is_mapped_and_outlives_its_file(cache: Cache, folder: Path, remote: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "is_remote", lambda _: remote)
    cache.put_block("weights", "a", [b"one", memoryview(b"two")])
    found = cache.map_block("weights", "a", 6)
    files(folder)[0].unlink()
    assert found is not None
    assert found[:] == b"onetwo"
    assert cache.map_block("weights", "a", 6) is None
    assert cache.problem is None


def test_a_block_that_is_replaced_stays_as_it_was(cache: Cache):
    cache.put_block("weights", "a", [b"old"])
    found = cache.map_block("weights", "a", 3)
    cache.put_block("weights", "a", [b"new"])
    assert found is not None
    assert found[:] == b"old"


@pytest.mark.parametrize("change", [replace_by_link, replace_by_folder, replace_by_pipe, replace_by_endless_file])
def test_what_is_no_plain_file_is_not_mapped(cache: Cache, folder: Path, change: Callable[[Path], None]):
    cache.put_block("weights", "a", [bytes(100)])
    change(files(folder)[0])
    assert cache.map_block("weights", "a", 100) is None
    assert cache.problem


def test_blocks_count_and_are_evicted(folder: Path):
    cache = Cache(folder, capacity=1000)
    cache.put_block("weights", "a", [bytes(600)])
    age(folder, 10)
    cache.put_block("weights", "b", [bytes(600)])
    cache.put_block("weights", "c", [bytes(1001)])
    assert [cache.map_block("weights", key, size) is not None for key, size in (("a", 600), ("b", 600), ("c", 1001))] == [
        False,
        True,
        False,
    ]
