"""Find the epilogue of a value: the chain of pointwise statements, each the only reader of the one before, at its own loops.
Examples are bias, activation, residual, and the copy into a bordered tensor."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from sardonyx.base.symbolic import Symbol, single, symbols
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.lower.values import Value, inline_into, reads_of

Readers = Mapping[Tensor, Sequence[Value]]


def readers_of(values: Iterable[Value]) -> dict[Tensor, list[Value]]:
    """Map each tensor that is read to the values whose bodies read it."""
    readers: dict[Tensor, list[Value]] = {}
    for v in values:
        for t in dict.fromkeys(r.tensor for r in reads_of(v)):
            readers.setdefault(t, []).append(v)
    return readers


Follower = tuple[Value, Read]


def epilogue(v: Value, readers: Readers, kept: Container[Tensor]) -> list[Follower]:
    """Return the pointwise values that follow v, each the only reader of the one before, each with its read."""
    found: list[Follower] = []
    while (follower := lone_reader(v.tensor, readers, kept)) and same_point(*follower) and follower[0].region == v.region:
        found.append(follower)
        v = follower[0]
    return found


def lone_reader(t: Tensor, readers: Readers, kept: Container[Tensor]) -> Follower | None:
    """Return the only value that reads t, with its only read, or None. Also None if t is kept."""
    found = readers.get(t, ())
    reads = [r for v in found for r in reads_of(v) if r.tensor is t]
    return (found[0], reads[0]) if len(found) == len(reads) == 1 and t not in kept else None


def inline_epilogue(v: Value, followers: Sequence[Follower]) -> dict[Symbol, Symbol]:
    """Inline v and all followers into the last follower. -> {v's loop: the loop of the last follower that stands for it}"""
    places = {s: s for s in v.variables}
    for t, r in followers:
        own = {a: i for axis, index in zip(v.axes, r.indices, strict=True) if (a := single(axis)) and (i := single(index))}
        places = {first: own[s] for first, s in places.items()}
        inline_into(t, v)
        v.body = None
        v = t
    return places


def same_point(t: Value, r: Read) -> bool:
    """Tell whether t is pointwise, has no guard on r, and reads one element per iteration, with each of t's loops as one
    index."""
    loops = [single(i) for i in r.indices if symbols(i)]
    return (
        t.fn is None and r.guard is None and None not in loops and len(set(loops)) == len(loops) and set(loops) == set(t.variables)
    )
