"""The steps of a segment as a table, which native code interprets (codegen.walk): rows of four i64.

    what            a, b, c                      meaning
    kernel, >= 0    slot, how, ticks             call kernel(context + slot, ...); the slot before it holds the call's strips
                                                 (codegen.chunks); ticks: the slot that adds up its cycles, or 0;
                                                 how = count << COUNT_BITS | chunks << 1 | barrier first
    END                                          the run is over
    BARRIER                                      wait until all calls so far are finished
    CLEAR           slot                         context[slot] = 0
    COUNT           slot                         context[slot] += 1
    WHILE           counter, trip, condition     skip the next row if counter < trip and, unless `condition` is 0, the bool at
                                                 index counter % 2 is True in the pair whose address slot `condition` holds
    JUMP            row                          continue at this row of the table

Each thread's range of a call is divided into `chunks` chunks. If chunks is 0, one thread runs `count` calls from this row on,
one after the other, and their cycles count as the first one's. CLEAR, COUNT and WHILE rows form groups that end with a WHILE;
one thread executes a group, and the other threads continue where it says. A loop is

    BARRIER; CLEAR each counter; WHILE; JUMP over; body: its steps; BARRIER; COUNT each counter; WHILE; JUMP over; JUMP body; over:

A plan between kernels, which recomputes sizes, is called like a kernel by one thread, and a barrier follows. Once a kernel
has found an error, no further kernel is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from sardonyx.runtime import abi
from sardonyx.runtime.memory import allocate

Row: TypeAlias = tuple[int, int, int, int]


class CallStep(Struct, frozen=True):
    """Calls a kernel whose arguments start at a slot. barrier: all earlier calls must be finished first. ticks: the slot that
    adds up its cycles, or 0.

    chunks: into how many chunks each thread's range is divided, at most abi.MOST_CHUNKS; 0: one thread runs the whole call.
    """

    kernel: str
    slot: int
    barrier: bool = False
    ticks: int = 0
    chunks: int = 1


class LoopStep(Struct, frozen=True):
    """Repeats steps: slot `trip` holds the number of iterations. With a condition, the loop ends before iteration t if the bool
    for it is False.

    condition: the slot with the address of a pair of bools, of which iteration t reads the one at index t % 2, because
    carried values are double-buffered. None: no condition. counters: slots that hold the number of the iteration; the first
    is compared with `trip`.
    """

    trip: int
    counters: Sequence[int]
    condition: int | None
    steps: tuple[RunStep, ...]


class PlanStep(Struct, frozen=True):
    """Calls a plan (codegen.plans), which writes slots that later steps read, after every earlier call is finished."""

    plan: str


RunStep: TypeAlias = CallStep | LoopStep | PlanStep


def rows(steps: Iterable[RunStep], numbers: Mapping[str, int]) -> tuple[Row, ...]:
    """Encode the steps as rows, with END last. numbers: {kernel: its number}."""
    out: list[Row] = []
    _write(steps, numbers, out)
    return *out, (abi.END, 0, 0, 0)


def _write(steps: Iterable[RunStep], numbers: Mapping[str, int], out: list[Row]) -> None:
    barrier = (abi.BARRIER, 0, 0, 0)
    for group in _groups(steps):
        if isinstance(group, PlanStep):
            out += [(numbers[group.plan], abi.NOTHING, 1 << abi.COUNT_BITS, 0), barrier]
            continue
        if not isinstance(group, LoopStep):
            out += [_call(step, numbers, len(group) - i) for i, step in enumerate(group)]
            continue
        decide = (abi.WHILE, group.counters[0], group.trip, group.condition or 0)
        out += [barrier, *((abi.CLEAR, slot, 0, 0) for slot in group.counters), decide, barrier]
        body = len(out)
        _write(group.steps, numbers, out)
        out += [barrier, *((abi.COUNT, slot, 0, 0) for slot in group.counters), decide, barrier, (abi.JUMP, body, 0, 0)]
        out[body - 1] = out[-2] = (abi.JUMP, len(out), 0, 0)


def _groups(steps: Iterable[RunStep]) -> Iterator[list[CallStep] | LoopStep | PlanStep]:
    """Yield the steps; consecutive calls that one thread runs, without a barrier between them, are yielded together."""
    waiting: list[CallStep] = []
    for step in steps:
        if waiting and (not isinstance(step, CallStep) or step.chunks or step.barrier):
            yield waiting
            waiting = []
        if not isinstance(step, CallStep):
            yield step
        elif step.chunks:
            yield [step]
        else:
            waiting.append(step)
    if waiting:
        yield waiting


def _call(step: CallStep, numbers: Mapping[str, int], count: int) -> Row:
    how = (0 if step.chunks else count) << abi.COUNT_BITS | step.chunks << 1 | step.barrier
    return numbers[step.kernel], step.slot, how, step.ticks


def table(steps: Sequence[Row], kernels: Sequence[int]) -> npt.NDArray[Any]:
    """Return the rows as native code reads them, i64[rows, 4]: with each kernel's address instead of its number."""
    made = allocate(len(steps) * abi.ROW_BYTES).view(np.int64).reshape(len(steps), -1)
    made[:] = steps
    is_call = made[:, 0] >= 0
    made[is_call, 0] = np.array(kernels, np.int64)[made[is_call, 0]]
    return made
