"""Operators of sequences, which are lists, and of optionals, of which an empty one is None."""

from __future__ import annotations

from typing import Any

import numpy as np

from sardonyx.base.errors import InvalidArgument
from sardonyx.host.table import Array, Function, Table, plain


def number(x: Array) -> int:
    """Return the integer in a tensor of one element."""
    return int(x.reshape(-1)[0])


def place(sequence: list[Any], position: Array, end: int) -> int:
    """Return an index, counted from the end if it is negative. Raises InvalidArgument outside [-end, end)."""
    found = number(position)
    if not -end <= found < end:
        raise InvalidArgument(f"Invalid sequence index ({found}) specified for sequence of size ({len(sequence)})")
    return found + end if found < 0 else found


def construct(*elements: Any) -> list[Any]:
    return list(elements)


def sequence_at(sequence: list[Any], position: Array) -> Any:
    return sequence[place(sequence, position, len(sequence))]


def insert(sequence: list[Any], element: Any, position: Array | None = None) -> list[Any]:
    """Return a new sequence with the element before `position`, by default at the end."""
    at = len(sequence) if position is None else number(position)
    if not -len(sequence) <= at <= len(sequence):
        raise InvalidArgument(f"Invalid sequence index ({at}) specified for sequence of size ({len(sequence)})")
    at = at + len(sequence) if at < 0 else at
    return [*sequence[:at], element, *sequence[at:]]


def erase(sequence: list[Any], position: Array | None = None) -> list[Any]:
    """Return a new sequence without the element at `position`, by default the last."""
    at = len(sequence) - 1 if position is None else place(sequence, position, len(sequence))
    if not sequence:
        raise InvalidArgument("Invalid sequence index (-1) specified for sequence of size (0)")
    return [*sequence[:at], *sequence[at + 1 :]]


def length(sequence: list[Any]) -> Array:
    return np.array(len(sequence), np.int64)


def concat_from_sequence(axis: int, new_axis: int = 0) -> Function:
    """Concatenate the elements along an axis, or stack them along a new one."""

    def run(sequence: list[Array]) -> Array:
        if not sequence:
            raise InvalidArgument("an empty sequence can't be concatenated")
        return np.stack(sequence, axis) if new_axis else np.concatenate(sequence, axis)

    return run


def has_element(x: Any = None) -> Array:
    return np.array(x is not None)


def get_element(x: Any) -> Any:
    if x is None:
        raise InvalidArgument("the optional value is empty")
    return x


TABLE: Table = {
    "SequenceConstruct": plain(construct),
    "SequenceAt": plain(sequence_at),
    "SequenceInsert": plain(insert),
    "SequenceErase": plain(erase),
    "SequenceLength": plain(length),
    "ConcatFromSequence": ((11, concat_from_sequence),),
    "OptionalHasElement": plain(has_element),
    "OptionalGetElement": plain(get_element),
}
