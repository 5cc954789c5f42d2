"""Runs a compiled program: inputs in, one native call per segment, outputs out. Needs only numpy and ctypes."""

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
from sardonyx.base.context import EXPIRED, QUIET, TERMINATED, RunContext, Trace
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

Size = int  # a fixed size; a negative number -1 - slot stands for the size in that slot of the context
Placed = tuple[Array, Array]  # slots, and the offset in an arena of the address that each slot holds
Make = Callable[[Sequence[int], np.dtype[Any]], Array]  # allocates an array of this shape and dtype


class Port(NamedTuple):
    """An input or output: its name, dtype, shape (see Size), and the slot that holds its address."""

    name: str
    dtype: DType
    shape: tuple[Size, ...]
    slot: int


class Readback(NamedTuple):
    """A size that depends on data: `slot` gets element `position` of the tensor whose address is in slot `source`."""

    slot: int
    source: int
    position: int
    dtype: DType


class SegmentSpec(NamedTuple):
    """A part of a program whose sizes are all known before it begins.

    Before it runs, the runtime reads the readbacks, computes its sizes, provides its arena and computes the addresses.
    outputs: the numbers of the program's outputs whose sizes are known then. steps: see runtime.steps. placed: (slot,
    offset): the slot holds the address at this offset in the arena.
    """

    readbacks: tuple[Readback, ...]
    arena_slot: int  # holds the arena's address; the next slot holds its size in bytes
    outputs: tuple[int, ...]
    requirements: tuple[Condition, ...]
    steps: tuple[Row, ...]
    placed: tuple[tuple[int, int], ...] = ()


class Condition(NamedTuple):
    """A condition on a computed number: slot's number must be zero (`zero`), or else not negative; if not, the run fails with
    the message.

    sizes: the values of the message's fields {0}, {1}, ... named: the condition says that axes with one name have one size.
    """

    slot: int
    zero: bool
    message: str
    sizes: tuple[Size, ...] = ()
    named: bool = False

    def error(self, slots: Sequence[int]) -> Exception:
        """Return the exception that a run raises if the condition doesn't hold."""
        text = self.message.format(*(n if n >= 0 else slots[-1 - n] for n in self.sizes))
        return NamesDiffer(text) if self.named else Fail(text)


class ProgramSpec(NamedTuple):
    """What the runtime must know of a program.

    slots: slots of the context. sizes: (slot, input, axis): the slot gets the size of an input's axis. constants: (slot,
    constant): the slot gets a constant's address. fixed: (slot, number). calls: for each call id, the names of the ONNX nodes
    and the messages of its checks. kernels: names, in the order in which steps number them.
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
    ticks: int = 0  # the first of the slots that add up each call's cycles, in a program that is timed


PATIENCE = 1e-3
"""Seconds for which a run waits until a worker leaves an earlier run's context, before it allocates another context."""
KEPT_BYTES = 1 << 16
"""The most bytes of an arena that stays with its context from run to run."""


class Context:
    """The memory of one run at a time: its slots, small arenas of its own, and large arenas that it borrows.

    room: {slot: bytes of its own arena in it}. placed: for each arena's slot, see Program.
    replay: the function that repeats the last run on `threads` threads, if that is possible. It needs the `large` arenas
    (slot, bytes, pool) and writes the `outputs` (how to allocate, shape, dtype).
    shares_work: has the run that `replay` repeats enough work for several threads?
    stop_word: the word that a run polls, kept alive until every worker has left. ends_early: is there a stop word or a deadline?
    claims: the claim words of codegen.tickets. process: the process whose workers may be inside.
    constants: kept alive, because a run may still read them after its program is closed.
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
        """Provide an arena of this size until the run ends, and put its address into the slot. Raises Fail if there is no
        memory.
        """
        if size <= KEPT_BYTES:
            self.own[slot] = memory = allocate(size)
            self.room[slot] = size
            self.set_address(slot, address_of(memory))
            return
        self.own.pop(slot, None)
        self.room.pop(slot, None)
        try:
            arena = pool.borrow(size)
        except MemoryError as error:
            raise Fail(f"no memory for intermediate values of {size} bytes: {error}") from None
        self.borrowed.append((slot, pool, arena))
        self.set_address(slot, arena.address)

    def reserve_claims(self, threads: int) -> None:
        """Allot claim words for this many threads: one per thread's range, and one for groups."""
        if self.claims.size < (1 + threads) * abi.CLAIM_BYTES:
            self.claims = allocate((1 + threads) * abi.CLAIM_BYTES)
            self.claims[:] = 0
            self.slots[abi.CLAIMS] = address_of(self.claims)

    def set_limits(self, run: RunContext) -> None:
        """Set what may end the next run early: the run's stop word and deadline. No worker may be inside."""
        self.stop_word = run.options.stop_word if run.options is not None else None
        self.ends_early = self.stop_word is not None or run.deadline != 0
        self.slots[abi.STOP_WORD] = self.stop_word.buffer_info()[0] if self.stop_word is not None else 0
        self.slots[abi.STOP_DEADLINE] = run.deadline

    def await_leaving(self) -> None:
        """Wait until no worker is inside. In a forked child the parent's workers don't exist, so it doesn't wait."""
        while self.slots[abi.INSIDE] and os.getpid() == self.process:
            time.sleep(0)

    def set_address(self, slot: int, address: int) -> None:
        """Put an arena's address into its slot, and the addresses of the places in it into theirs."""
        if self.slots[slot] == address:
            return
        self.slots[slot] = address
        if slot in self.placed:
            places, offsets = self.placed[slot]
            self.numbers[places] = offsets + address

    def give_back(self) -> None:
        """Return the borrowed arenas to their pools."""
        for _, pool, arena in self.borrowed:
            pool.give_back(arena)
        self.borrowed.clear()


class Output(NamedTuple):
    """What a run needs to know of an output. shape: its shape if all sizes are fixed, else None."""

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
    """A program placed in memory, with its constants. Several threads may call `run` at once.

    tables: the step table of each segment. placed: {slot of an arena's address: (slots, offsets) of the addresses inside}.
    repeatable: may a run be replayed (one segment, and no sizes that depend on data)? idle: contexts that no run uses.
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
        weakref.finalize(self, leave, self.idle)  # a late worker may still read steps and contexts

    def run(
        self, feeds: Sequence[Array], threads: int, run: RunContext = QUIET, into: Sequence[Array | None] | None = None
    ) -> list[Array]:
        """Run the program and return its outputs.

        feeds: C-contiguous arrays with the inputs' dtypes and ranks. into: arrays to write outputs to; None for a new array.
        Raises Fail or InvalidArgument naming the node, InvalidArgument if the program is closed, Fail if `run` ends it early,
        and what a signal handler raises meanwhile.
        """
        constants = self.constants  # read before `closed`, which is set before constants are dropped
        if self.closed:
            raise InvalidArgument(CLOSED)
        context = self.free() or Context(self.spec, constants, self.placed, self.team.should_stop)
        try:
            return self.run_in(context, feeds, threads, run, into)
        finally:
            self.put_back(context)

    def put_back(self, context: Context) -> None:
        """Return a context after a run, for the next run to use; it is freed if the program has been closed meanwhile."""
        if context.borrowed:
            context.give_back()
        self.idle.append(context)
        if self.closed:
            self.idle.clear()

    def free(self) -> Context | None:
        """Take a context of an earlier run that no worker is inside any more; None if there is none."""
        for _ in range(len(self.idle)):
            try:
                context = self.idle.pop()
            except IndexError:
                return None
            if not context.slots[abi.INSIDE]:
                return context
            self.idle.insert(0, context)
        return None

    def wait_for_free(self) -> Context | None:
        """Like `free`, but wait up to PATIENCE: another context would mean fresh memory and page faults."""
        end = time.monotonic() + PATIENCE
        while self.idle and time.monotonic() < end:
            time.sleep(0)
            if context := self.free():
                return context
        return None

    def replay(self, feeds: list[Any], threads: int, into: Sequence[Array | None] | None = None) -> list[Array] | None:
        """Repeat an earlier run with inputs of the same dtypes and shapes, and return its outputs; None if there was no such
        run, or if that can't be told.

        feeds: any objects; the native function checks them. Raises Fail or InvalidArgument as `run` does. For the smallest
        models these lines are most of the run's time.
        """
        context = self.free() or self.wait_for_free()
        if context is None:
            return None
        try:
            if context.replay is None or context.threads != threads:
                return None
            if context.ends_early:
                context.set_limits(QUIET)
            if context.shares_work:
                self.team.ensure(threads)
            return self.replay_in(context, feeds, context.replay, into)
        finally:
            self.put_back(context)

    def replay_in(
        self, context: Context, feeds: list[Any], replay: Replay, into: Sequence[Array | None] | None = None
    ) -> list[Array] | None:
        """Provide the context's arenas and outputs and call its replay function; see `replay`."""
        try:
            for slot, size, pool in context.large:
                context.provide(slot, size, pool)
            if into is None:
                outputs = [empty(shape, dtype) for empty, shape, dtype in context.outputs]
            else:
                outputs = []
                for x, (empty, shape, dtype) in zip(into, context.outputs, strict=True):
                    if x is not None and (x.shape != shape or x.dtype != dtype):
                        return None  # `run` computes the sizes of outputs, and raises with them
                    outputs.append(empty(shape, dtype) if x is None else x)
        except (Fail, MemoryError, ValueError):
            return None
        done = replay(feeds, outputs)
        if done == abi.FAILED:
            self.check(context)
        return outputs if done == abi.DONE else None

    def record_replay(self, context: Context, feeds: Sequence[Array], outputs: Sequence[Array], threads: int) -> None:
        """Store in the context how to repeat the run that it has just done, if only addresses will differ next time."""
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
        """Refuse further runs and free arenas and constants. Runs under way keep theirs until they end."""
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
        """Run the program in a context: for each segment compute its sizes, provide memory, compute addresses, and execute its
        steps.
        """
        slots, room = context.slots, context.room
        context.replay = None
        context.reserve_claims(threads)
        context.set_limits(run)
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
            if slots[abi.STATUS]:  # no kernel may see a wrong address
                self.check(context)
            slots[abi.STEPS] = self.steps[i]
            walking = threads if slots[abi.WORK] > abi.LITTLE else 1
            if run.trace is None:
                self.team.walk(context.address, walking)
            else:
                self.walk_traced(context, walking, run.trace)
            if slots[abi.STATUS]:
                self.check(context)
        if self.repeatable:
            self.record_replay(context, feeds, outputs, threads)
        return outputs

    def walk_traced(self, context: Context, threads: int, trace: Trace) -> None:
        """Execute a segment's steps and record its calls, each with the cycles that it took."""
        first, names = self.spec.ticks, [nodes for nodes, _ in self.spec.calls]
        ticks = context.numbers[first : first + len(names)]
        ticks[:] = 0
        start = time.perf_counter_ns()
        self.team.walk(context.address, threads)
        trace.record_calls(CPU, start, [(nodes, taken) for nodes, taken in zip(names, ticks.tolist(), strict=True) if taken])

    def size(self, context: Context, i: int, segment: SegmentSpec) -> None:
        """Read the readbacks of segment i, compute its sizes, and check their conditions. Raises Fail if one doesn't hold.

        A condition that doesn't hold is reported before an overflow or a division by zero, which may be its consequence.
        """
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
        """Make an output's array and put its address into its slot. Raises Fail if there is no memory for it."""
        shape = output.shape if output.shape is not None else [n if n >= 0 else slots[-1 - n] for n in output.sizes]
        try:
            out = empty(shape, output.dtype)
        except (MemoryError, ValueError, OverflowError) as e:
            raise Fail(f"no memory for output {output.name} of shape {list(shape)}: {e}") from None
        slots[output.slot] = address_of(out)
        return out

    def ticks(self) -> list[int]:
        """Return the cycles of each call, summed over the runs so far, for programs that were compiled with ticks."""
        first, count = self.spec.ticks, len(self.spec.calls)
        return [sum(c.slots[first + i] for c in self.idle) for i in range(count)]

    def read(self, address: int, readback: Readback) -> int:
        """Read a readback's number from the tensor at this address."""
        size = readback.dtype.itemsize
        raw = ctypes.string_at(address + readback.position * size, size)
        return int(np.frombuffer(raw, readback.dtype.numpy)[0])

    def check(self, context: Context) -> None:
        """Raise the exception that the run's status describes."""
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
    """Return an array that the caller provides for an output. Raises InvalidArgument if its shape or dtype isn't the output's."""
    if given.shape != tuple(shape) or given.dtype != dtype:
        raise InvalidArgument(misfit(name, given, shape))
    return given


def misfit(name: str, given: Any, shape: Sequence[int]) -> str:
    """Return the error message for an array or Buffer whose shape isn't the output's."""
    there, computed = ("{" + ",".join(map(str, sizes)) + "}" for sizes in (given.shape, shape))
    return (
        f"The output OrtValue provided for output '{name}' has shape {there} but the computed output shape for this run is {computed}. "
        "Either bind an array of that shape, or none at all."
    )


def leave(contexts: Sequence[Context]) -> None:
    """Wait until no worker is inside any of these contexts."""
    for context in contexts:
        context.await_leaving()


class Block:
    """Arrays side by side in one piece of memory, each aligned to a cache line, in huge pages if it is large."""

    def __init__(self, size: int) -> None:
        """Allocate the memory. size: bytes of all arrays together, each rounded up to `LINE`."""
        self.memory = allocate(max(size, 1))
        self.used = 0

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Allocate the next array, like numpy.empty. Raises MemoryError if the block is full."""
        size = math.prod(shape) * dtype.itemsize
        start, self.used = self.used, self.used + -(-size // LINE) * LINE
        if self.used > self.memory.nbytes:
            raise MemoryError(f"{self.used} bytes are needed, but the block has {self.memory.nbytes}")
        return self.memory[start : start + size].view(dtype).reshape(shape)


ENDS = {abi.OVERFLOW: "a size overflows 63 bits, or is divided by zero", abi.TERMINATED: TERMINATED, abi.EXPIRED: EXPIRED}
LARGEST = (1 << 63) - 1
"""The largest number that a slot can hold."""
CLOSED = "The session is closed."
CPU = "CPUExecutionProvider"
"""The provider that runs programs, as profiles name it."""
