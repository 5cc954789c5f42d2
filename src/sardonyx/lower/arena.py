"""Choose the offset of each buffer in its segment's arena.

Barriers divide a segment into phases. Calls within one phase are unordered, except consecutive calls that one thread does. A
buffer is alive from the first phase that touches it to the last. If only a run of single-threaded calls touches it in its
first or last phase, it is alive from or until its call in that run. Buffers that are never alive at once share memory; no
barrier is added for that.

1. Choose an order: pack rectangles (life along one axis, bytes along the other) at typical sizes, the largest area first,
   each in the lowest gap. At typical sizes an arena is rarely much larger than what is alive at once.
2. In that order from bottom to top, place each buffer on the highest end of those below that are alive with it. This uses the
   formulas of the sizes, so the result is correct for all sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
from msgspec import Struct, field

from sardonyx.base.cache_line import LINE
from sardonyx.base.symbolic import (
    Defined,
    Dim,
    Int,
    Symbol,
    alias,
    evaluate,
    is_nonnegative,
    maximum,
    polynomial,
    round_up,
    terms,
)
from sardonyx.expr.tensor import Tensor
from sardonyx.lower.machine import Machine
from sardonyx.lower.schedule import SLACK, Call, Segment, Step

TYPICAL = Machine().typical
"""The value that a size known only at run time is given while buffers are ordered."""

WASTE = 64
"""An offset may be larger than necessary by one part in WASTE, if that avoids a maximum that each run would have to compute."""

Span = tuple[int, int]  # the first moment and the last, inclusive


def plan_memory(segment: Segment, owned: Mapping[Tensor, Dim], kept: frozenset[Tensor]) -> None:
    """Give each tensor of `owned` ({tensor: bytes}) that the segment touches an offset in the arena. Barriers must be placed
    already.

    Tensors in `kept` live until the end of the segment.
    """
    lives = lives_of(segment, owned, kept)
    sizes = {t: round_up(owned[t] + SLACK, LINE) for t in lives}
    typical = Typical()
    tops: list[Dim] = [0] * (1 + max((last for _, last in lives.values()), default=0))
    for t in stacked(lives, {t: typical(size) for t, size in sizes.items()}):
        first, last = lives[t]
        offset = highest(tops[first : last + 1], typical)
        segment.offsets[t], segment.sizes[t] = offset, owned[t]
        tops[first : last + 1] = [offset + sizes[t]] * (last + 1 - first)
    segment.arena = highest(tops, typical)


def lives_of(segment: Segment, owned: Container[Tensor], kept: Container[Tensor]) -> dict[Tensor, Span]:
    """Return, for each tensor of `owned`, the first and the last moment at which it needs its memory."""
    times = moments(segment.steps)
    lives: dict[Tensor, Span] = {}
    for step, (first, last) in zip(segment.steps, times, strict=True):
        for t in (*step.writes, *step.reads):
            if t in owned:
                begin, until = lives.get(t, (first, last))
                lives[t] = min(begin, first), max(until, last)
    end = max((last for _, last in times), default=0)
    return {t: (first, end if t in kept else last) for t, (first, last) in lives.items()}


def moments(steps: Sequence[Step]) -> list[Span]:
    """Return the first and the last moment at which each step may run.

    The calls of a phase's longest single-threaded run have a moment each; any other step may run at any moment of its phase.
    """
    starts = [0, *(i for i, s in enumerate(steps) if s.barrier and i > 0), len(steps)]
    out: list[Span] = []
    now = 0
    for begin, end in itertools.pairwise(starts):
        start, length = longest_run([isinstance(s, Call) and s.single_threaded for s in steps[begin:end]])
        last = now + max(length, 1) - 1
        for i in range(end - begin):
            own = now + i - start
            out.append((own, own) if 0 <= i - start < length else (now, last))
        now = last + 1
    return out


def longest_run(single_threaded: Sequence[bool]) -> tuple[int, int]:
    """Return (start, length) of the longest run of True."""
    best, start = (0, 0), 0
    for is_one, group in itertools.groupby(single_threaded):
        length = len(list(group))
        if is_one and length > best[1]:
            best = start, length
        start += length
    return best


def stacked(lives: Mapping[Tensor, Span], sizes: Mapping[Tensor, int]) -> list[Tensor]:
    """Order the tensors from bottom to top, by packing: the largest area first, each into the lowest gap."""
    area = {t: sizes[t] * (last + 1 - first) for t, (first, last) in lives.items()}
    order = sorted(lives, key=lambda t: (-area[t], lives[t], t.id))
    first, last = np.array([lives[t] for t in order], np.int64).reshape(-1, 2).T
    start, end = np.zeros((2, len(order)))
    for i, t in enumerate(order):
        size = float(sizes[t])
        met = np.flatnonzero((first[:i] <= last[i]) & (last[:i] >= first[i]))
        met = met[np.argsort(start[met], kind="stable")]
        floors = np.maximum.accumulate(np.append(0.0, end[met]))
        gap = np.argmax(np.append(start[met], np.inf) - floors >= size)
        start[i], end[i] = floors[gap], floors[gap] + size
    return [order[i] for i in np.argsort(start, kind="stable")]


class Typical(Struct):
    """Evaluates formulas at typical sizes, to compare them; a formula that divides by 0 there counts as 0."""

    known: dict[Symbol, int] = field(default_factory=dict)

    def __call__(self, e: Dim) -> int:
        try:
            return evaluate(e, self.symbol)
        except ZeroDivisionError:
            return 0

    def symbol(self, s: Symbol) -> int:
        if s not in self.known:
            self.known[s] = self(s.definition) if isinstance(s, Defined) else TYPICAL
        return self.known[s]


def highest(offsets: Iterable[Dim], typical: Typical) -> Dim:
    """Return an offset that is at least as large as all of these: their maximum, or slightly more."""
    out: Dim = 0
    for offset in dict.fromkeys(offsets):
        out = higher(out, offset, typical)
    return out


def higher(a: Dim, b: Dim, typical: Typical) -> Dim:
    """Return the larger offset. If the run decides, return the sum of each term's larger coefficient if that is little more,
    else an alias for the maximum."""
    larger = maximum(a, b)
    if not isinstance(larger, Int) or larger in (a, b):
        return larger
    own, other = terms(a), terms(b)
    both = polynomial({monomial: max(own.get(monomial, 0), other.get(monomial, 0)) for monomial in {**own, **other}})
    most = max(typical(a), typical(b))
    fits = is_nonnegative(both - a) and is_nonnegative(both - b) and typical(both) <= most + most // WASTE
    return both if fits else alias(larger)
