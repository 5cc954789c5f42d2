"""How host operators are listed: for each one, from which version on what prepares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Function: TypeAlias = Callable[..., Any]
"""Takes a node's inputs (None for one that is left out), returns its output, or a tuple of its outputs."""
Prepare: TypeAlias = Callable[..., Function]
"""Takes a node's attributes as keywords, defaults filled in, and returns its function; tables are built here, once."""
Table: TypeAlias = Mapping[str, tuple[tuple[int, Prepare], ...]]
"""{operator: ((since, prepare), ...)}"""


FRESH = "fresh"
"""The name of what marks a function whose outputs share no memory with its inputs, nor with anything that it keeps."""


def fresh(function: Function) -> Function:
    """Marks the function as one whose outputs are its caller's alone."""
    setattr(function, FRESH, True)
    return function


def plain(function: Function) -> tuple[tuple[int, Prepare], ...]:
    """An operator without attributes, in all its versions."""
    return ((1, lambda: function),)


def texts(values: list[Any], shape: tuple[int, ...]) -> Array:
    """object[*shape] with these elements, in order."""
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)
