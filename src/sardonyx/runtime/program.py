"""A compiled program: its entries in memory, and the contexts that its runs borrow.

One run is, for each segment: write the slots, `plan`, lend the arena that plan asked for, `run`, look for a failure.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sardonyx.runtime import abi
from sardonyx.runtime.loader import LoadedImage
from sardonyx.runtime.memory import Bytes, allocate
from sardonyx.runtime.team import Team


@dataclass(frozen=True, slots=True)
class Slot:
    """A number that stands in the context, at this index, once the run is planned."""

    index: int


Extent: TypeAlias = int | Slot


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output. dtype: its numpy name. pointer: the slot for its address."""

    name: str
    dtype: str
    shape: tuple[Extent, ...]
    pointer: Slot


@dataclass(frozen=True, slots=True)
class Segment:
    """The entries of a part that runs without the host in between: symbols of `plan(context)` and `run(...)`."""

    plan: str
    run: str


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What the runtime must know of a program. dims: each symbolic dimension's name and slot, in order.

    slots: slots of a context, the header included.
    """

    slots: int
    dims: tuple[tuple[str, Slot], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """What a run found wrong: a code, the index of the node, and details whose meaning is the code's."""

    code: int
    node: int
    details: tuple[int, int, int]


class Context:
    """The context of one run at a time. `slots[i]` is slot i, an i64; `address` is what entries are called with."""

    __slots__ = ("_keep", "_memory", "address", "slots")

    def __init__(self, slots: int, keep: tuple[object, ...]) -> None:
        """All slots 0. keep: what must stay alive as long as the context."""
        self._memory: Bytes = allocate(slots * abi.SLOT_BYTES)
        self._memory[:] = 0
        self._keep = keep
        self.address: int = self._memory.ctypes.data
        self.slots: memoryview[int] = self._memory.data.cast("q")

    def failure(self) -> Failure | None:
        """What went wrong since the context was borrowed."""
        status = self.slots[abi.STATUS]
        if not status:
            return None
        details = self.slots[abi.DETAIL], self.slots[abi.DETAIL + 1], self.slots[abi.DETAIL + 2]
        return Failure(status >> 32, status & 0xFFFFFFFF, details)

    def shape(self, tensor: TensorSpec) -> tuple[int, ...]:
        """The tensor's shape, its symbolic extents read from their slots."""
        return tuple(extent if isinstance(extent, int) else self.slots[extent.index] for extent in tensor.shape)


class Program:
    """A program that any number of threads run at once, each with a context of its own."""

    def __init__(
        self,
        spec: ProgramSpec,
        image: LoadedImage,
        team: Team,
        constants: Mapping[Slot, int] | None = None,
        keep: tuple[object, ...] = (),
    ) -> None:
        """constants: slots that have the same value in every context, such as the addresses of weights.

        keep: what the constants point into; it lives until the last run is over. Raises ImageError if the image lacks
        an entry.
        """
        plan = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self._plans = [plan(image.address(segment.plan)) for segment in spec.segments]
        self._runs = [image.address(segment.run) for segment in spec.segments]
        self._team = team
        self._constants = dict(constants or {})
        self._keep = (image, *keep)
        self._idle: deque[Context] = deque()
        self._closed = False
        self.spec = spec

    def borrow(self) -> Context:
        """A context that no other run uses, without a failure. Raises RuntimeError once the program is closed."""
        keep = self._keep  # before the check: a program that is open now had not let go of it then
        if self._closed:
            raise RuntimeError("the program is closed")
        try:
            context = self._idle.pop()
        except IndexError:
            return self._new_context(keep)
        context.slots[abi.STATUS] = 0
        return context

    def give_back(self, context: Context) -> None:
        """End a run; the context serves another."""
        self._idle.append(context)
        if self._closed:
            self._idle.clear()

    def plan(self, context: Context, segment: int) -> None:
        """Compute sizes, offsets and the bytes of arena from the dimensions."""
        self._plans[segment](context.address)

    def run(self, context: Context, segment: int, threads: int, flags: int = 0) -> None:
        """Run a planned segment on at most that many threads. flags: abi.FLUSH, abi.NO_SPIN."""
        self._team.run(self._runs[segment], context.address, threads, flags)

    def close(self) -> None:
        """Let go of code and constants: at once, or when the runs under way give their contexts back."""
        self._closed = True
        self._keep = ()
        self._idle.clear()

    def _new_context(self, keep: tuple[object, ...]) -> Context:
        context = Context(self.spec.slots, keep)
        for slot, value in self._constants.items():
            context.slots[slot.index] = value
        return context
