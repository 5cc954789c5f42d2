"""A compiled program and its runs: feeds in, one native call a segment, outputs out. numpy and ctypes only."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.runtime import abi
from sardonyx.runtime.image import Image
from sardonyx.runtime.loader import load
from sardonyx.runtime.memory import allocate
from sardonyx.runtime.team import Team

Array = npt.NDArray[Any]
Size = int  # a fixed size; a negative one -1 - slot is read from that slot of the context


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, dtype, shape (see Size), and the slot for its address."""

    name: str
    dtype: DType
    shape: tuple[Size, ...]
    slot: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A size that data decide: slot <- element `position` of the tensor whose address is in `source`."""

    slot: int
    source: int
    position: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """Before the segment: read the probes, then plan_sizes, arena, plan_addresses. outputs: those whose sizes are known by then."""

    probes: tuple[Probe, ...]
    arena_slot: int  # the arena's address; its size in bytes is written to the slot after it
    outputs: tuple[int, ...]
    requirements: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """slot's number (written by plan_sizes) must be zero, or not negative; else the run fails with the message."""

    slot: int
    zero: bool
    message: str


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What the runtime must know of a program. sizes: (slot, input, axis): where a size is read off.
    constants: (slot, constant): where the address of a constant stands. fixed: (slot, number).

    calls: for each call id the names of the ONNX nodes and the messages of its checks.
    """

    slots: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int, int], ...]
    segments: tuple[SegmentSpec, ...]
    calls: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    ticks: int = 0  # the first of the slots where a program that is timed adds up each call's cycles


class Context:
    """The memory of one run at a time: slots, arenas, scratch."""

    __slots__ = ("address", "arenas", "known", "memory", "scratch", "slots")

    def __init__(self, spec: ProgramSpec, constants: Sequence[int]) -> None:
        self.memory = allocate(spec.slots * abi.SLOT_BYTES)
        self.memory[:] = 0
        self.slots: memoryview[int] = self.memory.data.cast("q")
        self.address: int = self.memory.ctypes.data
        self.arenas: list[Any] = [None] * len(spec.segments)
        self.scratch: Any = None
        self.known: tuple[int, ...] | None = None  # sizes that the slots hold
        for slot, i in spec.constants:
            self.slots[slot] = constants[i]
        for slot, number in spec.fixed:
            self.slots[slot] = number


class Program:
    """A placed program with its constants. `run` may be called from several threads at once."""

    def __init__(
        self, spec: ProgramSpec, image: Image, team: Team, constants: Sequence[Array], empty: Callable[..., Array] = np.empty
    ) -> None:
        """empty: makes the outputs, of a shape and a dtype."""
        self.empty = empty
        self.spec, self.team, self.image = spec, team, load(image)
        self.constants = [np.ascontiguousarray(c) for c in constants]
        self.runs = [self.image.address(f"run_{i}") for i in range(len(spec.segments))]
        plan = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self.sizes: list[Callable[[int], None]] = [plan(self.image.address(f"sizes_{i}")) for i in range(len(spec.segments))]
        self.plans: list[Callable[[int], None]] = [plan(self.image.address(f"plan_{i}")) for i in range(len(spec.segments))]
        self.idle: list[Context] = []

    def run(self, feeds: Sequence[Array], threads: int) -> list[Array]:
        """The outputs. feeds: C-contiguous arrays of the inputs' dtypes and ranks. Raises Fail or InvalidArgument naming the node."""
        try:
            context = self.idle.pop()
        except IndexError:
            context = Context(self.spec, [c.ctypes.data for c in self.constants])
        try:
            return self.run_in(context, feeds, threads)
        finally:
            self.idle.append(context)

    def run_in(self, context: Context, feeds: Sequence[Array], threads: int) -> list[Array]:
        spec, slots = self.spec, context.slots
        for port, feed in zip(spec.inputs, feeds, strict=True):
            slots[port.slot] = feed.ctypes.data
        for slot, i, axis in spec.sizes:
            slots[slot] = feeds[i].shape[axis]
        slots[abi.STATUS] = 0
        outputs: list[Any] = [None] * len(spec.outputs)
        for i, segment in enumerate(spec.segments):
            for probe in segment.probes:
                slots[probe.slot] = self.read(slots[probe.source], probe)
            self.sizes[i](context.address)
            self.check(context)
            for condition in segment.requirements:
                got = slots[condition.slot]
                if got != 0 if condition.zero else got < 0:
                    raise InvalidArgument(condition.message)
            self.provide(context, i, segment, threads)
            for o in segment.outputs:
                port = spec.outputs[o]
                outputs[o] = self.empty([n if n >= 0 else slots[-1 - n] for n in port.shape], port.dtype.numpy)
                slots[port.slot] = outputs[o].ctypes.data
            self.plans[i](context.address)
            self.team.run(self.runs[i], context.address, threads)
            self.check(context)
        return outputs

    def provide(self, context: Context, i: int, segment: SegmentSpec, threads: int) -> None:
        """Arena and scratch, as large as this run needs."""
        slots = context.slots
        need = slots[segment.arena_slot + 1]
        if context.arenas[i] is None or context.arenas[i].nbytes < need:
            context.arenas[i] = allocate(max(need, 64))
        slots[segment.arena_slot] = context.arenas[i].ctypes.data
        each = slots[abi.SCRATCH_BYTES]
        if context.scratch is None or context.scratch.nbytes < each * threads:
            context.scratch = allocate(max(each * threads, 64))
        slots[abi.SCRATCH] = context.scratch.ctypes.data

    def ticks(self) -> list[int]:
        """Cycles of each call, summed over the runs so far (of programs compiled with ticks)."""
        first, count = self.spec.ticks, len(self.spec.calls)
        return [sum(c.slots[first + i] for c in self.idle) for i in range(count)]

    def read(self, address: int, probe: Probe) -> int:
        size = probe.dtype.itemsize
        raw = ctypes.string_at(address + probe.position * size, size)
        return int(np.frombuffer(raw, probe.dtype.numpy)[0])

    def check(self, context: Context) -> None:
        """Raises what the run recorded, if anything."""
        slots = context.slots
        status = slots[abi.STATUS]
        if status == 0:
            return
        slots[abi.STATUS] = 0
        if status == OVERFLOW:
            raise Fail("a size overflows 63 bits, or is divided by zero")
        code, call = (status & 0xFFFF_FFFF) - 1, status >> 32
        names, messages = self.spec.calls[call]
        details = list(slots[abi.DETAIL : abi.DETAIL + 3])
        text = messages[code].format(*details) if code < len(messages) else f"check {code} failed: {details}"
        where = ", ".join(n for n in names if n)
        raise InvalidArgument(f"Non-zero status code returned while running node. Name:'{where}' Status Message: {text}")


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


LINE = 64
"""Bytes of a cache line."""

OVERFLOW = 0xFFFF_FFFF
"""See codegen.program."""
