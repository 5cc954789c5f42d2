"""The finder that gives programs this package under the name `onnxruntime`."""

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
"""Of the ONNX Runtime whose interface this is."""
METADATA = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nSummary: Sardonyx under the name of ONNX Runtime\n"
FILES = {"METADATA": METADATA, "top_level.txt": f"{NAME}\n", "INSTALLER": "sardonyx\n"}
INSTALLED = ("quantization", "tools", "transformers")
"""Packages of an installed ONNX Runtime that need nothing but its public interface."""


FOLDER = "sardonyx-dropin-"
"""How the names of folders begin by which children of a program find this package, see `dropin.__main__`."""


class Facade(ModuleType):
    """The module `onnxruntime`: the names of `sardonyx`, but for those that say which version this is."""

    def __getattr__(self, name: str) -> Any:
        import sardonyx

        if name not in sardonyx.__all__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(sardonyx, name)

    def __dir__(self) -> list[str]:
        import sardonyx

        return sorted({*vars(self), *sardonyx.__all__})


def fill(module: ModuleType) -> None:
    """Gives a facade what is its own."""
    import sardonyx

    module.__doc__ = sardonyx.__doc__
    vars(module)["__version__"] = vars(module)["version"] = VERSION
    vars(module)["__all__"] = [name for name in sardonyx.__all__ if not name.startswith("_")]
    vars(module)["package_name"], vars(module)["cuda_version"] = NAME, ""
    vars(module)["get_version_string"] = lambda: VERSION
    for name in ("capi.onnxruntime_pybind11_state", "capi.onnxruntime_inference_collection", "capi.onnxruntime_validation"):
        importlib.import_module(f"{NAME}.{name}")  # as importing ONNX Runtime does


class FacadeLoader(Loader):
    """Makes the module `onnxruntime`."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Facade(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        fill(module)


class AliasLoader(Loader):
    """Gives a module of this package under another name: the same module, so that classes are the same."""

    def __init__(self, target: str) -> None:
        self._target = target

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(self._target)


class DropinDistribution(Distribution):
    """What `importlib.metadata` tells of `onnxruntime`."""

    def read_text(self, filename: str | os.PathLike[str]) -> str | None:
        return FILES.get(os.fspath(filename))

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        import sardonyx

        return importlib.metadata.PackagePath(os.path.dirname(sardonyx.__path__[0])) / os.fspath(path)

    @property
    def files(self) -> list[PackagePath]:
        return []


ANY = DistributionFinder.Context()
"""The question for all distributions."""


class Finder(MetaPathFinder):
    """Asked before all others; answers for `onnxruntime`, its submodules and its distribution."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package != NAME:
            return None
        if not rest:
            spec = ModuleSpec(fullname, FacadeLoader(), origin="sardonyx", is_package=True)
            spec.submodule_search_locations = []
            return spec
        if rest.split(".")[0] in INSTALLED:
            return installed(fullname, path)
        other = f"sardonyx.{rest}"
        found = importlib.util.find_spec(other) if public(rest) else None
        if found is None:
            return None
        return ModuleSpec(
            fullname, AliasLoader(other), origin=found.origin, is_package=found.submodule_search_locations is not None
        )

    def find_distributions(self, context: DistributionFinder.Context = ANY) -> Iterable[Distribution]:
        """The distribution `onnxruntime`, if it is asked for, or all are."""
        if context.name is None or context.name.lower().replace("_", "-") == NAME:
            yield DropinDistribution()

    def invalidate_caches(self) -> None:
        """Without effect: nothing is remembered."""


def public(rest: str) -> bool:
    """Is it a module that ONNX Runtime has too?"""
    return rest.split(".")[0] in ("backend", "capi", "datasets")


def installed(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """A module of an ONNX Runtime that is installed; None without one."""
    if fullname.count(".") == 1:
        path = list(folders())
    return PathFinder.find_spec(fullname, path)


def folders() -> Iterator[str]:
    """Where an installed ONNX Runtime lies."""
    found = PathFinder.find_spec(NAME, [path for path in sys.path if FOLDER not in path])
    if found is not None:
        yield from found.submodule_search_locations or ()


FINDER = Finder()


def install() -> None:
    """Lets `import onnxruntime` give this package from now on. Raises RuntimeError if ONNX Runtime has been imported already."""
    there = sys.modules.get(NAME)
    if there is not None and not isinstance(there, Facade):
        raise RuntimeError("onnxruntime has been imported already: call sardonyx.dropin.install() before")
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


def adopt() -> None:
    """Replaces the module `onnxruntime` that is just being imported, a stub in a child's PYTHONPATH, by this package."""
    del sys.modules[NAME]
    install()
    importlib.import_module(NAME)


def uninstall() -> None:
    """Undoes `install`. Who has imported a module keeps it."""
    if FINDER in sys.meta_path:
        sys.meta_path.remove(FINDER)
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]
