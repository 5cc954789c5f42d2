"""Deferred imports: a module runs without loading some of the modules that it imports, until it uses them.

onnx_ir imports sympy for arithmetic on symbolic sizes, which this package never uses; loading sympy takes longer than compiling a
small model. So the module that imports sympy is run with an import function of its own. For chosen modules that are not loaded yet,
this function returns a stand-in, which loads the real module when its first attribute is read. Other importers never see a
stand-in, because `sys.modules` never holds one.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """Stands for a module that is loaded when one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imports_deferred(reader: str, *names: str) -> Iterator[None]:
    """Defer the imports of these modules by module `reader`, if `reader` is loaded inside this context."""
    finder = _Finder(reader, names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds one module as the ordinary finder does, but lets a _Loader run it."""

    def __init__(self, reader: str, names: Sequence[str]) -> None:
        self.reader, self.names = reader, names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self.reader else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self.names)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module from its source with the import function `imported`."""

    def __init__(self, name: str, path: str, deferred: Sequence[str]) -> None:
        super().__init__(name, path)
        self.deferred = deferred

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self.imported}
        super().exec_module(module)

    def imported(
        self, name: str, own: Any = None, local: Any = None, parts: Sequence[str] | None = (), level: int = 0
    ) -> ModuleType:
        """Import as builtins.__import__ does, but return stand-ins for deferred modules."""
        if not parts and self._is_deferred(name):
            return StandIn(name)
        for part in parts or ():
            if self._is_deferred(f"{name}.{part}"):
                setattr(sys.modules[name], part, StandIn(f"{name}.{part}"))
        return builtins.__import__(name, own, local, parts or (), level)

    def _is_deferred(self, name: str) -> bool:
        return name in self.deferred and name not in sys.modules
