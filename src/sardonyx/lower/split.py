"""Long nests of little work, taken apart: each statement is a nest of its own.

Values of a few elements that are computed one after the other share nothing but a call, which takes nanoseconds. Taken apart, those of the
same form share a kernel (lower.sharing): creating a graph of very many small nodes takes what its different forms take, not their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sardonyx.expr.pieces import deciding
from sardonyx.lower.parallel import is_tiny
from sardonyx.lower.place import Nest
from sardonyx.lower.values import Value, quotients

LEAST_STATEMENTS = 8
"""Of a nest that is taken apart."""


class Placed(NamedTuple):
    """A nest, the place of its call in the order of the program, and whether one thread is to do all of it."""

    at: float
    nest: Nest
    single_threaded: bool


def split_nests(nests: Sequence[Nest]) -> Iterator[Placed]:
    """The nests in order, some of them as several."""
    for nest in nests:
        if is_long(nest):
            yield from (Placed(nest.root.id, piece, True) for piece in pieces(nest))
        else:
            yield Placed(nest.root.id, nest, False)


def is_long(nest: Nest) -> bool:
    """Has the nest many statements, each one plain, and with little to do?"""
    if len(nest.members) < LEAST_STATEMENTS - 1 or nest.panels_outermost or nest.tile is not None:
        return False
    return all(v.into is None and not v.is_next_state for v in nest.members) and all(map(is_plain, nest.statements))


def is_plain(v: Value) -> bool:
    """Is v computed the same way wherever it stands, in no time?"""
    return v.tile is None and not v.contracts and not deciding(v.body) and not quotients(v) and is_tiny(v.work)


def pieces(nest: Nest) -> list[Nest]:
    """A nest for each statement, over the same band, in their order; every value has a buffer."""
    out = [Nest(v, list(nest.band)) for v in nest.statements]
    for piece in out:
        piece.root.place, piece.root.stored, piece.root.nest = "ROOT", False, piece
    return out
