"""Memory plans and barriers, against what they are for: nobody meets what another still needs."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Symbol, evaluate, symbol
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Kernel, sequence
from sardonyx.lower.schedule import ALIGNMENT, SLACK, Call, Repeat, Segment, bytes_of, place_barriers, plan_memory

NOTHING = Kernel("nothing", (), (), sequence([]))


def call(reads: list[Tensor], writes: list[Tensor]) -> Call:
    return Call(NOTHING, [*reads, *writes], [], frozenset(writes), ())


def tensors(count: int, n: object = 8) -> list[Tensor]:
    return [Tensor(f32, [n], f"t{i}") for i in range(count)]  # type: ignore[list-item]


def barriers(*steps: Call | Repeat) -> list[bool]:
    place_barriers(steps, {})
    return [s.barrier for s in steps]


# ---- barriers -----------------------------------------------------------------------------------------------------------


def test_reading_what_was_written() -> None:
    a, b, c = tensors(3)
    assert barriers(call([], [a]), call([a], [b]), call([], [c])) == [False, True, False]


def test_writing_what_is_still_read() -> None:
    a, b, c = tensors(3)
    slots = {b: 0, c: 0}
    steps = [call([b], [a]), call([], [c])]
    place_barriers(steps, slots)
    assert [s.barrier for s in steps] == [False, True]


def test_what_one_thread_does_alone_has_an_order() -> None:
    a, b, c, d = tensors(4)
    alone = [replace(call(reads, writes), alone=True) for reads, writes in (([], [a]), ([a], [b]), ([b], [a]))]
    assert barriers(*alone, call([a], [c]), call([], [d])) == [False, False, False, True, False]
    shared = call([], [a])
    assert barriers(shared, replace(call([a], [b]), alone=True), replace(call([b], [c]), alone=True)) == [False, True, False]
    first, last = alone[:2]
    assert barriers(first, call([], [d]), last) == [False, False, True], "another thread may do the last"


def test_parts_of_one_whole_side_by_side() -> None:
    a, b, whole, c = tensors(4)
    assert barriers(call([a], [whole]), call([b], [whole]), call([whole], [c])) == [False, False, True]


def test_two_tensors_in_one_place_are_not_parts() -> None:
    a, b = tensors(2)
    steps = [call([], [a]), call([], [b])]
    place_barriers(steps, {a: 0, b: 0})
    assert [s.barrier for s in steps] == [False, True]


def test_a_loop_begins_after_a_barrier_and_what_follows_waits_for_it() -> None:
    a, b, c, d = tensors(4)
    region = Region(Symbol("t", 3), 3, (), ())
    inner = [call([a], [b]), call([b], [c])]
    loop = Repeat(region, list(inner))
    after = call([c], [d])
    assert barriers(call([], [a]), loop, after) == [False, True, True]
    assert [s.barrier for s in inner] == [False, True]


# ---- memory -------------------------------------------------------------------------------------------------------------


def test_dead_memory_is_used_again() -> None:
    a, b, c, d = tensors(4)
    segment = Segment([call([], [a]), call([a], [b]), call([b], [c]), call([c], [d])])
    plan_memory(segment, {t: bytes_of(t) for t in (a, b, c, d)}, frozenset())
    assert segment.offsets[c] == segment.offsets[a]
    assert segment.arena == 2 * round_up(8 * 4 + SLACK)


def round_up(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def test_memory_of_another_formula_is_not_used_again() -> None:
    a, b, c = Tensor(f32, [symbol("m")]), Tensor(f32, [symbol("m")]), Tensor(f32, [symbol("n")])
    segment = Segment([call([], [a]), call([a], [b]), call([b], [c])])
    plan_memory(segment, {t: bytes_of(t) for t in (a, b, c)}, frozenset())
    assert len({segment.offsets[t] for t in (a, b, c)}) == 3


def test_what_is_kept_is_not_overwritten() -> None:
    a, b, c = tensors(3)
    segment = Segment([call([], [a]), call([a], [b]), call([b], [c])])
    plan_memory(segment, {t: bytes_of(t) for t in (a, b, c)}, frozenset([a]))
    assert len({segment.offsets[t] for t in (a, b, c)}) == 3


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_plans(data: st.DataObject) -> None:
    """Two tensors that are alive at once never overlap, and two steps that meet in memory have a barrier between them."""
    made: list[Tensor] = []
    steps: list[Call] = []
    for i in range(data.draw(st.integers(2, 12))):
        size = data.draw(st.sampled_from([8, 16, symbol("m"), symbol("n"), symbol("m") + 8, symbol("m") * symbol("n")]))
        reads = data.draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if made else []
        made.append(Tensor(f32, [size], f"r{i}"))
        steps.append(call(reads, [made[-1]]))
    segment = Segment(list(steps))
    kept = frozenset(data.draw(st.lists(st.sampled_from(made), max_size=2)))
    slots = plan_memory(segment, {t: bytes_of(t) for t in made}, kept)
    place_barriers(segment.steps, slots)
    sizes = {"m": data.draw(st.integers(0, 50)), "n": data.draw(st.integers(0, 50))}
    spans = {t: span(segment, t, sizes) for t in made}
    lives = {t: (i, max([i, *(j for j, s in enumerate(steps) if t in s.reads)], default=i)) for i, t in enumerate(made)}
    for i, t in enumerate(made):
        for j, u in enumerate(made[:i]):
            end = len(steps) if u in kept else lives[u][1]
            if overlap(spans[t], spans[u]):
                assert end < i, f"{t} is written over {u}"
                assert any(s.barrier for s in steps[max(j, lives[u][1]) + 1 : i + 1]), (
                    f"no barrier between {u}'s last reader and {t}"
                )


def span(segment: Segment, t: Tensor, sizes: dict[str, int]) -> tuple[int, int]:
    number = lambda d: evaluate(d, lambda s: sizes[s.name])  # noqa: E731
    start = number(segment.offsets[t])
    assert start + number(bytes_of(t)) + SLACK <= number(segment.arena)
    return start, start + number(bytes_of(t)) + SLACK


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]
