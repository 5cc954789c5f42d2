"""Operators that onnx.reference lacks, gets wrong, or computes far too slowly, in numpy of ours."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

TABLES: tuple[dict[tuple[str, str], tuple[tuple[int, Callable[..., Any] | None], ...]], ...] = ()


@functools.cache
def find(domain: str, name: str, since: int) -> Callable[..., Any] | None:
    """The correction for the version of an operator that came in opset `since`, if there is one."""
    for table in TABLES:
        found = None
        for first, function in table.get((domain, name), ()):
            if first <= since:
                found = function
        if found is not None:
            return found
    return None


def wants_outputs(function: Callable[..., Any]) -> bool:
    """Does the function ask how many outputs its node has?"""
    return "outputs" in inspect.signature(function).parameters
