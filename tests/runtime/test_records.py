"""Specs as plain records: the same comes back, and nothing else is taken."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sardonyx.base.dtypes import bf16, f32, i64
from sardonyx.runtime import abi
from sardonyx.runtime.execution import Condition, Port, ProgramSpec, Readback, SegmentSpec
from sardonyx.runtime.records import decode, encode
from sardonyx.runtime.steps import CallStep, LoopStep, rows

STEPS = rows([LoopStep(53, (54,), None, (CallStep("k_2", 55, True),))], {"k_1": 0, "k_2": 1})
SPEC = ProgramSpec(
    slots=60,
    inputs=(Port("x", f32, (-41, 4), 40), Port("é", bf16, (), 41)),
    outputs=(Port("y", i64, (3, -42), 42),),
    constants=((43, 0), (44, 1)),
    fixed=((45, -7), (46, 1 << 62)),
    sizes=((40, 0, 1),),
    segments=(
        SegmentSpec(
            (),
            47,
            (0,),
            (Condition(48, True, "must be {}", (3, -50), True), Condition(49, False, "size")),
            STEPS,
            ((55, 64), (56, 0)),
        ),
        SegmentSpec((Readback(50, 51, 3, i64),), 52, (), (), ((0, 54, 2, 0), (abi.END, 0, 0, 0))),
    ),
    calls=((("a", "b"), ("out of {}",)), ((), ())),
    kernels=("k_1", "k_2"),
)


def record() -> Any:
    return json.loads(json.dumps(encode(SPEC)))


def test_the_same_comes_back():
    assert decode(record(), 2) == SPEC


def places(item: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Where something stands in a record."""
    yield path
    if isinstance(item, list):
        for i, inner in enumerate(item):
            yield from places(inner, (*path, i))


@pytest.mark.parametrize("value", [None, {}, 1.5, 1 << 80, [[[]]]])
def test_anything_else_is_refused_everywhere(value: object):
    for path in places(record()):
        changed: Any = [copy.deepcopy(record())]
        *above, last = (0, *path)
        inner = changed
        for i in above:
            inner = inner[i]
        if isinstance(inner[last], bool):
            continue
        inner[last] = value
        with pytest.raises(ValueError, match="^(not|there are no|the steps|a group) "):
            decode(changed[0], 2)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((0,), 10),
        ((6, 1, 1), 59),
        ((1, 0, 3), 60),
        ((1, 0, 3), -1),
        ((1, 0, 2, 0), -61),
        ((3, 0, 1), 2),
        ((5, 0, 1), 2),
        ((5, 0, 2), 2),
        ((6, 0, 2, 0), 1),
        ((6, 1, 4, 0, 0), 2),
        ((6, 1, 4, 0, 0), abi.JUMP - 1),
        ((6, 1, 4, 0, 1), 60),
        ((6, 0, 4, 9, 1), 11),
        ((6, 0, 4, 4, 2), 1),  # neither parts nor a count
        ((6, 0, 4, 4, 2), 1 << abi.COUNT_BITS | 2),  # both
        ((6, 0, 4, 4, 2), 7 << abi.COUNT_BITS),
        ((6, 0, 4, 4, 2), 2 * abi.MOST_CHUNKS + 2),
        ((6, 0, 5, 0, 0), 60),
        ((6, 0, 3, 0, 3, 1), -61),
    ],
)
def test_numbers_that_lead_outside_are_refused(path: tuple[int, ...], value: int):
    changed = record()
    inner = changed
    for i in path[:-1]:
        inner = inner[i]
    inner[path[-1]] = value
    with pytest.raises(ValueError, match="not an integer"):
        decode(changed, 2)


@pytest.mark.parametrize("steps", [[], [[0, 54, 2, 0]], [[abi.WHILE, 50, 51, 0], [abi.END, 0, 0, 0]]])
def test_steps_without_an_end_are_refused(steps: object):
    changed = record()
    changed[6][1][4] = steps
    with pytest.raises(ValueError, match="no (steps|end)"):
        decode(changed, 2)


def test_groups_of_steps_that_nobody_ends_are_refused():
    changed = record()
    changed[6][0][4][7][0] = abi.BARRIER
    with pytest.raises(ValueError, match="does not end with a WHILE"):
        decode(changed, 2)


def test_one_thread_does_calls_alone():
    changed = record()
    changed[6][0][4][4][2] = 2 << abi.COUNT_BITS
    with pytest.raises(ValueError, match="a row that is no call"):
        decode(changed, 2)
    changed[6][0][4][4][2] = 1 << abi.COUNT_BITS
    assert decode(changed, 2).segments[0].steps[4] == (1, 55, 1 << abi.COUNT_BITS, 0)
