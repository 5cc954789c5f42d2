"""The tables of host operators: for each operator, its versions and what prepares its function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Function: TypeAlias = Callable[..., Any]
"""Takes a node's inputs (None for an omitted one) and returns its output, or a tuple of its outputs."""
Prepare: TypeAlias = Callable[..., Function]
"""Takes a node's attributes as keywords, including defaults, and returns its function; lookup tables are built here, once."""
Table: TypeAlias = Mapping[str, tuple[tuple[int, Prepare], ...]]
"""{operator: ((first version, prepare), ...)}"""


FRESH = "fresh"
"""Attribute of functions whose outputs share no memory with inputs or with stored values."""


def fresh(function: Function) -> Function:
    """Mark a function whose outputs belong to the caller: they share no memory with inputs or with stored values."""
    setattr(function, FRESH, True)
    return function


def plain(function: Function) -> tuple[tuple[int, Prepare], ...]:
    """Return the table entry of an operator without attributes that is the same in all versions."""
    return ((1, lambda: function),)


def texts(values: list[Any], shape: tuple[int, ...]) -> Array:
    """Return object[*shape] with these elements, in order."""
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)
