"""Blocks: the arrays of a program side by side, each on a cache line's boundary, as a file that is mapped.

A sum of each part of each array is taken when a block is made, and again whenever one is mapped: at memory's speed, many times
that of a cryptographic digest, and the pages are touched before the first run needs them. It finds what accidents do to a
file: bits that flipped, pages that were never written before power failed. Malice is kept out by the folder's mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from sardonyx.base.cache_line import LINE
from sardonyx.runtime.cache import Cache
from sardonyx.runtime.memory import Bytes

PART = 1 << 20  # bytes of an array that share a sum
KIND = "weights"


def checksum(pieces: Sequence[Bytes]) -> str:
    """Of these arrays in this order."""
    total = hashlib.sha256()
    for piece in pieces:
        whole = piece.size // PART * PART
        words = piece[: piece.size // 8 * 8].view(np.uint64)
        total.update(np.add.reduce(words[: whole // 8].reshape(-1, PART // 8), axis=1).tobytes())
        total.update(np.add.reduce(words[whole // 8 :]).tobytes())
        total.update(piece[words.nbytes :].tobytes())
    return total.hexdigest()


def put(cache: Cache, key: str, pieces: Sequence[Bytes]) -> None:
    """Keep a block, if that is possible."""
    padded = [part for piece in pieces for part in (piece.data, bytes(-piece.size % LINE))]
    if any(padded):
        cache.put_block(KIND, key, padded)


def mapped(cache: Cache, key: str, sizes: Sequence[int], expected: str) -> list[Bytes] | None:
    """The arrays of a block, read-only, if it is there and has this checksum."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // LINE) * LINE)
    if not starts[-1]:
        return [np.empty(0, np.uint8) for _ in sizes]
    memory = cache.map_block(KIND, key, starts[-1])
    if memory is None:
        return None
    block = np.frombuffer(memory, np.uint8)
    pieces = [block[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    if checksum(pieces) != expected:
        cache.problem = f"damaged block of {starts[-1]} bytes"
        return None
    return pieces
