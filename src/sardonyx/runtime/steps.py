"""The steps of a segment as a table, which a native function walks (codegen.walk): rows of four numbers.

    what            a, b, c                      meaning
    kernel, >= 0    slot, meets, ticks           [the team meets;] kernel(context + slot, ...); ticks: the slot that adds up its cycles, or 0
    END                                          the run is over
    MEET                                         the team meets
    CLEAR           slot                         the slot's number becomes 0, by one thread
    COUNT           slot                         the slot's number grows by 1, by one thread
    WHILE           counter, trip, condition     the next row is passed over while counter < trip, and the bool is True whose address
                                                 the slot `condition` holds, if it is not 0
    GO              row                          goes on at a row of the table

A repeated part is

    MEET; CLEAR each counter; MEET; again: WHILE; GO over; its steps; MEET; COUNT each counter; MEET; GO again; over:

Every thread reads the same turn and condition: what decides was written before the team met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sardonyx.runtime import abi
from sardonyx.runtime.memory import allocate

Row: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class CallStep:
    """Call a kernel whose arguments start at a slot; barrier: the team meets first. ticks: the slot that adds up its cycles, or 0."""

    kernel: str
    slot: int
    barrier: bool = False
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class RepeatStep:
    """Steps again and again, from turn 0: as often as slot `trip` says, while the bool whose address is in slot `condition` (if any) is True.

    counters: slots that hold the number of the turn, each counted up after a turn; the first is the one compared with `trip`.
    """

    trip: int
    counters: Sequence[int]
    condition: int | None
    steps: tuple[RunStep, ...]


RunStep: TypeAlias = CallStep | RepeatStep


def rows(steps: Iterable[RunStep], numbers: Mapping[str, int]) -> tuple[Row, ...]:
    """The steps as rows, END the last. numbers: of the kernels."""
    out: list[Row] = []
    _write(steps, numbers, out)
    return *out, (abi.END, 0, 0, 0)


def _write(steps: Iterable[RunStep], numbers: Mapping[str, int], out: list[Row]) -> None:
    for step in steps:
        if isinstance(step, CallStep):
            out.append((numbers[step.kernel], step.slot, int(step.barrier), step.ticks))
            continue
        meet = (abi.MEET, 0, 0, 0)
        out += [meet, *((abi.CLEAR, slot, 0, 0) for slot in step.counters), meet]
        again = len(out)
        out += [(abi.WHILE, step.counters[0], step.trip, step.condition or 0), meet]
        _write(step.steps, numbers, out)
        out += [meet, *((abi.COUNT, slot, 0, 0) for slot in step.counters), meet, (abi.GO, again, 0, 0)]
        out[again + 1] = (abi.GO, len(out), 0, 0)


def table(steps: Sequence[Row], kernels: Sequence[int]) -> npt.NDArray[Any]:
    """The rows as they are walked, i64[rows, 4]: each kernel's address in the place of its number."""
    made = allocate(len(steps) * abi.ROW_BYTES).view(np.int64).reshape(len(steps), -1)
    made[:] = steps
    is_call = made[:, 0] >= 0
    made[is_call, 0] = np.array(kernels, np.int64)[made[is_call, 0]]
    return made
