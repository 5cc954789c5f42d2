"""Reads the arguments `providers` and `provider_options` of a session."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

from sardonyx.base.errors import InvalidArgument
from sardonyx.providers import registry

Providers = Sequence[str | tuple[str, dict[Any, Any]]]
Options = Sequence[dict[Any, Any]]


def normalise(
    providers: Providers | None, options: Options | None, available: Collection[str] = registry.AVAILABLE
) -> dict[str, dict[str, str]]:
    """Return {provider: options} in the user's order, leaving out providers that aren't available, with a UserWarning.

    Raises ValueError for arguments of another form, InvalidArgument if none of the named providers is available.
    """
    if providers is None:
        return {}
    found: dict[str, dict[str, str]] = {}
    for name, given in pairs(providers, options):
        if name not in available:
            there = ", ".join(available)
            text = f"Specified provider '{name}' is not in available provider names.Available providers: '{there}'"
            warnings.warn(text, stacklevel=4)
        elif name in found:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=4)
        else:
            found[name] = {str(key): str(value) for key, value in given.items()}
    if providers and not found:
        raise InvalidArgument(
            f"None of the providers that were asked for is here: {', '.join(map(with_remedy, dict(pairs(providers, options))))}. "
            f"Models run on {registry.CPU}: name it, alone or after them."
        )
    return found


def with_remedy(name: str) -> str:
    """Return a provider's name, and what to install for it if that is known."""
    found = registry.what_to_install(name)
    return f"{name} (pip install {found})" if found else name


def pairs(providers: Providers, options: Options | None) -> list[tuple[str, dict[Any, Any]]]:
    """Return [(provider, options)], one pair for each entry of `providers`. Raises ValueError for arguments of another form."""
    if not isinstance(providers, Sequence) or isinstance(providers, str):
        raise ValueError("'providers' should be a sequence.")
    if options is not None:
        return list(zip(names(providers), checked_options(options, len(providers)), strict=True))
    out: list[tuple[str, dict[Any, Any]]] = []
    for provider in providers:
        if isinstance(provider, str):
            out.append((provider, {}))
        elif isinstance(provider, tuple) and [type(x) for x in provider] == [str, dict]:
            out.append(provider)
        else:
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
    return out


def names(providers: Providers) -> list[str]:
    found = [provider for provider in providers if isinstance(provider, str)]
    if len(found) != len(providers):
        raise ValueError("Only string values for 'providers' are supported if 'provider_options' is given.")
    return found


def checked_options(options: Options, count: int) -> Options:
    if not isinstance(options, Sequence):
        raise ValueError("'provider_options' should be a sequence.")
    if len(options) != count:
        raise ValueError("'providers' and 'provider_options' should be the same length if both are given.")
    if not all(isinstance(given, dict) for given in options):
        raise ValueError("'provider_options' values must be dicts.")
    return options
