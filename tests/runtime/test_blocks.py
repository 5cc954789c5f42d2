"""Blocks: arrays that are mapped as they were put, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sardonyx.runtime import blocks
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.memory import Bytes

SIZES = [5, 0, 64, blocks.PART, blocks.PART + 9, 1]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def pieces() -> list[Bytes]:
    return [np.frombuffer(os.urandom(size), np.uint8) for size in SIZES]


def test_what_was_put_is_mapped(cache: Cache, pieces: list[Bytes]):
    blocks.put(cache, "a", pieces)
    found = blocks.mapped(cache, "a", SIZES, blocks.checksum(pieces))
    assert found is not None
    for piece, array in zip(pieces, found, strict=True):
        np.testing.assert_array_equal(piece, array)
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0
    assert cache.problem is None


def test_nothing_takes_no_file(cache: Cache, tmp_path: Path):
    for sizes in ([], [0, 0]):
        nothing = [np.empty(0, np.uint8) for _ in sizes]
        blocks.put(cache, "a", nothing)
        found = blocks.mapped(cache, "a", sizes, blocks.checksum(nothing))
        assert [piece.size for piece in found or []] == sizes
    assert not (tmp_path / "cache").exists()


def test_any_bit_counts(pieces: list[Bytes]):
    expected = blocks.checksum(pieces)
    for i, piece in enumerate(pieces):
        for at in {0, piece.size // 2, piece.size - 1} if piece.size else ():
            changed = piece.copy()
            changed[at] ^= 16
            assert blocks.checksum([*pieces[:i], changed, *pieces[i + 1 :]]) != expected
    assert blocks.checksum(pieces[::-1]) != expected


def test_a_page_that_was_never_written_is_noticed(cache: Cache, tmp_path: Path, pieces: list[Bytes]):
    blocks.put(cache, "a", pieces)
    (path,) = (tmp_path / "cache" / "v1").iterdir()
    with path.open("r+b") as file:
        file.seek(blocks.PART)
        file.write(bytes(4096))
    assert blocks.mapped(cache, "a", SIZES, blocks.checksum(pieces)) is None
    assert "damaged block" in str(cache.problem)


@pytest.mark.parametrize("cut", [lambda size: 0, lambda size: size - 1, lambda size: size // 2, lambda size: size + 1])
def test_a_file_of_another_size_is_not_mapped(cache: Cache, tmp_path: Path, pieces: list[Bytes], cut: Callable[[int], int]):
    blocks.put(cache, "a", pieces)
    (path,) = (tmp_path / "cache" / "v1").iterdir()
    os.truncate(path, cut(path.stat().st_size))
    assert blocks.mapped(cache, "a", SIZES, blocks.checksum(pieces)) is None


def test_unaligned_arrays(cache: Cache):
    pieces = [np.arange(100_001, dtype=np.uint8)[1:]]
    blocks.put(cache, "a", pieces)
    found = blocks.mapped(cache, "a", [100_000], blocks.checksum(pieces))
    assert found is not None
    np.testing.assert_array_equal(found[0], pieces[0])


def test_there_is_none(cache: Cache):
    assert blocks.mapped(cache, "a", [64], "") is None
    assert cache.problem is None
