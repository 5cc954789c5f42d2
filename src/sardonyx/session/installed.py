"""Identifies the installed code: this package, and the libraries that influence what is compiled. It imports none of them.

A file's version is identified as Python does for its bytecode: by size and by time to the second.
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
    """Return a text that is equal only for equal installations; None if it can't be told, for example if a library lies in an
    archive.
    """
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
    """Return the stamp of the installer's RECORD file, which holds the files' digests; nothing for an editable installation."""
    found = os.path.join(os.path.dirname(folder), f"sardonyx-{sardonyx.__version__}.dist-info", "RECORD")
    try:
        return [stamp(found, os.stat(found))]
    except FileNotFoundError:
        return []


def sources(folder: str) -> list[str]:
    """Return the stamps of all modules below a folder, sorted."""
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
    """Return the stamp of a library's first module, and the names of its metadata folders, which contain the version. Raises
    OSError if it isn't found.
    """
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
    """Return a file's path, size and time of modification as text."""
    return f"{path} {status.st_size} {int(status.st_mtime)}"
