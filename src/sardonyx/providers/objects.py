"""Compiled objects, which are cached on disk.

The key of a kernel's object consists of its name (a digest of its canonical text), the target's features, LLVM's version and
a digest of this package's code generator, so that a new release never uses objects of an old one.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import llvmlite
from llvmlite import ir

from sardonyx import codegen, loop
from sardonyx.base.background import Background
from sardonyx.codegen import compile as code
from sardonyx.codegen import tile
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import Kernel
from sardonyx.runtime.cache import Cache

KIND = "object"


class Objects:
    """Emits kernels on this thread, and lets a background thread compile them with LLVM."""

    def __init__(self, background: Background, cache: Cache | None) -> None:
        self.background, self.cache = background, cache
        self.made: dict[str, Future[bytes]] = {}  # {name of a tile's function: the object that holds it}

    def kernel(self, kernel: Kernel, target: Target, urgent: bool = False) -> list[Future[bytes]]:
        """Start compiling the kernel, and those of its tiles that no earlier kernel has started. -> the objects that hold them

        Raises Unsupported for what can't be emitted.
        """
        tiles = [found for shapes in tile.tile_functions(kernel, target) for found in self._tiles(shapes, target, urgent)]
        own = self._object(kernel.name, target, lambda: code.kernel_text(kernel, target, True), urgent)
        return list(dict.fromkeys([own, *tiles]))

    def _tiles(self, shapes: Sequence[tile.Shape], target: Target, urgent: bool) -> list[Future[bytes]]:
        """Start compiling those functions that have not been started, in one object. -> the objects that hold all of them"""
        missing = [s for s in shapes if s.name not in self.made]
        if missing:
            names = " ".join(s.name for s in missing)
            made = self._object(names, target, lambda: code.print_module(tile.library(missing, target)), urgent)
            self.made |= {s.name: made for s in missing}
        return [self.made[s.name] for s in shapes]

    def module(self, module: ir.Module, target: Target, urgent: bool = False, level: int = code.OPTIMISED) -> Future[bytes]:
        """Start compiling a module, whose text is its key. level: of LLVM's code generator, see `codegen.compile`."""
        text = code.print_module(module)
        return self._object(text, target, lambda: text, urgent, level)

    def _object(
        self, what: str, target: Target, emit: Callable[[], str], urgent: bool, level: int = code.OPTIMISED
    ) -> Future[bytes]:
        key = digest(f"{level} {what}", target) if self.cache is not None else ""
        found = self.cache.get(KIND, key) if self.cache is not None else None
        if found is not None:
            kept: Future[bytes] = Future()
            kept.set_result(found)
            return kept
        text = emit()

        def make() -> bytes:
            made = code.compile_text(text, target, level)
            if self.cache is not None:
                self.cache.put(KIND, key, made)
            return made

        return self.background.submit(make, urgent)


def digest(what: str, target: Target) -> str:
    return hashlib.sha256("\0".join((what, target.key, generator())).encode()).hexdigest()


@functools.cache
def generator() -> str:
    """Return a digest of everything that turns a kernel into code."""
    total = hashlib.sha256(llvmlite.__version__.encode())
    for package in (loop, codegen):
        for folder in package.__path__:
            for file in sorted(Path(folder).glob("*.py")):
                total.update(file.read_bytes())
    return total.hexdigest()
