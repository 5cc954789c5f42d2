"""Digests of a model's content: a tree of SHA-256 whose leaves are hashed by several threads. The digests of large files are
cached.

digest = sha256(sha256(leaf 0) ... sha256(leaf n) size),  leaves of LEAF bytes
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable

from sardonyx.runtime.cache import Cache
from sardonyx.runtime.cores import available_cores
from sardonyx.runtime.safe_open import Identity, identity_of

LEAF = 4 << 20
PIECE = 256 << 10  # bytes per read, which stay in the core's cache while they are hashed
MOST_THREADS = 16
REMEMBERED = 1 << 20  # bytes; a smaller file is hashed each time, which costs no more than the cache
SETTLED_SECONDS = 3.0  # some file systems round the times of a file to 2 s; this is longer

KIND = "digest"

Leaf = Callable[[int, int], bytes]  # (start, end) -> its SHA-256


def digest_bytes(data: bytes) -> str:
    """Return the digest of bytes."""
    view = memoryview(data)
    return _tree(len(data), lambda start, end: hashlib.sha256(view[start:end]).digest())


def digest_file(descriptor: int, cache: Cache | None = None) -> tuple[str, Identity]:
    """Return the digest of an open file's content, and the file's identity. Raises OSError if it can't be read, or changes
    meanwhile.

    The cache keeps the digest of a large file under the file's identity: device, inode, size and both times. A file is only
    cached if it was last changed some seconds before it was read, so that any later change gives it another time.
    """
    identity = identity_of(descriptor)
    age = time.time() - max(identity.modified, identity.changed) / 1e9
    is_remembered = cache is not None and identity.size >= REMEMBERED and age > SETTLED_SECONDS
    name = repr(identity)
    if cache is not None and is_remembered and (found := cache.get(KIND, name)) is not None:
        return found.decode("ascii"), identity
    digest = _tree(identity.size, lambda start, end: _leaf_of_file(descriptor, start, end))
    if identity_of(descriptor) != identity:
        raise OSError("the file changes while it is read")
    if cache is not None and is_remembered:
        cache.put(KIND, name, digest.encode("ascii"))
    return digest, identity


def _leaf_of_file(descriptor: int, start: int, end: int) -> bytes:
    total = hashlib.sha256()
    buffer = memoryview(bytearray(min(PIECE, end - start)))
    while start < end:
        count = os.preadv(descriptor, [buffer[: end - start]], start)
        if not count:
            raise OSError(f"the file ended after {start} bytes")
        total.update(buffer[:count])
        start += count
    return total.digest()


def _tree(size: int, leaf: Leaf) -> str:
    """Return the digest of `size` bytes. Raises whatever `leaf` raises."""
    starts = range(0, size, LEAF)
    leaves = [b""] * len(starts)
    errors: list[BaseException] = []

    def work(first: int, step: int) -> None:
        try:
            for i in range(first, len(starts), step):
                leaves[i] = leaf(starts[i], min(starts[i] + LEAF, size))
        except OSError as error:
            errors.append(error)

    count = min(available_cores(), MOST_THREADS, len(starts)) if len(starts) > 1 else 1
    helpers = [threading.Thread(target=work, args=(i, count), daemon=True) for i in range(1, count)]
    for helper in helpers:
        helper.start()
    work(0, count)
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
    return hashlib.sha256(b"".join([*leaves, size.to_bytes(8, "little")])).hexdigest()
