"""The steps of a segment as a table, which a native function walks (codegen.walk): rows of four numbers.

    what            a, b, c                      meaning
    kernel, >= 0    slot, how, ticks             kernel(context + slot, ...); for the slot before it see codegen.chunks;
                                                 ticks: the slot that adds up its cycles, or 0; how is
                                                 count << COUNT_BITS | parts << 1 | whether the team meets before
    END                                          the run is over
    BARRIER                                      the team meets: all calls so far are done
    CLEAR           slot                         the slot's number becomes 0
    COUNT           slot                         the slot's number grows by 1
    WHILE           counter, trip, condition     the next row is passed over while counter < trip and, if `condition` is not 0, the bool
                                                 at counter % 2 is True, of two whose address is in that slot
    JUMP            row                          goes on at a row of the table

Each thread's share of a call is divided into so many parts. Without parts, `count` calls from this one on are done by one thread, one
after the other, and their cycles are those of the first. CLEAR, COUNT and WHILE stand in groups that end with a WHILE; one thread does a
whole group, and the others go where it goes. A repeated part is

    BARRIER; CLEAR each counter; WHILE; JUMP over; body: its steps; BARRIER; COUNT each counter; WHILE; JUMP over; JUMP body; over:

A plan between calls, which computes sizes anew, is called as a kernel by one thread, and then the team meets. No kernel is called after
one that has found an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sardonyx.runtime import abi
from sardonyx.runtime.memory import allocate

Row: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class CallStep:
    """Call a kernel whose arguments start at a slot; barrier: the team meets first. ticks: the slot that adds up its cycles, or 0.
    parts: into which each thread's share is divided, at most abi.MOST_CHUNKS; 0: one thread does it."""

    kernel: str
    slot: int
    barrier: bool = False
    ticks: int = 0
    chunks: int = 1


@dataclass(frozen=True, slots=True)
class LoopStep:
    """Steps repeated from iteration 0: as often as slot `trip` says, and iteration t only if the bool at t % 2, of two
    whose address is in slot `condition` (if there is one), is True.

    counters: slots that hold the number of the turn, each counted up after a turn; the first is the one compared with `trip`.
    """

    trip: int
    counters: Sequence[int]
    condition: int | None
    steps: tuple[RunStep, ...]


@dataclass(frozen=True, slots=True)
class PlanStep:
    """Call a plan (codegen.plans), which writes slots that the steps after it read. Every call before it is done."""

    plan: str


RunStep: TypeAlias = CallStep | LoopStep | PlanStep


def rows(steps: Iterable[RunStep], numbers: Mapping[str, int]) -> tuple[Row, ...]:
    """The steps as rows, END the last. numbers: of the kernels."""
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
    """Calls that one thread does, one after the other and without a barrier, together."""
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
    """The rows as they are walked, i64[rows, 4]: each kernel's address in the place of its number."""
    made = allocate(len(steps) * abi.ROW_BYTES).view(np.int64).reshape(len(steps), -1)
    made[:] = steps
    is_call = made[:, 0] >= 0
    made[is_call, 0] = np.array(kernels, np.int64)[made[is_call, 0]]
    return made
