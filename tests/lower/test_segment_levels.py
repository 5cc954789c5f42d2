"""Segments: what needs a size that data decide comes after the segment that computes it, a repeated body as a whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx.parser

import sardonyx as sx
from sardonyx.base.dtypes import boolean, i64
from sardonyx.expr.known import DataSymbol, elements
from sardonyx.expr.region import choose, scan, while_loop
from sardonyx.expr.scalar import apply, index
from sardonyx.expr.tensor import Read, Tensor, compute
from sardonyx.lower.lowered import data_symbols, reachable
from sardonyx.lower.repetition import expand
from sardonyx.lower.schedule import Repeat
from sardonyx.lower.segment_levels import mark_levels
from sardonyx.lower.values import Value
from sardonyx.ops.pointwise import add, along, cast, view
from tests.lower.harness import compiled, parse, reals


def levels(*outputs: Tensor) -> Callable[[Tensor], int]:
    """The level of each tensor that these outputs are made of."""
    readbacks: list[DataSymbol] = data_symbols(outputs)
    values = {t: Value(t) for t in reachable([*outputs, *(p.tensor for p in readbacks)])}
    expand(values)
    mark_levels(values, readbacks)
    return lambda t: values[t].level


def ones(n: Tensor) -> Tensor:
    return compute(i64, [elements(n)[0]], lambda i: index(1))


def count(x: Tensor) -> Tensor:
    """The sum of x: i64[1]"""
    return along("add", x, [0])


def test_each_size_from_data_is_one_segment_more() -> None:
    n = parse("i64[1]", "n")
    first = ones(add(n, n))
    second = ones(count(first))
    level = levels(second)
    assert [level(t) for t in (n, first, second)] == [0, 1, 2]


def test_without_sizes_from_data_all_is_one_segment() -> None:
    x = parse("f32[n]", "x")
    y = add(x, x)
    assert levels(y)(y) == 0


def test_a_loop_waits_for_its_trip_count() -> None:
    n, x = parse("i64[1]", "n"), parse("f32[m]", "x")
    inside: list[Tensor] = []

    def step(t, s):
        inside.append(add(s, s))
        return [inside[-1]], []

    (final,), _ = scan(elements(add(n, n))[0], [x], step)
    after = add(final, x)
    level = levels(after)
    assert [level(t) for t in (inside[0], final, after)] == [1, 1, 1]


def test_a_loop_waits_for_what_one_statement_of_it_needs() -> None:
    """Of two states one needs a size from data; the other's update stands in the same body."""
    n, x = parse("i64[1]", "n"), parse("f32[m]", "x")
    long = ones(add(n, n))
    plain: list[Tensor] = []

    def step(t, s, k):
        plain.append(add(s, s))
        return [plain[-1], add(k, count(long))], []

    finals, _ = scan(3, [x, n], step)
    level = levels(*finals)
    assert level(plain[0]) == level(finals[0]) == level(finals[1]) == 1


def test_a_branch_waits_for_its_condition() -> None:
    n, x = parse("i64[1]", "n"), parse("f32[m]", "x")
    long = ones(add(n, n))
    flag = compute(boolean, (), lambda: apply("lt", Read(count(long), (0,)), index(4)))
    inside: list[Tensor] = []

    def then() -> list[Tensor]:
        inside.append(add(x, x))
        return inside

    (y,) = choose(flag, then, lambda: [x], lambda a, _: a.shape)
    level = levels(y)
    assert level(flag) == level(inside[0]) == level(y) == 1


def test_a_second_loop_that_runs_as_often_as_the_first_one_did() -> None:
    """The first one begins with a condition that a loop of a fed number of iterations leaves."""

    def net(n: Tensor, b: Tensor, x: Tensor) -> list[Tensor]:
        (start,), _ = scan(
            elements(add(n, n))[0], [b], lambda t, s: ([compute(boolean, (), lambda: apply("not", Read(s, ())))], [])
        )
        few = lambda t: compute(boolean, (), lambda: apply("lt", index(t + 1), index(3)))  # noqa: E731
        _, _, done = while_loop(9, start, [], lambda t: ([few(t)], []))
        return scan(elements(done).item(), [x], lambda t, s: ([add(s, s)], [s]))[0]

    program = compiled(net, "i64[1]", "bool[]", "f32[m]")
    loops = [[s for s in segment.steps if isinstance(s, Repeat)] for segment in program.lowered.segments]
    assert [len(found) for found in loops] == [0, 1 + 1, 1]
    for n in (0, 1, 2):
        for b in (True, False):
            (y,) = program.check(np.array([n]), np.array(b), reals(5))
            np.testing.assert_array_equal(y, reals(5) * (8 if b else 1))


def test_values_of_one_size_from_data_stand_in_one_segment() -> None:
    program = compiled(lambda n, x: add(x, cast(count(ones(add(n, n))), x.dtype)), "i64[1]", "f32[m]")
    assert len(program.lowered.segments) == 2
    (y,) = program.check(np.array([2]), reals(4))
    np.testing.assert_array_equal(y, reals(4) + 4)


def test_a_state_that_a_loop_only_writes() -> None:
    """Its initial value needs a size from data, nothing else of the loop does; where there is no iteration, it is what is left."""

    def net(n: Tensor, k: Tensor, x: Tensor) -> list[Tensor]:
        total = cast(count(ones(add(n, n))), x.dtype)
        return scan(elements(k)[0], [total, x], lambda t, a, b: ([view(b, [1], lambda i: (0,)), add(b, x)], []))[0]

    program = compiled(net, "i64[1]", "i64[1]", "f32[m]")
    for turns in range(4):
        program.check(np.array([2]), np.array([turns]), reals(5))


def test_a_final_state_that_a_later_segment_reads() -> None:
    """Which half holds it the number of iterations tells, which data decide in an earlier segment."""

    def net(n: Tensor, x: Tensor) -> list[Tensor]:
        goes_on = lambda t: compute(boolean, (), lambda: apply("lt", index(t + 1), Read(n, (0,))))  # noqa: E731
        first = compute(boolean, (), lambda: apply("lt", index(0), Read(n, (0,))))
        (final,), _, _ = while_loop(9, first, [x], lambda t, s: ([goes_on(t), add(s, s)], []))
        (total,), _ = scan(elements(add(n, n))[0], [x], lambda t, s: ([add(s, final)], []))
        return [total]

    program = compiled(net, "i64[1]", "f32[m]")
    assert len(program.lowered.segments) == 2
    for n in range(4):
        (y,) = program.check(np.array([n]), reals(5))
        np.testing.assert_array_equal(y, reals(5) * (1 + 2 * n * 2**n))


def test_a_size_that_is_decided_beside_what_comes_after_what_needs_it() -> None:
    """The count is kept in the nest of a later value."""

    def net(k: Tensor, x: Tensor) -> list[Tensor]:
        size = add(k, k)
        part = count(cast(compute(i64, [elements(size)[0]], lambda i: index(i)), x.dtype))
        return [part, add(size, k), add(x, part)]

    program = compiled(net, "i64[1]", "f32[m]")
    for k in range(3):
        program.check(np.array([k]), reals(5))


def test_a_trip_count_that_the_nest_of_a_later_value_writes() -> None:
    """A norm of the trip count writes it too, in a nest behind the loop, whose results' sizes are then asked for too early."""
    text = """<ir_version: 10, opset_import: ["": 21]> g (int64 a, int64 b, float[2,m] x) => (float[s,k] means, int64 norm, int64 trips)
        <bool going = {1}, int64[0] none = {}> {
        trips = Min (a, b)
        means = Loop (trips, going) <body = body (int64 i, bool on) => (bool more, float[p] mean)
            <int64 one = {1}, int64[1] shape = {1}, int64[1] zero = {0}, int64 last = {2}> {
            after = Add (i, one)  end = Reshape (after, shape)  part = Slice (x, zero, end, zero)
            mean = ReduceMean <keepdims = 0> (part, zero)  more = Less (i, last)
        }>
        norm = ReduceL2 <keepdims = 0> (trips, none)
    }"""
    session = sx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    x = reals(2, 5)
    for a, b in ((3, 2), (0, 4), (9, 7)):
        means, norm, trips = session.run(None, {"a": np.array(a), "b": np.array(b), "x": x})
        count = min(a, b, 3)
        assert (means.shape, norm, trips) == ((count, 5), min(a, b), min(a, b))
        np.testing.assert_allclose(means, [x[: i + 1].mean(0) for i in range(count)] if count else means, rtol=1e-6)


def test_a_whole_is_there_when_its_last_part_is() -> None:
    """The shape of y has a number of the first segment, and one that only the second finds."""
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[n] x, int64[1] k) => (float[a,b] y, int64[2] s) <int64 zero = {0}, int64 one = {1}, int64[1] first = {1}> {
        places = NonZero (x)  p = Shape (places)  count = Gather (p, first)
        limit = Squeeze (count)  rows = Range (zero, limit, one)  later = NonZero (rows)  q = Shape (later)  fewer = Gather (q, first)
        most = Max (fewer, k)  s = Concat <axis = 0> (count, most)  y = ConstantOfShape (s)
    }"""
    session = sx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for x in ([1, 0, 2, 3], [0, 0], [5], [1, 2, 3, 4, 5, 6]):
        y, s = session.run(None, {"x": np.array(x, np.float32), "k": np.array([2])})
        count = int(np.count_nonzero(x))
        assert s.tolist() == [count, max(count - 1, 2)]
        assert y.shape == tuple(s)
