"""The address of an array's elements, read from the array object, because numpy's own ways take a microsecond or two."""

from __future__ import annotations

import ctypes
import operator
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Array: TypeAlias = "npt.NDArray[Any]"

_Word = ctypes.c_size_t


def _find_place() -> int | None:
    """Find the offset in an array object of the pointer to its data, by comparing two arrays. None if it can't be told."""
    if sys.implementation.name != "cpython":
        return None
    probes: list[Array] = [np.zeros(3), np.zeros((2, 5), np.uint8)]
    places = range(0, np.ndarray.__basicsize__ - ctypes.sizeof(_Word) + 1, ctypes.sizeof(_Word))
    found = [at for at in places if all(_Word.from_address(id(p) + at).value == p.ctypes.data for p in probes)]
    return found[0] if len(found) == 1 else None


_PLACE = _find_place()


def quick_check(sizes: Sequence[int | None]) -> tuple[int, Callable[[Any], Any] | None, Any]:
    """Prepare a check of a shape that needs no loop. -> (rank, a function that picks the fixed sizes from a shape, those sizes);
    None stands for any size
    """
    fixed = [axis for axis, size in enumerate(sizes) if size is not None]
    if not fixed:
        return len(sizes), None, None
    pick = operator.itemgetter(*fixed)
    return len(sizes), pick, pick(sizes)


def address_of(array: Array) -> int:
    """Return the address of the first element."""
    return array.ctypes.data if _PLACE is None else _Word.from_address(id(array) + _PLACE).value
