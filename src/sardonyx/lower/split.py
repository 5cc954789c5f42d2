"""Split nests of many tiny statements into one nest per statement, so that equal statements share a kernel.

Computing values of a few elements in one nest saves only calls, each of which takes nanoseconds. As nests of their own,
statements of one form share a kernel (lower.sharing): compiling a graph of very many small nodes then takes time for its
distinct forms only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sardonyx.expr.pieces import deciding
from sardonyx.lower.parallel import is_tiny
from sardonyx.lower.place import Nest
from sardonyx.lower.values import Value, quotients

LEAST_STATEMENTS = 8
"""Statements that a nest must have to be split."""


class Placed(NamedTuple):
    """A nest, the position of its call in the program, and whether one thread must compute all of it."""

    at: float
    nest: Nest
    single_threaded: bool


def split_nests(nests: Sequence[Nest]) -> Iterator[Placed]:
    """Yield the nests in order; nests of many tiny statements are split into one nest per statement."""
    for nest in nests:
        if is_long(nest):
            yield from (Placed(nest.root.id, piece, True) for piece in pieces(nest))
        else:
            yield Placed(nest.root.id, nest, False)


def is_long(nest: Nest) -> bool:
    """Tell whether the nest has many statements, all of them plain and tiny, and none that writes into another tensor."""
    if len(nest.members) < LEAST_STATEMENTS - 1 or nest.panels_outermost or nest.tile is not None:
        return False
    return all(v.into is None and not v.is_next_state for v in nest.members) and all(map(is_plain, nest.statements))


def is_plain(v: Value) -> bool:
    """Tell whether v is pointwise or a plain reduction of little work, with no tile and no loop that would be split or
    unrolled."""
    return v.tile is None and not v.contracts and not deciding(v.body) and not quotients(v) and is_tiny(v.work)


def pieces(nest: Nest) -> list[Nest]:
    """Make one nest per statement, over the same band and in the same order; every value gets a buffer."""
    out = [Nest(v, list(nest.band)) for v in nest.statements]
    for piece in out:
        piece.root.place, piece.root.stored, piece.root.nest = "ROOT", False, piece
    return out
