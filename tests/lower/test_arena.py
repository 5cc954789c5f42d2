"""Arenas: what is alive at once lies apart for any sizes, nothing asks for a barrier, and little is left free."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sardonyx.base.cache_line import LINE
from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Defined, Dim, Int, Symbol, evaluate, symbol
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Kernel, sequence
from sardonyx.lower.arena import Typical, higher, lives_of, moments, plan_memory
from sardonyx.lower.schedule import SLACK, Call, Segment, bytes_of, place_barriers

NOTHING = Kernel("nothing", (), (), sequence([]))
M, N = symbol("m"), symbol("n")


def call(reads: Sequence[Tensor], writes: Sequence[Tensor]) -> Call:
    return Call(NOTHING, [*reads, *writes], [], frozenset(writes), ())


def tensors(*sizes: Dim) -> list[Tensor]:
    return [Tensor(f32, [n], f"t{i}") for i, n in enumerate(sizes)]


def planned(steps: Sequence[Call], kept: frozenset[Tensor] = frozenset()) -> Segment:
    """The segment of these steps, all that they write in its arena."""
    segment = Segment(list(steps))
    place_barriers(segment.steps)
    plan_memory(segment, {t: bytes_of(t) for s in steps for t in s.writes}, kept)
    return segment


def chain(*made: Tensor) -> list[Call]:
    return [call(made[max(i - 1, 0) : i], [t]) for i, t in enumerate(made)]


def number(d: Dim, sizes: dict[str, int]) -> int:
    def of(s: Symbol) -> int:
        return number(s.definition, sizes) if isinstance(s, Defined) else sizes[s.name]

    return evaluate(d, of)


def room(n: int) -> int:
    """What a buffer of n elements takes."""
    return -(-(n * 4 + SLACK) // LINE) * LINE


def test_dead_memory_is_used_again() -> None:
    made = tensors(8, 8, 8, 8)
    segment = planned(chain(*made))
    assert segment.arena == 2 * room(8)
    assert segment.offsets[made[2]] == segment.offsets[made[0]]


def test_small_buffers_share_the_place_of_a_large_one() -> None:
    """Halves of a picture that is dead, and later one where two have been."""
    a, b, left, right, c, d = tensors(4096, 64, 1984, 1984, 64, 4096)
    steps = [call([], [a]), call([a], [b]), call([b], [left]), call([b], [right]), call([left, right], [c]), call([c], [d])]
    assert planned(steps).arena == room(4096) + room(64)


def test_sizes_of_one_formula_share_memory_whatever_it_gives() -> None:
    """Three quarters and two halves where a whole was: it takes no maximum that borders are not the same."""
    whole, first, second, small = tensors(1024 * M + 48, 512 * M + 640, 512 * M, 16 * M)
    steps = [call([], [whole]), call([whole], [small]), call([small], [first]), call([first, small], [second])]
    segment = planned(steps)
    assert isinstance(segment.arena, Int)
    assert not any(isinstance(s, Defined) for s in segment.arena.symbols)
    sizes = {"m": 100}
    assert number(segment.arena, sizes) < room(1024 * 100) + room(16 * 100) + 2 * room(640)


def test_sizes_that_only_a_run_compares_share_memory_too() -> None:
    made = tensors(M * M, 8, N * N, 8, M * N)
    segment = planned(chain(*made))
    for sizes in ({"m": 100, "n": 10}, {"m": 10, "n": 100}, {"m": 0, "n": 30}):
        most = max(number(bytes_of(t), sizes) for t in made)
        assert number(segment.arena, sizes) <= room(most // 4) + 2 * room(8)


def test_what_is_kept_is_not_overwritten() -> None:
    made = tensors(8, 8, 8)
    segment = planned(chain(*made), frozenset([made[0]]))
    assert len({segment.offsets[t] for t in made}) == 3


def test_memory_waits_for_a_barrier_that_stands_anyway() -> None:
    """`a` is dead after the second step, but the third may run beside it."""
    a, b, c, d = tensors(8, 8, 8, 8)
    segment = planned([call([], [a]), call([a], [b]), call([], [c]), call([b, c], [d])])
    assert [s.barrier for s in segment.steps] == [False, True, False, True]
    assert segment.offsets[c] not in (segment.offsets[a], segment.offsets[b])
    assert segment.offsets[d] == segment.offsets[a]


def test_one_thread_alone_uses_memory_again_without_a_barrier() -> None:
    a, b, c, d = tensors(8, 8, 8, 8)
    segment = planned([replace(s, single_threaded=True) for s in chain(a, b, c)] + [call([c], [d])])
    assert [s.barrier for s in segment.steps] == [False, False, False, True]
    assert segment.offsets[a] == segment.offsets[c]
    assert segment.arena == 2 * room(8)


def test_moments() -> None:
    """Steps 1 and 2 are one turn, in which another thread may do 1 late; 3 and 4 another, which one thread does alone."""
    a, b, c, d = tensors(8, 8, 8, 8)
    steps = [call([], [a]), call([a], [b]), replace(call([a], [c]), single_threaded=True)]
    steps += [replace(call([b], [d]), single_threaded=True), replace(call([d], []), single_threaded=True)]
    place_barriers(steps)
    assert moments(steps) == [(0, 0), (1, 1), (1, 1), (2, 2), (3, 3)]
    assert moments([*steps[3:], call([a], [b])]) == [(0, 0), (1, 1), (0, 1)]
    first, last = (replace(s, barrier=False) for s in steps[3:])
    assert moments([first, call([a], [b]), first, last]) == [(0, 1), (0, 1), (0, 0), (1, 1)], "another thread may do the first"
    owned = dict.fromkeys((a, b, c, d), 64)
    assert lives_of(Segment(steps), owned, {a}) == {a: (0, 3), b: (1, 2), c: (1, 1), d: (2, 3)}


def test_parts_make_a_whole_over_several_turns() -> None:
    a, b, whole = tensors(8, 8, 16)
    steps = [call([], [a]), call([a], [whole]), call([a], [b]), call([b], [whole])]
    place_barriers(steps)
    assert lives_of(Segment(steps), {whole: 64}, frozenset()) == {whole: (1, 2)}


@pytest.mark.parametrize(
    ("a", "b", "larger"),
    [
        (1000, 2000, 2000),
        (64 * M, 64 * M + 64, 64 * M + 64),
        (6400 * M + 64, 64 * M + 128, 6400 * M + 128),
        (64 * M * N + 64 * N, 64 * M * N + 64 * M, 64 * M * N + 64 * M + 64 * N),
    ],
)
def test_the_higher_of_two(a: Dim, b: Dim, larger: Dim) -> None:
    assert higher(a, b, Typical()) == higher(b, a, Typical()) == larger


def test_a_maximum_that_only_a_run_can_tell_has_a_name() -> None:
    found = higher(64 * M, 64 * N, Typical())
    (name,) = found.symbols  # type: ignore[union-attr]
    assert isinstance(name, Defined)
    assert number(found, {"m": 3, "n": 2}) == 192


def test_typical_numbers_look_behind_names_and_bear_any_formula() -> None:
    half = Defined(M // 2 + 1)  # type: ignore[arg-type]
    assert Typical()(3 * symbol("k")) == 768
    assert Typical().symbol(half) == 129
    assert Typical()(M // (N - 256)) == 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_plans(data: st.DataObject) -> None:
    """Two tensors that are alive at once never overlap, and two steps that meet in memory have a barrier between them."""
    made: list[Tensor] = []
    steps: list[Call] = []
    for i in range(data.draw(st.integers(2, 12))):
        size = data.draw(st.sampled_from([8, 1000, M, N, M + 8, 16 * M + 48, 16 * N + 16, M * N]))
        reads = data.draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if made else []
        made.append(Tensor(f32, [size], f"r{i}"))
        steps.append(replace(call(reads, [made[-1]]), single_threaded=data.draw(st.booleans())))
    kept = frozenset(data.draw(st.lists(st.sampled_from(made), max_size=2)))
    segment = planned(steps, kept)
    turn = list(itertools.accumulate(s.barrier for s in steps))
    sizes = {"m": data.draw(st.integers(0, 2000)), "n": data.draw(st.integers(0, 2000))}
    spans = {t: span(segment, t, sizes) for t in made}
    lives = {t: (i, max([i, *(j for j, s in enumerate(steps) if t in s.reads)], default=i)) for i, t in enumerate(made)}
    for i, t in enumerate(made):
        for u in made[:i]:
            end = len(steps) if u in kept else lives[u][1]
            if spans[t][0] < spans[u][1] and spans[u][0] < spans[t][1]:
                assert end < i, f"{t} is written over {u}"
                met = [j for j, s in enumerate(steps) if turn[j] == turn[i] and {t, u} & {*s.reads, *s.writes}]
                row = all(s.single_threaded for s in steps[met[0] : met[-1] + 1])  # done by one thread, one after the other
                assert turn[end] < turn[i] or row, f"no barrier between {u}'s last reader and {t}"


def span(segment: Segment, t: Tensor, sizes: dict[str, int]) -> tuple[int, int]:
    start = number(segment.offsets[t], sizes)
    assert start % LINE == 0
    assert start + number(bytes_of(t), sizes) + SLACK <= number(segment.arena, sizes)
    return start, start + number(bytes_of(t), sizes) + SLACK
