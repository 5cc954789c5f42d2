"""The order of a program: calls of kernels, the barriers between them, and repeated bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, field

from sardonyx.base.bounds import greatest
from sardonyx.base.symbolic import Dim, maximum, minimum, product
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Kernel

SLACK = 256
"""Bytes after each buffer that the last whole vectors may read, and in scratch write."""


class Call(Struct, eq=False):
    """A call of one kernel: its arguments in the order of the kernel's buffers, and the values of the kernel's sizes.

    work: an estimate of its operations. single_threaded: one thread does all of it. barrier: threads meet before the call.
    """

    kernel: Kernel
    arguments: list[Tensor]
    sizes: list[Dim]
    writes: frozenset[Tensor]
    origins: tuple[str, ...]
    checks: tuple[str, ...] = ()
    barrier: bool = False
    work: Dim = 0
    single_threaded: bool = False

    @property
    def reads(self) -> frozenset[Tensor]:
        """The arguments that the call does not write."""
        return frozenset(self.arguments) - self.writes


class Repeat(Struct, eq=False):
    """The steps of a repeated body. Each iteration begins with a barrier.

    flag: decides whether an iteration runs: for a loop bool[2], read at t % 2 before iteration t; for a branch a bool scalar.
    states: buffers that hold the initial states when the first iteration begins.
    """

    region: Region
    steps: list[Step]
    flag: Tensor | None = None
    states: frozenset[Tensor] = frozenset()
    barrier: bool = True

    @property
    def writes(self) -> frozenset[Tensor]:
        """Everything that the steps write."""
        return frozenset().union(*(s.writes for s in self.steps))

    @property
    def reads(self) -> frozenset[Tensor]:
        """What the steps read and do not write, and the flag."""
        flags = () if self.flag is None else (self.flag,)
        return frozenset(flags).union(*(s.reads for s in self.steps)) - self.writes


Step = Call | Repeat


class Segment(Struct):
    """Steps that run in one native call. Sizes that data decide are read back between segments."""

    steps: list[Step] = field(default_factory=list)
    offsets: dict[Tensor, Dim] = field(default_factory=dict)  # bytes from the start of the segment's arena
    sizes: dict[Tensor, Dim] = field(default_factory=dict)  # bytes that each of those buffers takes, gaps included
    arena: Dim = 0


def calls(steps: Iterable[Step]) -> Iterator[Call]:
    """Yield all calls, those in repeated bodies included."""
    for s in steps:
        if isinstance(s, Call):
            yield s
        else:
            yield from calls(s.steps)


def work(steps: Iterable[Step]) -> Dim:
    """Estimate the operations that the steps do."""
    return sum((s.work if isinstance(s, Call) else repeated_work(s) for s in steps), start=0)


def repeated_work(s: Repeat) -> Dim:
    """Return an upper estimate of the operations of a loop: the trip count, limited to MOST_ITERATIONS, times the most that
    an iteration does."""
    trip, once = s.region.trip, work(s.steps)
    return minimum(trip, MOST_ITERATIONS) * greatest(once, s.region.step, 0, maximum(trip - 1, 0))


MOST_ITERATIONS = 1 << 20
"""The number of iterations assumed at most for a loop that may run forever."""


def place_barriers(steps: Sequence[Step], repeated: bool = False) -> None:
    """Put a barrier before each step that reads what was written since the last barrier, or writes what was read since.

    Calls that write parts of one tensor need no barrier between them. Nor do consecutive single-threaded calls: the same
    thread runs them, in order (runtime.steps). Each repeated body begins with a barrier.
    """
    wrote: set[Tensor] = set()
    read: set[Tensor] = set()
    shared: set[Tensor] = set()  # those that threads other than the one of single-threaded calls may have touched
    for i, step in enumerate(steps):
        if isinstance(step, Repeat):
            place_barriers(step.steps, repeated=True)
            step.barrier = i > 0 or repeated
            wrote, read = set(step.writes), set(step.reads)
            shared = read | wrote
            continue
        met = (step.reads & wrote) | (step.writes & read)
        step.barrier = bool(not met.isdisjoint(shared) if step.single_threaded else met)
        if step.barrier:
            wrote, read, shared = set(), set(), set()
        wrote |= step.writes
        read |= step.reads
        if not step.single_threaded:
            shared = read | wrote


def bytes_of(t: Tensor) -> Dim:
    """Return the bytes of t's elements."""
    return product(t.shape) * t.dtype.itemsize
