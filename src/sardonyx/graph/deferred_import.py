"""Deferred imports: a module runs without loading some of the modules that it imports, until it uses them.

onnx_ir imports sympy for arithmetic on symbolic sizes, which this package never uses; loading sympy takes longer than compiling a
small model. onnx imports what converts, prints and joins models. So the modules that import them are run with an import function of
their own. For chosen modules that are not loaded yet, this function returns a stand-in, which loads the real module when its first
attribute is read. Other importers never see a stand-in, because `sys.modules` never holds one; as an attribute of its package, as
`onnx.compose` is, it has all that the module has.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """Stands for a module that is loaded when one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self.__name__))


class QuickMetadata(StandIn):
    """Stands for importlib.metadata, whose import takes as long as that of llvmlite because it brings the package `email`."""

    def __init__(self) -> None:
        super().__init__("importlib.metadata")

    def version(self, name: str) -> str:
        """Return a distribution's version, from the name of its one .dist-info folder on `sys.path`; importlib.metadata decides if
        there is no such folder, or several.
        """
        found = {path.name for place in sys.path for path in Path(place).glob(f"{name}-*.dist-info")}
        if len(found) == 1:
            return found.pop().removeprefix(f"{name}-").removesuffix(".dist-info")
        version: str = importlib.import_module(self.__name__).version(name)
        return version


@contextlib.contextmanager
def imports_deferred(reader: str, *modules: str | StandIn) -> Iterator[None]:
    """Defer the imports of these modules by module `reader`, if `reader` is loaded inside this context."""
    stand_ins = (StandIn(module) if isinstance(module, str) else module for module in modules)
    finder = _Finder(reader, {stand_in.__name__: stand_in for stand_in in stand_ins})
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    """Finds one module as the ordinary finder does, but lets a _Loader run it."""

    def __init__(self, reader: str, deferred: Mapping[str, StandIn]) -> None:
        self.reader, self.deferred = reader, deferred

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self.reader else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self.deferred)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module from its source with the import function `imported`."""

    def __init__(self, name: str, path: str, deferred: Mapping[str, StandIn]) -> None:
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
            return self._bound(name)
        for part in parts or ():
            if self._is_deferred(f"{name}.{part}"):
                setattr(sys.modules[name], part, self.deferred[f"{name}.{part}"])
        return builtins.__import__(name, own, local, parts or (), level)

    def _bound(self, name: str) -> ModuleType:
        """Return what the statement `import name` binds: of a dotted name a package that holds the stand-in."""
        home, _, module = name.partition(".")
        if not module:
            return self.deferred[name]
        package = StandIn(home)
        setattr(package, module, self.deferred[name])
        return package

    def _is_deferred(self, name: str) -> bool:
        return name in self.deferred and name not in sys.modules
