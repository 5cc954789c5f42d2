"""Encodes a program's spec as plain lists, numbers and texts, as JSON holds them, and decodes it.

Decoding validates: anything unexpected raises ValueError, so that a program from a damaged record never runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sardonyx.base import dtypes
from sardonyx.runtime import abi
from sardonyx.runtime.execution import Condition, Port, ProgramSpec, Readback, SegmentSpec
from sardonyx.runtime.steps import Row

T = TypeVar("T")


def encode(spec: ProgramSpec) -> list[Any]:
    """Return the spec as a list of its fields, in order."""
    return [
        spec.slots,
        [_port(port) for port in spec.inputs],
        [_port(port) for port in spec.outputs],
        spec.constants,
        spec.fixed,
        spec.sizes,
        [_segment(segment) for segment in spec.segments],
        spec.calls,
        spec.kernels,
    ]


def _port(port: Port) -> list[Any]:
    return [port.name, port.dtype.name, port.shape, port.slot]


def _segment(segment: SegmentSpec) -> list[Any]:
    readbacks = [[readback.slot, readback.source, readback.position, readback.dtype.name] for readback in segment.readbacks]
    conditions = [[c.slot, c.zero, c.message, c.sizes, c.named] for c in segment.requirements]
    return [readbacks, segment.arena_slot, segment.outputs, conditions, segment.steps, segment.placed]


def decode(record: object, constants: int) -> ProgramSpec:
    """Decode a spec, without ticks, of a program with `constants` constants. Raises ValueError for anything that `encode`
    doesn't write.
    """
    slots, inputs, outputs, places, fixed, sizes, segments, calls, names = fields(record, 9)
    kernels = listed(names, text)
    reader = _Reader(whole(slots, abi.FIRST_SLOT), len(kernels))
    ports_in, ports_out = listed(inputs, reader.port), listed(outputs, reader.port)

    def size(item: object) -> tuple[int, int, int]:
        slot, port, axis = fields(item, 3)
        found = whole(port, 0, len(ports_in))
        return reader.slot(slot), found, whole(axis, 0, len(ports_in[found].shape))

    def constant(item: object) -> tuple[int, int]:
        slot, number = fields(item, 2)
        return reader.slot(slot), whole(number, 0, constants)

    return ProgramSpec(
        reader.slots,
        ports_in,
        ports_out,
        listed(places, constant),
        listed(fixed, reader.number),
        listed(sizes, size),
        listed(segments, lambda item: reader.segment(item, len(ports_out))),
        listed(calls, _call),
        kernels,
    )


class _Reader:
    """Reads and validates numbers that refer to slots and kernels."""

    def __init__(self, slots: int, kernels: int) -> None:
        self.slots, self.kernels = slots, kernels

    def slot(self, item: object) -> int:
        """Read the number of a slot."""
        return whole(item, 0, self.slots)

    def number(self, item: object) -> tuple[int, int]:
        """Read a pair (slot, number)."""
        slot, number = fields(item, 2)
        return self.slot(slot), whole(number, -1 << 63, 1 << 63)

    def port(self, item: object) -> Port:
        name, dtype, shape, slot = fields(item, 4)
        return Port(text(name), element_type(dtype), listed(shape, self.size), self.slot(slot))

    def size(self, item: object) -> int:
        return whole(item, -self.slots)

    def segment(self, item: object, outputs: int) -> SegmentSpec:
        readbacks, arena, known, conditions, steps, placed = fields(item, 6)
        return SegmentSpec(
            listed(readbacks, self.readback),
            whole(arena, 0, self.slots - 1),
            listed(known, lambda number: whole(number, 0, outputs)),
            listed(conditions, self.condition),
            self.steps(steps),
            listed(placed, self.number),
        )

    def steps(self, item: object) -> tuple[Row, ...]:
        """Validate a step table: slots, kernels and jump targets are in range, groups are complete, and the table is terminated.
        Raises ValueError.
        """
        rows = listed(item, lambda row: tuple(fields(row, 4)))
        for at, row in enumerate(rows):
            kind = whole(row[0], abi.JUMP, self.kernels)
            whole(row[1], 1 if kind >= 0 else 0, len(rows) if kind == abi.JUMP else self.slots)
            if kind >= 0:
                check_call(rows, at)
            for number in row[3:] if kind >= 0 else row[2:]:
                whole(number, 0, self.slots)
            if (kind == abi.WHILE and at + 2 >= len(rows)) or (kind != abi.END and at + 1 == len(rows)):
                raise ValueError("the steps have no end")
            if kind in (abi.CLEAR, abi.COUNT) and rows[at + 1][0] not in (abi.CLEAR, abi.COUNT, abi.WHILE):
                raise ValueError("a group of counters does not end with a WHILE")
        if not rows:
            raise ValueError("there are no steps")
        return rows

    def readback(self, item: object) -> Readback:
        slot, source, position, dtype = fields(item, 4)
        return Readback(self.slot(slot), self.slot(source), whole(position, 0), element_type(dtype))

    def condition(self, item: object) -> Condition:
        slot, zero, message, sizes, named = fields(item, 5)
        return Condition(self.slot(slot), bool(zero), text(message), listed(sizes, self.size), bool(named))


def _call(item: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    origins, checks = fields(item, 2)
    return listed(origins, text), listed(checks, text)


# ---- what records consist of ------------------------------------------------------------------------------------------------


def fields(item: object, count: int) -> Sequence[Any]:
    """Return a list of exactly `count` items. Raises ValueError."""
    if not isinstance(item, list) or len(item) != count:
        raise ValueError(f"not a list of {count} items")
    return item


def listed(item: object, read: Callable[[Any], T]) -> tuple[T, ...]:
    """Return a list with each item read by `read`. Raises ValueError."""
    if not isinstance(item, list):
        raise ValueError("not a list")
    return tuple(map(read, item))


def check_call(rows: Sequence[Row], at: int) -> None:
    """Validate how a row calls its kernel: in chunks, or in a group of rows that all are calls. Raises ValueError."""
    how = whole(rows[at][2], 0)
    chunks, count = how >> 1 & (1 << abi.COUNT_BITS - 1) - 1, how >> abi.COUNT_BITS
    whole(chunks, 0, abi.MOST_CHUNKS + 1)
    whole(count, int(chunks == 0), 1 if chunks else len(rows) - at)
    if any(row[0] < 0 for row in rows[at : at + count]):
        raise ValueError("a group of calls holds a row that is no call")


def whole(item: object, least: int, end: int = 1 << 63) -> int:
    """Return an integer in [least, end). Raises ValueError."""
    if type(item) is not int or not least <= item < end:
        raise ValueError(f"not an integer from {least} to {end - 1}")
    return item


def text(item: object) -> str:
    if not isinstance(item, str):
        raise ValueError("not a text")
    return item


def element_type(item: object) -> dtypes.DType:
    """Return the dtype of this name. Raises ValueError."""
    if not isinstance(item, str) or item not in dtypes.BY_NAME:
        raise ValueError("not the name of a dtype")
    return dtypes.BY_NAME[item]
