"""The import finder that provides this package under the name `onnxruntime`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder, PackagePath
from types import ModuleType
from typing import Any

NAME = "onnxruntime"
VERSION = "1.32.0"
"""The version of ONNX Runtime whose interface this package has."""
METADATA = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nSummary: Sardonyx under the name of ONNX Runtime\n"
FILES = {"METADATA": METADATA, "top_level.txt": f"{NAME}\n", "INSTALLER": "sardonyx\n"}
INSTALLED = ("quantization", "tools", "transformers")
"""Packages of an installed ONNX Runtime that need only its public interface. Modules that this package has too come from here."""


FOLDER = "sardonyx-dropin-"
"""Prefix of the temporary folders by which child processes find this package, see `dropin.__main__`."""


class Facade(ModuleType):
    """The module `onnxruntime`: the names of `sardonyx`, except those that give the version."""

    def __getattr__(self, name: str) -> Any:
        import sardonyx

        if name not in sardonyx.__all__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(sardonyx, name)

    def __dir__(self) -> list[str]:
        import sardonyx

        return sorted({*vars(self), *sardonyx.__all__})


def fill(module: ModuleType) -> None:
    """Set the facade's own attributes: version, package name, __all__."""
    import sardonyx

    module.__doc__ = sardonyx.__doc__
    vars(module)["__version__"] = vars(module)["version"] = VERSION
    vars(module)["__all__"] = [name for name in sardonyx.__all__ if not name.startswith("_")]
    vars(module)["package_name"], vars(module)["cuda_version"] = NAME, ""
    vars(module)["get_version_string"] = lambda: VERSION
    for name in ("capi.onnxruntime_pybind11_state", "capi.onnxruntime_inference_collection", "capi.onnxruntime_validation"):
        importlib.import_module(f"{NAME}.{name}")  # importing ONNX Runtime imports these too


class FacadeLoader(Loader):
    """Creates the module `onnxruntime`."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Facade(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        fill(module)


class AliasLoader(Loader):
    """Provides a module of this package under another name. It is the same module object, so that its classes are the same."""

    def __init__(self, target: str) -> None:
        self._target = target

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(self._target)


class DropinDistribution(Distribution):
    """The metadata of `onnxruntime` for `importlib.metadata`."""

    def read_text(self, filename: str | os.PathLike[str]) -> str | None:
        return FILES.get(os.fspath(filename))

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        import sardonyx

        return importlib.metadata.PackagePath(os.path.dirname(sardonyx.__path__[0])) / os.fspath(path)

    @property
    def files(self) -> list[PackagePath]:
        return []


ANY = DistributionFinder.Context()
"""The context that asks for all distributions."""


class Finder(MetaPathFinder):
    """A meta path finder, before all others, for `onnxruntime`, its submodules and its distribution."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package != NAME:
            return None
        if not rest:
            spec = ModuleSpec(fullname, FacadeLoader(), origin="sardonyx", is_package=True)
            spec.submodule_search_locations = []
            return spec
        if rest in INSTALLED:  # a package, whose modules may be of both
            return installed(fullname, path) or alias(fullname, rest)
        return alias(fullname, rest) or (installed(fullname, path) if rest.split(".")[0] in INSTALLED else None)

    def find_distributions(self, context: DistributionFinder.Context = ANY) -> Iterable[Distribution]:
        """Yield the distribution `onnxruntime`, if it or all distributions are asked for."""
        if context.name is None or context.name.lower().replace("_", "-") == NAME:
            yield DropinDistribution()

    def invalidate_caches(self) -> None:
        """Do nothing: there are no caches."""


def alias(fullname: str, rest: str) -> ModuleSpec | None:
    """Return the spec of this package's module `rest` under another name; None if it has none, or if ONNX Runtime has none."""
    other = f"sardonyx.{rest}"
    found = importlib.util.find_spec(other) if public(rest) else None
    if found is None:
        return None
    return ModuleSpec(fullname, AliasLoader(other), origin=found.origin, is_package=found.submodule_search_locations is not None)


def public(rest: str) -> bool:
    """Does ONNX Runtime have this module too?"""
    return rest.split(".")[0] in ("backend", "capi", "datasets", *INSTALLED)


def installed(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Return the spec of a module of an installed ONNX Runtime; None if it isn't installed."""
    if fullname.count(".") == 1:
        path = list(folders())
    return PathFinder.find_spec(fullname, path)


def folders() -> Iterator[str]:
    """Yield the folders of an installed ONNX Runtime."""
    found = PathFinder.find_spec(NAME, [path for path in sys.path if FOLDER not in path])
    if found is not None:
        yield from found.submodule_search_locations or ()


FINDER = Finder()


def install() -> None:
    """Make `import onnxruntime` provide this package. Raises RuntimeError if ONNX Runtime has been imported already."""
    there = sys.modules.get(NAME)
    if there is not None and not isinstance(there, Facade):
        raise RuntimeError("onnxruntime has been imported already: call sardonyx.dropin.install() before")
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


def adopt() -> None:
    """Replace the stub module `onnxruntime`, which a child process is importing from PYTHONPATH, by this package."""
    del sys.modules[NAME]
    install()
    importlib.import_module(NAME)


def uninstall() -> None:
    """Undo `install`. Modules that have been imported stay usable."""
    if FINDER in sys.meta_path:
        sys.meta_path.remove(FINDER)
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]
