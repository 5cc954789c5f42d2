"""A compiled program and its runs: feeds in, one native call a segment, outputs out. numpy and ctypes only."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import time
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sardonyx.base.cache_line import LINE
from sardonyx.base.context import EXPIRED, QUIET, TERMINATED, RunContext
from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail, InvalidArgument, NamesDiffer
from sardonyx.runtime import abi
from sardonyx.runtime.arrays import Array, address_of
from sardonyx.runtime.image import Image
from sardonyx.runtime.interpreter import functions, raise_found
from sardonyx.runtime.loader import load
from sardonyx.runtime.memory import Arena, ArenaPool, Bytes, allocate
from sardonyx.runtime.outputs import LARGE, OutputMemory
from sardonyx.runtime.replay import Replay, is_plain
from sardonyx.runtime.steps import Row, table
from sardonyx.runtime.team import Team

Size = int  # a fixed size; a negative one -1 - slot is read from that slot of the context
Placed = tuple[Array, Array]  # slots, and the offset in an arena of each one's address
Make = Callable[[Sequence[int], np.dtype[Any]], Array]  # an array of this shape and dtype, its content undefined


class Port(NamedTuple):
    """An input or output: its name, dtype, shape (see Size), and the slot for its address."""

    name: str
    dtype: DType
    shape: tuple[Size, ...]
    slot: int


class Readback(NamedTuple):
    """A size that data decide: slot <- element `position` of the tensor whose address is in `source`."""

    slot: int
    source: int
    position: int
    dtype: DType


class SegmentSpec(NamedTuple):
    """Before the segment: read the readbacks, then plan_sizes, arena, plan_addresses. outputs: those whose sizes are known by then.

    steps: see runtime.steps. placed: (slot, offset): where the address of a place in the arena stands.
    """

    readbacks: tuple[Readback, ...]
    arena_slot: int  # the arena's address; its size in bytes is written to the slot after it
    outputs: tuple[int, ...]
    requirements: tuple[Condition, ...]
    steps: tuple[Row, ...]
    placed: tuple[tuple[int, int], ...] = ()


class Condition(NamedTuple):
    """slot's number (written by plan_sizes) must be zero, or not negative; else the run fails with the message.

    sizes: what stands in the message's fields {0}, {1}, ... named: it says that axes with one name have one size.
    """

    slot: int
    zero: bool
    message: str
    sizes: tuple[Size, ...] = ()
    named: bool = False

    def error(self, slots: Sequence[int]) -> Exception:
        """What a run raises that does not fulfil it."""
        text = self.message.format(*(n if n >= 0 else slots[-1 - n] for n in self.sizes))
        return NamesDiffer(text) if self.named else Fail(text)


class ProgramSpec(NamedTuple):
    """What the runtime must know of a program. sizes: (slot, input, axis): where a size is read off.
    constants: (slot, constant): where the address of a constant stands. fixed: (slot, number).

    calls: for each call id the names of the ONNX nodes and the messages of its checks. kernels: names, as the steps number them.
    """

    slots: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int, int], ...]
    segments: tuple[SegmentSpec, ...]
    calls: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    kernels: tuple[str, ...]
    ticks: int = 0  # the first of the slots where a program that is timed adds up each call's cycles


PATIENCE = 1e-3
"""Seconds that a run waits for a worker to leave an earlier one, before it takes memory of its own."""
KEPT_BYTES = 1 << 16
"""An arena of at most so much stays with its context from run to run."""


class Context:
    """The slots of one run at a time, and its arenas: small ones of its own, large ones that it has borrowed.

    room: bytes of its own that the address in a slot leads to. placed: of an arena's slot, see Program. replay: repeats the last
    run, if that is possible, on so many `threads`; it writes outputs made so, and needs `large` arenas (slot, bytes, pool).
    stop_word: that a run reads, kept until no worker is in the run any more. ends_early: do slots say what ends a run early?
    shares_work: has the run that `replay` repeats enough work for several threads? claims: words of what threads take, see
    codegen.tickets. process: whose workers may be inside. constants: whose addresses are in slots; a run that is under way when its
    program is closed still reads them.
    """

    __slots__ = (
        "address",
        "borrowed",
        "claims",
        "constants",
        "ends_early",
        "large",
        "memory",
        "numbers",
        "outputs",
        "own",
        "placed",
        "process",
        "replay",
        "room",
        "shares_work",
        "slots",
        "stop_word",
        "threads",
    )

    def __init__(self, spec: ProgramSpec, constants: Sequence[Array], placed: Mapping[int, Placed], should_stop: int) -> None:
        self.memory = allocate(spec.slots * abi.SLOT_BYTES)
        self.numbers = self.memory.view(np.int64)
        self.placed = placed
        self.memory[:] = 0
        self.slots: memoryview[int] = self.memory.data.cast("q")
        self.address = address_of(self.memory)
        self.borrowed: list[tuple[int, ArenaPool, Arena]] = []
        self.own: dict[int, Bytes] = {}
        self.room: dict[int, int] = {}
        self.replay: Replay | None = None
        self.threads = 0
        self.claims = allocate(0)
        self.process = os.getpid()
        self.large: list[tuple[int, int, ArenaPool]] = []
        self.outputs: list[tuple[Make, Sequence[int], np.dtype[Any]]] = []
        self.constants = constants
        self.stop_word: array[int] | None = None
        self.ends_early = False
        self.shares_work = False
        self.slots[abi.STOP_FUNCTION] = should_stop
        self.slots[abi.STOP_PYTHON] = address_of(functions())
        addresses = [address_of(array) for array in constants]
        for slot, i in spec.constants:
            self.slots[slot] = addresses[i]
        for slot, number in spec.fixed:
            self.slots[slot] = number

    def __del__(self) -> None:
        self.await_leaving()

    def provide(self, slot: int, size: int, pool: ArenaPool) -> None:
        """Puts the address of an arena of this size, which is there until the run ends, into the slot. Raises Fail without memory."""
        if size <= KEPT_BYTES:
            self.own[slot] = memory = allocate(size)
            self.room[slot] = size
            self.settle(slot, address_of(memory))
            return
        self.own.pop(slot, None)
        self.room.pop(slot, None)
        try:
            arena = pool.borrow(size)
        except MemoryError as error:
            raise Fail(f"no memory for intermediate values of {size} bytes: {error}") from None
        self.borrowed.append((slot, pool, arena))
        self.settle(slot, arena.address)

    def seat(self, threads: int) -> None:
        """Gives each thread of a run a word for its share of a call, and all of them one for what one of them does."""
        if self.claims.size < (1 + threads) * abi.CLAIM_BYTES:
            self.claims = allocate((1 + threads) * abi.CLAIM_BYTES)
            self.claims[:] = 0
            self.slots[abi.CLAIMS] = address_of(self.claims)

    def end_by(self, run: RunContext) -> None:
        """What ends the run that comes next early. No worker may be inside."""
        self.stop_word = run.options.stop_word if run.options is not None else None
        self.ends_early = self.stop_word is not None or run.deadline != 0
        self.slots[abi.STOP_WORD] = self.stop_word.buffer_info()[0] if self.stop_word is not None else 0
        self.slots[abi.STOP_DEADLINE] = run.deadline

    def await_leaving(self) -> None:
        """Returns when no worker is inside any more. In a forked child, none of its parent's will leave, or do anything."""
        while self.slots[abi.INSIDE] and os.getpid() == self.process:
            time.sleep(0)

    def settle(self, slot: int, address: int) -> None:
        """Puts an arena's address into its slot, and those of places in it into theirs."""
        if self.slots[slot] == address:
            return
        self.slots[slot] = address
        if slot in self.placed:
            places, offsets = self.placed[slot]
            self.numbers[places] = offsets + address

    def give_back(self) -> None:
        for _, pool, arena in self.borrowed:
            pool.give_back(arena)
        self.borrowed.clear()


class Output(NamedTuple):
    """A port that is written, as a run looks at it. shape: where all sizes are fixed."""

    name: str
    slot: int
    dtype: np.dtype[Any]
    sizes: tuple[Size, ...]
    shape: tuple[int, ...] | None

    @classmethod
    def of(cls, port: Port) -> Output:
        fixed = all(n >= 0 for n in port.shape)
        return cls(port.name, port.slot, port.dtype.numpy, port.shape, port.shape if fixed else None)


class Program:
    """A placed program with its constants. `run` may be called from several threads at once.

    tables: each segment's steps. placed: for the slot of an arena's address the slots and offsets of the addresses inside.
    """

    def __init__(self, spec: ProgramSpec, image: Image, team: Team, constants: Sequence[Array]) -> None:
        self.spec, self.team, self.image = spec, team, load(image)
        self.constants = [np.ascontiguousarray(c) for c in constants]
        kernels = [self.image.address(name) for name in spec.kernels]
        self.tables = [table(segment.steps, kernels) for segment in spec.segments]
        self.steps = [address_of(rows) for rows in self.tables]
        self.placed = {s.arena_slot: tuple(np.array(s.placed, np.int64).T) for s in spec.segments if s.placed}
        plan = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self.sizes: list[Callable[[int], None]] = [plan(self.image.address(f"sizes_{i}")) for i in range(len(spec.segments))]
        self.plans: list[Callable[[int], None]] = [plan(self.image.address(f"plan_{i}")) for i in range(len(spec.segments))]
        self.repeatable = (
            len(spec.segments) == 1 and not spec.segments[0].readbacks and len(spec.segments[0].outputs) == len(spec.outputs)
        )
        self.plan_at = self.image.address("plan_0") if self.repeatable else 0
        self.arenas = [ArenaPool() for _ in spec.segments]
        self.scratch = ArenaPool()
        self.feeds = [port.slot for port in spec.inputs]
        self.outputs = [Output.of(port) for port in spec.outputs]
        self.memory = [OutputMemory() for _ in spec.outputs]
        self.empty: list[Make] = [memory.empty for memory in self.memory]
        self.idle: list[Context] = []
        self.closed = False
        weakref.finalize(self, leave, self.idle)  # a worker that comes late still reads steps and contexts

    def run(
        self, feeds: Sequence[Array], threads: int, run: RunContext = QUIET, into: Sequence[Array | None] | None = None
    ) -> list[Array]:
        """The outputs. feeds: C-contiguous arrays of the inputs' dtypes and ranks. into: arrays in which outputs are written; None: a new one.

        Raises Fail or InvalidArgument naming the node, InvalidArgument if the program is closed, Fail if `run` ends it early, and what a
        signal's handler raises meanwhile.
        """
        constants = self.constants  # taken before `closed` is asked: then they are there
        if self.closed:
            raise InvalidArgument(CLOSED)
        context = self.free() or Context(self.spec, constants, self.placed, self.team.should_stop)
        try:
            return self.run_in(context, feeds, threads, run, into)
        finally:
            self.put_back(context)

    def put_back(self, context: Context) -> None:
        """Ends a run's use of a context: the next run has it, unless the program has been closed meanwhile."""
        if context.borrowed:
            context.give_back()
        self.idle.append(context)
        if self.closed:
            self.idle.clear()

    def free(self) -> Context | None:
        """A context of an earlier run in which no worker is any more, if there is one."""
        for _ in range(len(self.idle)):
            try:
                context = self.idle.pop()
            except IndexError:
                return None
            if not context.slots[abi.INSIDE]:
                return context
            self.idle.insert(0, context)
        return None

    def soon_free(self) -> Context | None:
        """The same, after a while: a further context takes memory that nobody has touched."""
        end = time.monotonic() + PATIENCE
        while self.idle and time.monotonic() < end:
            time.sleep(0)
            if context := self.free():
                return context
        return None

    def replay(self, feeds: list[Any], threads: int, into: Sequence[Array | None] | None = None) -> list[Array] | None:
        """The outputs, if a run before had inputs like these, in dtype and shape; None if it had not, or that can't be told.

        feeds: any objects. Raises Fail or InvalidArgument as `run` does. The smallest models run for as long as these lines take.
        """
        context = self.free() or self.soon_free()
        if context is None:
            return None
        try:
            if context.replay is None or context.threads != threads:
                return None
            if context.ends_early:
                context.end_by(QUIET)
            if context.shares_work:
                self.team.ensure(threads)
            return self.replay_in(context, feeds, context.replay, into)
        finally:
            self.put_back(context)

    def replay_in(
        self, context: Context, feeds: list[Any], replay: Replay, into: Sequence[Array | None] | None = None
    ) -> list[Array] | None:
        """See `replay`."""
        try:
            for slot, size, pool in context.large:
                context.provide(slot, size, pool)
            if into is None:
                outputs = [empty(shape, dtype) for empty, shape, dtype in context.outputs]
            else:
                outputs = []
                for x, (empty, shape, dtype) in zip(into, context.outputs, strict=True):
                    if x is not None and (x.shape != shape or x.dtype != dtype):
                        return None  # `run` finds the outputs' sizes, and tells of them
                    outputs.append(empty(shape, dtype) if x is None else x)
        except (Fail, MemoryError, ValueError):
            return None
        done = replay(feeds, outputs)
        if done == abi.FAILED:
            self.check(context)
        return outputs if done == abi.DONE else None

    def record_replay(self, context: Context, feeds: Sequence[Array], outputs: Sequence[Array], threads: int) -> None:
        """Lets the context repeat the run that it has just done, where nothing but addresses will differ."""
        if not all(is_plain(x) and x.dtype == port.dtype.numpy for x, port in zip(feeds, self.spec.inputs, strict=True)):
            return
        inputs = list(zip(self.feeds, feeds, strict=True))
        places = [output.slot for output in self.outputs]
        context.replay = self.team.replay(context.address, self.plan_at, threads, inputs, places)
        context.threads = threads
        context.shares_work = context.slots[abi.WORK] > abi.LITTLE
        context.outputs = [
            (empty if x.nbytes >= LARGE else np.empty, x.shape, x.dtype) for empty, x in zip(self.empty, outputs, strict=True)
        ]
        context.large = [(slot, arena.needed, pool) for slot, pool, arena in context.borrowed]

    def close(self) -> None:
        """Refuses runs from now on, and gives back arenas and constants: what runs under way hold, when they end."""
        self.closed = True
        leave(self.idle)
        for pool in (*self.arenas, self.scratch):
            pool.close()
        for memory in self.memory:
            memory.close()
        self.constants = []
        self.idle.clear()

    def run_in(
        self,
        context: Context,
        feeds: Sequence[Array],
        threads: int,
        run: RunContext,
        into: Sequence[Array | None] | None = None,
    ) -> list[Array]:
        slots, room = context.slots, context.room
        context.replay = None
        context.seat(threads)
        context.end_by(run)
        for slot, feed in zip(self.feeds, feeds, strict=True):
            slots[slot] = address_of(feed)
        for slot, i, axis in self.spec.sizes:
            slots[slot] = feeds[i].shape[axis]
        slots[abi.STATUS] = 0
        outputs: list[Any] = [None] * len(self.outputs)
        for i, segment in enumerate(self.spec.segments):
            run.check()
            context.await_leaving()
            self.size(context, i, segment)
            arena, scratch = slots[segment.arena_slot + 1], slots[abi.SCRATCH_BYTES] * threads
            if arena > room.get(segment.arena_slot, 0):
                context.provide(segment.arena_slot, arena, self.arenas[i])
            if scratch > room.get(abi.SCRATCH, 0):
                context.provide(abi.SCRATCH, scratch, self.scratch)
            for o in segment.outputs:
                given = into[o] if into is not None else None
                make = self.empty[o] if given is None else functools.partial(fitting, self.outputs[o].name, given)
                outputs[o] = self.output(slots, self.outputs[o], make)
            self.plans[i](context.address)
            if slots[abi.STATUS]:  # no kernel may see an address that is wrong
                self.check(context)
            slots[abi.STEPS] = self.steps[i]
            self.team.walk(context.address, threads if slots[abi.WORK] > abi.LITTLE else 1)
            if slots[abi.STATUS]:
                self.check(context)
        if self.repeatable:
            self.record_replay(context, feeds, outputs, threads)
        return outputs

    def size(self, context: Context, i: int, segment: SegmentSpec) -> None:
        """The sizes of segment i, and what they must fulfil: what they don't is told before a number that does not fit or a division by
        zero, which may follow from it."""
        slots = context.slots
        for readback in segment.readbacks:
            number = self.read(slots[readback.source], readback)
            if number > LARGEST:
                raise Fail(f"a size of {number} does not fit in 64 bits")
            slots[readback.slot] = number
        self.sizes[i](context.address)
        for condition in segment.requirements:
            got = slots[condition.slot]
            if got != 0 if condition.zero else got < 0:
                raise condition.error(slots)
        if slots[abi.STATUS]:
            self.check(context)

    def output(self, slots: memoryview[int], output: Output, empty: Make) -> Array:
        """An output's array, its address in its slot. Raises Fail where there is no memory for it."""
        shape = output.shape if output.shape is not None else [n if n >= 0 else slots[-1 - n] for n in output.sizes]
        try:
            out = empty(shape, output.dtype)
        except (MemoryError, ValueError, OverflowError) as e:
            raise Fail(f"no memory for output {output.name} of shape {list(shape)}: {e}") from None
        slots[output.slot] = address_of(out)
        return out

    def ticks(self) -> list[int]:
        """Cycles of each call, summed over the runs so far (of programs compiled with ticks)."""
        first, count = self.spec.ticks, len(self.spec.calls)
        return [sum(c.slots[first + i] for c in self.idle) for i in range(count)]

    def read(self, address: int, readback: Readback) -> int:
        size = readback.dtype.itemsize
        raw = ctypes.string_at(address + readback.position * size, size)
        return int(np.frombuffer(raw, readback.dtype.numpy)[0])

    def check(self, context: Context) -> None:
        """Raises what the run recorded."""
        slots = context.slots
        status = slots[abi.STATUS]
        slots[abi.STATUS] = 0
        raise_found(slots)
        if status in ENDS:
            raise Fail(ENDS[status])
        code, call = (status & 0xFFFF_FFFF) - 1, status >> 32
        _, messages = self.spec.calls[call]
        details = slots[abi.DETAIL : abi.DETAIL + abi.DETAILS]
        if code >= abi.REQUIRED:
            raise Fail(messages[code - abi.REQUIRED].format(*details))
        raise InvalidArgument(messages[code].format(*details))


def fitting(name: str, given: Array, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An array that was handed in for an output. Raises InvalidArgument if it has another shape or dtype than the output will have."""
    if given.shape != tuple(shape) or given.dtype != dtype:
        raise InvalidArgument(misfit(name, given, shape))
    return given


def misfit(name: str, given: Array, shape: Sequence[int]) -> str:
    """Says what is wrong with an array that was handed in for an output of this shape."""
    there, computed = ("{" + ",".join(map(str, sizes)) + "}" for sizes in (given.shape, shape))
    return (
        f"The output OrtValue provided for output '{name}' has shape {there} but the computed output shape for this run is {computed}. "
        "Either bind an array of that shape, or none at all."
    )


def leave(contexts: Sequence[Context]) -> None:
    """Returns when no worker is in one of them."""
    for context in contexts:
        context.await_leaving()


class Block:
    """Arrays that stay, side by side in one piece of memory, each on a cache line's boundary; big pages where they fill some."""

    def __init__(self, size: int) -> None:
        """size: bytes of all arrays together, each rounded up to `LINE`."""
        self.memory = allocate(max(size, 1))
        self.used = 0

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Like numpy.empty. Raises MemoryError past the end."""
        size = math.prod(shape) * dtype.itemsize
        start, self.used = self.used, self.used + -(-size // LINE) * LINE
        if self.used > self.memory.nbytes:
            raise MemoryError(f"{self.used} bytes of {self.memory.nbytes}")
        return self.memory[start : start + size].view(dtype).reshape(shape)


ENDS = {abi.OVERFLOW: "a size overflows 63 bits, or is divided by zero", abi.TERMINATED: TERMINATED, abi.EXPIRED: EXPIRED}
LARGEST = (1 << 63) - 1
"""What a slot holds."""
CLOSED = "The session is closed."
