"""The order of a program: kernels, the barriers between them, and the repeated parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sardonyx.base.bounds import greatest
from sardonyx.base.symbolic import Dim, maximum, minimum, product
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Kernel

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
    single_threaded: bool = False

    @property
    def reads(self) -> frozenset[Tensor]:
        return frozenset(self.arguments) - self.writes


@dataclass(eq=False)
class Repeat:
    """The steps of a region, one iteration after the other; each begins after a barrier. flag: is there an iteration t? bool[2], at t % 2;
    of a branch, which has one at most, a bool scalar. states: buffers that the first iteration finds written."""

    region: Region
    steps: list[Step]
    flag: Tensor | None = None
    states: frozenset[Tensor] = frozenset()
    barrier: bool = True

    @property
    def writes(self) -> frozenset[Tensor]:
        return frozenset().union(*(s.writes for s in self.steps))

    @property
    def reads(self) -> frozenset[Tensor]:
        flags = () if self.flag is None else (self.flag,)
        return frozenset(flags).union(*(s.reads for s in self.steps)) - self.writes


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
    return sum((s.work if isinstance(s, Call) else repeated_work(s) for s in steps), start=0)


def repeated_work(s: Repeat) -> Dim:
    """At most so many, as far as the number of iterations is known."""
    trip, once = s.region.trip, work(s.steps)
    return minimum(trip, MOST_ITERATIONS) * greatest(once, s.region.step, 0, maximum(trip - 1, 0))


MOST_ITERATIONS = 1 << 20
"""A loop that may go on for ever is taken to have so many."""


def place_barriers(steps: Sequence[Step], repeated: bool = False) -> None:
    """A barrier stands before a step that reads what another step has written since the last barrier, or writes what it has read.

    Parts of one whole may be written side by side, and calls that follow each other and are done by one thread alone have an order
    anyway (runtime.steps). A repeated body begins with a barrier of its own.
    """
    wrote: set[Tensor] = set()
    read: set[Tensor] = set()
    shared: set[Tensor] = set()  # of these, what may not have been touched by the thread that does this step
    for i, step in enumerate(steps):
        if isinstance(step, Repeat):
            place_barriers(step.steps, repeated=True)
            step.barrier = i > 0 or repeated
            wrote, read = set(step.writes), set(step.reads)
            shared = read | wrote
            continue
        met = (step.reads & wrote) | (step.writes & read)
        if not met.isdisjoint(shared) if step.single_threaded else met:
            step.barrier = True
            wrote, read, shared = set(), set(), set()
        wrote |= step.writes
        read |= step.reads
        if not step.single_threaded:
            shared = read | wrote


def bytes_of(t: Tensor) -> Dim:
    return product(t.shape) * t.dtype.itemsize
