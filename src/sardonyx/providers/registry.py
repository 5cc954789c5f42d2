"""The providers there are, by name, in the order in which they are tried when a user names none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.providers.base import ExecutionProvider

CPU = "CPUExecutionProvider"
REFERENCE = "ReferenceExecutionProvider"

Factory = Callable[[Mapping[str, str]], ExecutionProvider]


def _cpu(options: Mapping[str, str]) -> ExecutionProvider:
    """The compiler. The reference stands in for it while it can't be imported."""
    try:
        from sardonyx.providers.cpu import CPUExecutionProvider
    except ImportError:
        return _reference(options)
    return CPUExecutionProvider(options)


def _reference(options: Mapping[str, str]) -> ExecutionProvider:
    from sardonyx.providers.reference import ReferenceExecutionProvider

    return ReferenceExecutionProvider(options)


FACTORIES: dict[str, Factory] = {CPU: _cpu, REFERENCE: _reference}


def names() -> list[str]:
    """The names that sessions accept."""
    return list(FACTORIES)


def create(name: str, options: Mapping[str, str]) -> ExecutionProvider:
    """The provider of this name. Raises KeyError if there is none."""
    return FACTORIES[name](options)
