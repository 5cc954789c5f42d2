"""Barriers, against what they are for: nobody meets what another still needs."""

from __future__ import annotations

from msgspec.structs import replace

from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Symbol
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Kernel, sequence
from sardonyx.lower.schedule import Call, Repeat, place_barriers

NOTHING = Kernel("nothing", (), (), sequence([]))


def call(reads: list[Tensor], writes: list[Tensor]) -> Call:
    return Call(NOTHING, [*reads, *writes], [], frozenset(writes), ())


def tensors(count: int) -> list[Tensor]:
    return [Tensor(f32, [8], f"t{i}") for i in range(count)]


def barriers(*steps: Call | Repeat) -> list[bool]:
    place_barriers(steps)
    return [s.barrier for s in steps]


def test_reading_what_was_written() -> None:
    a, b, c = tensors(3)
    assert barriers(call([], [a]), call([a], [b]), call([], [c])) == [False, True, False]


def test_writing_what_is_still_read() -> None:
    a, b = tensors(2)
    assert barriers(call([b], [a]), call([], [b])) == [False, True]


def test_what_one_thread_does_alone_has_an_order() -> None:
    a, b, c, d = tensors(4)
    alone = [replace(call(reads, writes), single_threaded=True) for reads, writes in (([], [a]), ([a], [b]), ([b], [a]))]
    assert barriers(*alone, call([a], [c]), call([], [d])) == [False, False, False, True, False]
    shared = call([], [a])
    assert barriers(shared, replace(call([a], [b]), single_threaded=True), replace(call([b], [c]), single_threaded=True)) == [
        False,
        True,
        False,
    ]
    first, last = alone[:2]
    assert barriers(first, call([], [d]), last) == [False, False, True], "another thread may do the last"


def test_parts_of_one_whole_side_by_side() -> None:
    a, b, whole, c = tensors(4)
    assert barriers(call([a], [whole]), call([b], [whole]), call([whole], [c])) == [False, False, True]


def test_a_loop_begins_after_a_barrier_and_what_follows_waits_for_it() -> None:
    a, b, c, d = tensors(4)
    region = Region(Symbol("t", 3), 3, (), ())
    inner = [call([a], [b]), call([b], [c])]
    loop = Repeat(region, list(inner))
    after = call([c], [d])
    assert barriers(call([], [a]), loop, after) == [False, True, True]
    assert [s.barrier for s in inner] == [False, True]
