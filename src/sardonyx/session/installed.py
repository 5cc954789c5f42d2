"""Which code this is: the package's own, and the libraries that decide what is compiled, none of them imported.

Files are told apart as Python itself tells whether to compile one again: by size and by time to the second.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from importlib.machinery import PathFinder

import sardonyx

LIBRARIES = ("llvmlite", "ml_dtypes", "numpy", "onnx", "onnx_ir")


@functools.cache
def installed() -> str | None:
    """One text for one state of the installation; None where it can't be told, as when a library lies in an archive."""
    try:
        told = [sys.version, sardonyx.__version__]
        for folder in sardonyx.__path__:
            told += record(folder) or sources(folder)
        for library in LIBRARIES:
            told += package(library)
    except OSError:
        return None
    return hashlib.sha256("\0".join(told).encode(errors="surrogateescape")).hexdigest()


def record(folder: str) -> list[str]:
    """What an installer noted beside the package, its files' digests among it; nothing where the package is worked on in its place."""
    found = os.path.join(os.path.dirname(folder), f"sardonyx-{sardonyx.__version__}.dist-info", "RECORD")
    try:
        return [stamp(found, os.stat(found))]
    except FileNotFoundError:
        return []


def sources(folder: str) -> list[str]:
    """Every module below a folder, in a fixed order."""
    found, waiting = [], [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    found.append(stamp(entry.path, entry.stat()))
                elif entry.name != "__pycache__" and entry.is_dir():
                    waiting.append(entry.path)
    return sorted(found)


def package(name: str) -> list[str]:
    """Where a library lies, its first module, and the folders with its version beside it. Raises OSError where they can't be found."""
    found = PathFinder.find_spec(name)
    if found is None or found.origin is None:
        raise FileNotFoundError(name)
    folder = os.path.dirname(os.path.dirname(found.origin))
    told = [stamp(found.origin, os.stat(found.origin))]
    return told + sorted(entry for entry in listing(folder) if entry.startswith(f"{name}-"))


@functools.cache
def listing(folder: str) -> list[str]:
    return os.listdir(folder)


def stamp(path: str, status: os.stat_result) -> str:
    return f"{path} {status.st_size} {int(status.st_mtime)}"
