"""Where an array's numbers lie. numpy's own ways to ask take a microsecond or two, so the address is read where the object keeps it."""

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
    """The offset in an array object of the pointer to its data: the one word that holds it in two arrays. None if that is not so."""
    if sys.implementation.name != "cpython":
        return None
    probes: list[Array] = [np.zeros(3), np.zeros((2, 5), np.uint8)]
    places = range(0, np.ndarray.__basicsize__ - ctypes.sizeof(_Word) + 1, ctypes.sizeof(_Word))
    found = [at for at in places if all(_Word.from_address(id(p) + at).value == p.ctypes.data for p in probes)]
    return found[0] if len(found) == 1 else None


_PLACE = _find_place()


def quick_check(sizes: Sequence[int | None]) -> tuple[int, Callable[[Any], Any] | None, Any]:
    """(rank, what picks the fixed sizes from a shape, those sizes), for a check that takes no loop. None: any size will do."""
    fixed = [axis for axis, size in enumerate(sizes) if size is not None]
    if not fixed:
        return len(sizes), None, None
    pick = operator.itemgetter(*fixed)
    return len(sizes), pick, pick(sizes)


def address_of(array: Array) -> int:
    """The address of the first element."""
    return array.ctypes.data if _PLACE is None else _Word.from_address(id(array) + _PLACE).value
