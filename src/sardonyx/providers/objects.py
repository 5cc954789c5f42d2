"""Compiled objects: made once, then found on disk.

A kernel's key is its canonical text's (its name), the target's features, and what makes code of it: LLVM's version and this
package's code generator, byte for byte. So a new release never meets an old one's objects.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import llvmlite
from llvmlite import ir

from sardonyx import codegen, loop
from sardonyx.codegen import compile as code
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Kernel
from sardonyx.runtime.cache import Cache

KIND = "object"


def kernel_object(kernel: Kernel, target: Target, cache: Cache | None) -> bytes:
    """The kernel's object. Raises Unsupported for what can't be emitted."""
    key = digest(kernel.name, target)
    found = cache.get(KIND, key) if cache is not None else None
    if found is None:
        found = code.compile_kernel(kernel, target)
        if cache is not None:
            cache.put(KIND, key, found)
    return found


def module_object(module: ir.Module, target: Target, cache: Cache | None) -> bytes:
    """A module's object, known by the module's text."""
    key = digest(str(module), target)
    found = cache.get(KIND, key) if cache is not None else None
    if found is None:
        found = code.compile_module(module, target)
        if cache is not None:
            cache.put(KIND, key, found)
    return found


def digest(what: str, target: Target) -> str:
    return hashlib.sha256("\0".join((what, target.key, generator())).encode()).hexdigest()


@functools.cache
def generator() -> str:
    """What turns a kernel into code, as a digest."""
    total = hashlib.sha256(llvmlite.__version__.encode())
    for package in (loop, codegen):
        for folder in package.__path__:
            for file in sorted(Path(folder).glob("*.py")):
                total.update(file.read_bytes())
    return total.hexdigest()
