"""Blocks: files with the constants of a program, each array aligned to a cache line, which are mapped into memory.

Each block has a checksum, made of the sum of every PART of every array. It is compared whenever a block is mapped, which runs
at memory bandwidth, many times faster than SHA-256, and touches the pages before the first run needs them. It detects
accidents: flipped bits, or pages that were never written because power failed. Other users can't tamper with a block, because
the cache folder is private.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from sardonyx.base.cache_line import LINE
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.memory import Bytes

PART = 1 << 20
"""Bytes of an array that are summed into one word of the checksum."""
KIND = "weights"


def checksum(pieces: Sequence[Bytes]) -> str:
    """Return the checksum of these arrays, in this order."""
    total = hashlib.sha256()
    for piece in pieces:
        whole = piece.size // PART * PART
        words = piece[: piece.size // 8 * 8].view(np.uint64)
        total.update(np.add.reduce(words[: whole // 8].reshape(-1, PART // 8), axis=1).tobytes())
        total.update(np.add.reduce(words[whole // 8 :]).tobytes())
        total.update(piece[words.nbytes :].tobytes())
    return total.hexdigest()


def put(cache: Cache, key: str, pieces: Sequence[Bytes]) -> None:
    """Store a block in the cache, if possible."""
    parts = padded(pieces)
    if any(parts):
        cache.put_block(KIND, key, parts)


def padded(pieces: Sequence[Bytes]) -> list[bytes | memoryview]:
    """Return the content of a block: each array, then zeros up to the next cache line."""
    return [part for piece in pieces for part in (piece.data, bytes(-piece.size % LINE))]


def mapped(cache: Cache, key: str, sizes: Sequence[int], expected: str) -> list[Bytes] | None:
    """Map a block and return its arrays, read-only; None if it isn't in the cache or its checksum differs."""
    size = sum(map(padded_size, sizes))
    if not size:
        return [np.empty(0, np.uint8) for _ in sizes]
    memory = cache.map_block(KIND, key, size)
    if memory is None:
        return None
    pieces = pieces_of(np.frombuffer(memory, np.uint8), sizes, expected)
    if pieces is None:
        cache.problem = f"damaged block of {size} bytes"
    return pieces


def pieces_of(block: Bytes, sizes: Sequence[int], expected: str) -> list[Bytes] | None:
    """Return the arrays of a block; None if it has another size, or their checksum differs."""
    starts = [0, *itertools.accumulate(map(padded_size, sizes))]
    if starts[-1] != block.size:
        return None
    pieces = [block[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    return pieces if checksum(pieces) == expected else None


def padded_size(size: int) -> int:
    """Return the bytes that an array of `size` bytes takes in a block."""
    return -(-size // LINE) * LINE
