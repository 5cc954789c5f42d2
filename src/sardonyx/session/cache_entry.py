"""The format of cache entries that hold JSON and machine code: length of the JSON | JSON | images, whose sizes the JSON has as
`images`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sardonyx.runtime.records import listed, whole

_LENGTH = struct.Struct("<Q")


def pack(head: Mapping[str, Any], images: Sequence[bytes]) -> bytes:
    """Encode an entry."""
    told = json.dumps({**head, "images": [len(image) for image in images]}, separators=(",", ":")).encode("ascii")
    return b"".join([_LENGTH.pack(len(told)), told, *images])


def unpack(data: bytes, keys: Collection[str]) -> tuple[dict[str, Any], Iterator[bytes]]:
    """Decode an entry. -> (the JSON, the images one after the other). Raises ValueError unless the JSON has exactly these keys."""
    if len(data) < _LENGTH.size:
        raise ValueError("not a cache entry of this kind")
    (length,) = _LENGTH.unpack_from(data)
    start = _LENGTH.size + length
    head = json.loads(data[_LENGTH.size : start])
    if not isinstance(head, dict) or set(head) != set(keys):
        raise ValueError("not a cache entry of this kind")
    sizes = listed(head["images"], lambda size: whole(size, 0))

    def images() -> Iterator[bytes]:
        at = start
        for size in sizes:
            yield data[at : at + size]
            at += size

    return head, images()
