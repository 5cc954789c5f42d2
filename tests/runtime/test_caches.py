"""What the system says of a core's caches."""

from __future__ import annotations

from pathlib import Path

import pytest

from sardonyx.runtime.caches import Caches, caches


def folder(at: Path, *told: tuple[str, str, str, str]) -> str:
    """A folder as Linux has it: level, type, size and ways of each cache."""
    for i, values in enumerate(told):
        index = at / f"index{i}"
        index.mkdir(parents=True)
        for name, value in zip(("level", "type", "size", "ways_of_associativity"), values, strict=True):
            (index / name).write_text(value + "\n")
    return str(at)


def test_a_desktop_core(tmp_path: Path) -> None:
    at = folder(
        tmp_path,
        ("1", "Data", "32K", "8"),
        ("1", "Instruction", "64K", "4"),
        ("2", "Unified", "1024K", "8"),
        ("3", "Unified", "96M", "16"),
    )
    assert caches(at) == Caches(32 << 10, 8, 1 << 20, 96 << 20)


def test_without_a_third_cache_the_second_is_the_last(tmp_path: Path) -> None:
    at = folder(tmp_path, ("1", "Data", "64K", "4"), ("2", "Unified", "512K", "8"))
    assert caches(at) == Caches(64 << 10, 4, 512 << 10, 512 << 10)


@pytest.mark.parametrize("size", ["0K", "", "K", "-1K", "lots", "99999999G", "3"])
def test_sizes_that_are_none(tmp_path: Path, size: str) -> None:
    at = folder(tmp_path, ("1", "Data", size, "0"), ("2", "Unified", size, "8"), ("x", "Unified", "1M", "8"))
    assert caches(at) == Caches()


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert caches(str(tmp_path / "none")) == Caches()
    (tmp_path / "index0").mkdir()
    assert caches(str(tmp_path)) == Caches()
