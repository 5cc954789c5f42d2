"""Where each buffer lies in its segment's arena.

Barriers divide a segment into turns; within one, only calls that follow each other and are done by one thread have an order. So a buffer
is alive from the first turn that touches it to the last, or from and to a moment of it where one thread alone touches it then. Buffers
share memory that are never alive at once: the arena asks for no barrier.

1. The buffers are put into a picture, time along it and bytes up, the largest area first, each in the lowest gap: at typical sizes,
   with which an arena is rarely much larger than what is alive at once.
2. From bottom to top, each lies on the highest of those below it that it meets, by their formulas: for any sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

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
"""What a size is taken to be that only a run tells, where buffers are put in order."""

WASTE = 64
"""One part in so many may be left free where that saves a maximum at the run's start."""

Span = tuple[int, int]  # the first moment and the last


def plan_memory(segment: Segment, owned: Mapping[Tensor, Dim], kept: frozenset[Tensor]) -> None:
    """Gives every tensor of `owned` ({tensor: bytes}) that the segment, its barriers placed, touches a place in the arena.

    `kept` ones live to the end of the run.
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
    """From when to when a tensor needs its memory."""
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
    """When each step may run: at any moment of its turn; at one of its own in the longest row of calls that one thread does."""
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
    """(start, length) of the longest run of True."""
    best, start = (0, 0), 0
    for is_one, group in itertools.groupby(single_threaded):
        length = len(list(group))
        if is_one and length > best[1]:
            best = start, length
        start += length
    return best


def stacked(lives: Mapping[Tensor, Span], sizes: Mapping[Tensor, int]) -> list[Tensor]:
    """The tensors from bottom to top, as they lie when the largest area takes the lowest gap first."""
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


@dataclass
class Typical:
    """Numbers for formulas, to compare them by; 0 for those that divide by 0 at typical sizes."""

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
    """An offset that none of these exceeds: the largest, or a little more."""
    out: Dim = 0
    for offset in dict.fromkeys(offsets):
        out = higher(out, offset, typical)
    return out


def higher(a: Dim, b: Dim, typical: Typical) -> Dim:
    """The larger one. Where that depends on the run: each term's larger factor if that is little more, else a name for the maximum."""
    larger = maximum(a, b)
    if not isinstance(larger, Int) or larger in (a, b):
        return larger
    own, other = terms(a), terms(b)
    both = polynomial({monomial: max(own.get(monomial, 0), other.get(monomial, 0)) for monomial in {**own, **other}})
    most = max(typical(a), typical(b))
    fits = is_nonnegative(both - a) and is_nonnegative(both - b) and typical(both) <= most + most // WASTE
    return both if fits else alias(larger)
