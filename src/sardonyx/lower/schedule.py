"""The order of a program: kernels, the barriers between them, the repeated parts, and where each buffer lies in the arena."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sardonyx.base.symbolic import Dim, is_nonnegative, minimum, product, round_up
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Kernel

ALIGNMENT = 64
SLACK = 256
"""Bytes after each buffer that may be read, and in scratch written, by the last whole vectors."""


@dataclass(eq=False)
class Call:
    """One kernel over tensors, in the order of its buffers, and sizes (the Dims of its size symbols).

    work: roughly how many operations it does. alone: one thread does all of it.
    """

    kernel: Kernel
    arguments: list[Tensor]
    sizes: list[Dim]
    writes: frozenset[Tensor]
    origins: tuple[str, ...]
    checks: tuple[str, ...] = ()
    barrier: bool = False  # before it
    work: Dim = 0
    alone: bool = False

    @property
    def reads(self) -> frozenset[Tensor]:
        return frozenset(self.arguments) - self.writes


@dataclass(eq=False)
class Repeat:
    """The steps of a region, one turn after the other; each turn begins after a barrier."""

    region: Region
    steps: list[Step]
    barrier: bool = True

    @property
    def writes(self) -> frozenset[Tensor]:
        return frozenset().union(*(s.writes for s in self.steps))

    @property
    def reads(self) -> frozenset[Tensor]:
        return frozenset().union(*(s.reads for s in self.steps)) - self.writes


Step = Call | Repeat


@dataclass
class Segment:
    """Steps that run in one native call. Sizes that data decide are read between segments."""

    steps: list[Step] = field(default_factory=list)
    offsets: dict[Tensor, Dim] = field(default_factory=dict)  # bytes from the start of the segment's arena
    sizes: dict[Tensor, Dim] = field(default_factory=dict)  # bytes that each of those buffers takes, gaps included
    arena: Dim = 0


def calls(steps: Iterable[Step]) -> Iterator[Call]:
    for s in steps:
        if isinstance(s, Call):
            yield s
        else:
            yield from calls(s.steps)


def work(steps: Iterable[Step]) -> Dim:
    """Roughly how many operations the steps do."""
    return sum((s.work if isinstance(s, Call) else minimum(s.region.trip, MANY_TURNS) * work(s.steps) for s in steps), start=0)


MANY_TURNS = 1 << 20
"""A loop that may go on for ever is taken to turn so often."""


def place_barriers(steps: Sequence[Step], slot: Mapping[Tensor, object], repeated: bool = False) -> None:
    """A barrier stands before a step that meets memory another step has touched since the last barrier.

    Parts of one whole may be written side by side, and calls that follow each other and are done by one thread alone have an order
    anyway (runtime.steps). A repeated body begins with a barrier of its own.
    """
    wrote: dict[object, Tensor] = {}
    read: set[object] = set()
    dealt: set[object] = set()  # of these, what may not have been touched by the thread that does this step
    for i, step in enumerate(steps):
        if isinstance(step, Repeat):
            place_barriers(step.steps, slot, repeated=True)
            step.barrier = i > 0 or repeated
            wrote, read = {slot.get(t, t): t for t in step.writes}, {slot.get(t, t) for t in step.reads}
            dealt = read | wrote.keys()
            continue
        writes = {slot.get(t, t): t for t in step.writes}
        reads = {slot.get(t, t) for t in step.reads}
        met = (reads & wrote.keys()) | (writes.keys() & read) | {m for m, t in writes.items() if wrote.get(m, t) is not t}
        if not met.isdisjoint(dealt) if step.alone else met:
            step.barrier = True
            wrote, read, dealt = {}, set(), set()
        wrote.update(writes)
        read |= reads
        if not step.alone:
            dealt = read | wrote.keys()


def plan_memory(segment: Segment, owned: Mapping[Tensor, Dim], kept: frozenset[Tensor]) -> dict[Tensor, object]:
    """Gives every tensor of `owned` ({tensor: bytes}) that the segment writes its place in the arena.

    A buffer takes the place of a dead one whose size is provably enough. `kept` ones live to the end of the run. Returns what
    memory each tensor lies in, for the barriers.
    """
    last = {t: i for i, s in enumerate(segment.steps) for t in (*s.writes, *s.reads)}
    free: list[tuple[Dim, Dim]] = []
    slots: dict[Tensor, object] = {}
    live: dict[Tensor, tuple[Dim, Dim]] = {}
    for i, step in enumerate(segment.steps):
        for t in sorted(step.writes, key=lambda t: t.id):
            if t in segment.offsets or t not in owned:
                continue
            place = take(free, round_up(owned[t] + SLACK, ALIGNMENT), segment)
            segment.offsets[t], segment.sizes[t], live[t] = place[0], owned[t], place
            slots[t] = place[0]
        for t in [t for t in live if last[t] == i and t not in kept]:
            free.append(live.pop(t))
    return slots


def take(free: list[tuple[Dim, Dim]], size: Dim, segment: Segment) -> tuple[Dim, Dim]:
    """A free place that holds `size` for certain, the tightest known one; else a new one at the arena's end."""
    fits = [f for f in free if is_nonnegative(f[1] - size)]
    if not fits:
        place = segment.arena, size
        segment.arena = segment.arena + size
        return place
    best = next((f for f in fits if f[1] == size), fits[-1])
    free.remove(best)
    return best


def bytes_of(t: Tensor) -> Dim:
    return product(t.shape) * t.dtype.itemsize
