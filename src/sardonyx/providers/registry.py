"""The providers by name: those of this package, those that a program registers, and those of installed packages.

An installed package offers a provider by an entry point of the group `sardonyx.execution_providers`: its name is the provider's,
its object a factory as `register_execution_provider` takes it. Entry points are looked up when a session names a provider that is
not known otherwise, and when all providers are listed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from sardonyx.base.errors import Fail, InvalidArgument, SardonyxError
from sardonyx.providers.base import ExecutionProvider

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from sardonyx.runtime.device import Device

CPU = "CPUExecutionProvider"
REFERENCE = "ReferenceExecutionProvider"
GROUP = "sardonyx.execution_providers"
"""The group of entry points of installed packages."""

Factory = Callable[[Mapping[str, str]], ExecutionProvider]


def _cpu(options: Mapping[str, str]) -> ExecutionProvider:
    """Return the compiler. Raises Fail if it can't be imported; no other provider takes its place."""
    try:
        from sardonyx.providers.cpu import CPUExecutionProvider
    except ImportError as error:
        raise Fail(f"{CPU} cannot be imported: {error}") from error
    return CPUExecutionProvider(options)


def _reference(options: Mapping[str, str]) -> ExecutionProvider:
    from sardonyx.providers.reference import ReferenceExecutionProvider

    return ReferenceExecutionProvider(options)


ELSEWHERE = (
    *("TensorrtExecutionProvider", "CUDAExecutionProvider", "MIGraphXExecutionProvider", "OpenVINOExecutionProvider"),
    *(
        "DnnlExecutionProvider",
        "VitisAIExecutionProvider",
        "QNNExecutionProvider",
        "NnapiExecutionProvider",
        "VSINPUExecutionProvider",
    ),
    *("JsExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider", "RknpuExecutionProvider", "WebNNExecutionProvider"),
    *("WebGpuExecutionProvider", "XnnpackExecutionProvider", "CANNExecutionProvider", "AzureExecutionProvider"),
)
"""Providers of ONNX Runtime that programs may name, whether they exist here or not."""

FACTORIES: dict[str, Factory] = {CPU: _cpu, REFERENCE: _reference}
OWN = frozenset({CPU, REFERENCE})
"""The providers of this package, which can't be removed."""
LIBRARIES: dict[str, tuple[str, str]] = {}
"""{provider of this package: (the module that it needs, what to install)}"""


def names() -> list[str]:
    """Return the names of the providers that sessions accept, in order of preference: this package's first."""
    return [*(name for name in FACTORIES if is_installed(name)), *(name for name in discovered() if name not in FACTORIES)]


def is_available(name: str) -> bool:
    """Do sessions accept this provider?"""
    return is_installed(name) if name in FACTORIES else name in discovered()


def is_installed(name: str) -> bool:
    """Is the library there that a provider of this package needs?"""
    return name not in LIBRARIES or importlib.util.find_spec(LIBRARIES[name][0]) is not None


class Names(Collection[str]):
    """The names of the providers that sessions accept. Whether one is among them is found out without listing all."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and is_available(name)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())


AVAILABLE = Names()


@functools.cache
def discovered() -> dict[str, EntryPoint]:
    """Return {provider: entry point} of installed packages. Of several with one name the first counts."""
    from importlib import metadata  # sessions of this package's providers do without it

    found: dict[str, EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def what_to_install(name: str) -> str:
    """Return what brings a provider that isn't available; "" if nothing is known to."""
    return LIBRARIES[name][1] if name in LIBRARIES else ""


def create(name: str, options: Mapping[str, str]) -> ExecutionProvider:
    """Return a provider of this name. Raises KeyError if there is none, Fail if it can't be imported or made, and the
    SardonyxError that the provider raises for its options.
    """
    factory = FACTORIES[name] if name in FACTORIES else loaded(discovered()[name])
    try:
        made = factory(options)
    except SardonyxError:
        raise
    except Exception as error:
        raise Fail(f"{name} can't be made with the options {dict(options)}: {type(error).__name__}: {error}") from error
    if not isinstance(made, ExecutionProvider):
        raise Fail(f"the factory of {name} returned a {type(made).__name__}, which is no ExecutionProvider")
    return made


def devices() -> list[Device]:
    """Return the devices of all available providers that have memories of their own; none of those that can't be made without
    options.
    """
    found: list[Device] = []
    for name in names():
        if name not in OWN:
            with contextlib.suppress(SardonyxError):
                found += create(name, {}).devices()
    return found


def loaded(point: EntryPoint) -> Factory:
    """Return the factory of an entry point. Raises Fail if it can't be imported."""
    try:
        factory = point.load()
    except Exception as error:
        package = point.dist.name if point.dist is not None else "?"
        raise Fail(
            f"{point.name} of the package {package} cannot be imported ({point.value}): {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise Fail(f"{point.value} is no factory of {point.name}, but a {type(factory).__name__}")
    return factory  # type: ignore[no-any-return]


def register_execution_provider(name: str, factory: Factory) -> None:
    """Register a provider, which sessions of this process can then name.

        sardonyx.register_execution_provider("ToyExecutionProvider", ToyExecutionProvider)

    factory: a subclass of ExecutionProvider, or a function that returns a provider for options, {name: text}. It raises
    InvalidArgument for options that are wrong. Raises TypeError for a name that is no text and for a factory that can't be
    called, InvalidArgument for a name that another provider has.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"a provider's name must be a text, not {name!r}")
    if not callable(factory):
        raise TypeError(f"a provider's factory must be callable, not a {type(factory).__name__}")
    if FACTORIES.get(name, factory) is not factory:
        raise InvalidArgument(f"There is a provider {name} already; unregister_execution_provider removes one that was registered.")
    FACTORIES[name] = factory


def unregister_execution_provider(name: str) -> None:
    """Remove a provider that was registered; sessions that use it keep it. Raises InvalidArgument if there is none."""
    if name in OWN or name not in FACTORIES:
        raise InvalidArgument(f"Execution provider {name} was not registered.")
    del FACTORIES[name]
