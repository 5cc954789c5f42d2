"""Entries of JSON and images."""

from __future__ import annotations

import pytest

from sardonyx.session.cache_entry import pack, unpack


@pytest.mark.parametrize("images", [[], [b"one"], [b"", b"two", b"\x00\xff"]])
def test_what_is_packed_comes_back(images: list[bytes]):
    head, found = unpack(pack({"a": [1, "é"]}, images), {"a", "images"})
    assert head["a"] == [1, "é"]
    assert list(found) == images


@pytest.mark.parametrize(
    "data", [b"", b"1234567", b"\xff" * 8 + b"{}", b"\x02" + b"\x00" * 7 + b"{}", b"\x04" + b"\x00" * 7 + b"null"]
)
def test_nothing_else_is_read(data: bytes):
    with pytest.raises(ValueError):  # noqa: PT011
        unpack(data, {"images"})


def test_other_keys_are_refused():
    with pytest.raises(ValueError, match="not a cache entry"):
        unpack(pack({"a": 1}, []), {"b", "images"})
