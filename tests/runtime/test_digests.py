"""Digests of content: what changes them, what is remembered, and that no thread's trouble is lost."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sardonyx.runtime import digests
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.digests import digest_bytes, digest_file


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "LEAF", 100)
    monkeypatch.setattr(digests, "PIECE", 30)
    monkeypatch.setattr(digests, "REMEMBERED", 200)


def of_file(path: Path, cache: Cache | None = None) -> str:
    with path.open("rb") as file:
        return digest_file(file.fileno(), cache)[0]


@pytest.mark.parametrize("size", [0, 1, 30, 99, 100, 101, 200, 1234])
@pytest.mark.parametrize("cores", [1, 3, 50])
def test_bytes_and_files_agree_on_any_number_of_threads(tmp_path: Path, size: int, cores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digests, "available_cores", lambda: cores)
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    leaves = [hashlib.sha256(data[at : at + 100]).digest() for at in range(0, size, 100)]
    expected = hashlib.sha256(b"".join(leaves) + size.to_bytes(8, "little")).hexdigest()
    assert digest_bytes(data) == of_file(tmp_path / "file") == expected


def test_other_content_has_another_digest():
    data = bytes(1000)
    others = [data + b"\0", data[:-1], b"\1" + data[1:], data[:-1] + b"\1", b""]
    assert len({digest_bytes(other) for other in (data, *others)}) == 6


def settled(path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest, some time after the file's last change."""
    now = digests.time.time()
    with monkeypatch.context() as patch:
        patch.setattr(digests.time, "time", lambda: now + 10)
        return of_file(path, cache)


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache, path = Cache(tmp_path / "cache"), tmp_path / "file"
    path.write_bytes(bytes(300))
    found = settled(path, cache, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", None)
        assert settled(path, cache, monkeypatch) == found
    path.write_bytes(b"\1" * 300)
    assert settled(path, cache, monkeypatch) == digest_bytes(b"\1" * 300)


def test_a_small_or_young_file_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = Cache(tmp_path / "cache")
    (tmp_path / "small").write_bytes(bytes(199))
    (tmp_path / "young").write_bytes(bytes(300))
    settled(tmp_path / "small", cache, monkeypatch)
    of_file(tmp_path / "young", cache)
    assert not (tmp_path / "cache").exists()


def test_a_file_put_back_in_time_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever sets the time of a file's content can't set that of its change."""
    cache, path = Cache(tmp_path / "cache"), tmp_path / "file"
    path.write_bytes(bytes(300))
    times = path.stat()
    settled(path, cache, monkeypatch)
    path.write_bytes(b"\1" * 300)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert settled(path, cache, monkeypatch) == digest_bytes(b"\1" * 300)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, read = tmp_path / "file", os.preadv
    path.write_bytes(bytes(300))

    def read_and_change(*arguments: object) -> int:
        with path.open("ab") as file:
            file.write(b"more")
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "preadv", read_and_change)
    with pytest.raises(OSError, match="changes while it is read"):
        of_file(path)


@pytest.mark.parametrize("cores", [1, 4])
def test_a_read_that_fails_is_told(tmp_path: Path, cores: int, monkeypatch: pytest.MonkeyPatch):
    path, read = tmp_path / "file", os.preadv
    path.write_bytes(bytes(1000))
    monkeypatch.setattr(digests, "available_cores", lambda: cores)

    def shorter(file: int, buffers: list[memoryview], at: int) -> int:
        return 0 if at >= 500 else read(file, buffers, at)

    monkeypatch.setattr(os, "preadv", shorter)
    with pytest.raises(OSError, match="the file ended after"):
        of_file(path)
