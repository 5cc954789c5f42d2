"""Programs as tables of steps: which sizes are computed before a segment, and which between its calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sardonyx.base.symbolic import Dim, evaluate, minimum, symbol
from sardonyx.codegen import features
from sardonyx.expr import require
from sardonyx.expr.region import choose, scan
from sardonyx.expr.scalar import apply
from sardonyx.expr.tensor import Read, Tensor, compute, constant, reduction
from sardonyx.lower.lowered import lower
from sardonyx.lower.schedule import Repeat, calls
from sardonyx.ops import linalg
from sardonyx.ops.pointwise import add, mul, pointwise, view
from sardonyx.ops.rnn import lstm
from sardonyx.providers.assemble import Assembly, assemble, largest
from sardonyx.runtime import abi
from tests.lower.harness import compiled, machine_for, parse, reals


def assembled(net: Callable[..., Sequence[Tensor]], *signatures: str, timed: bool = False) -> Assembly:
    with require.collect() as requirements:
        inputs = [parse(s, f"x{i}") for i, s in enumerate(signatures)]
        outputs = list(net(*inputs))
    program, _ = lower(inputs, outputs, machine_for(features.host()))
    return assemble(program, requirements, timed)


def kinds(found: Assembly, segment: int = 0) -> list[int]:
    """The rows of a segment: 0 for a call, else what the row is."""
    return [min(what, 0) for what, *_ in found.spec.segments[segment].steps]


def turn_of(x: Tensor, t: Dim) -> Tensor:
    return view(x, x.shape[1:], lambda *i: (t, *i))


def test_a_scan_has_no_plan_between_its_calls() -> None:
    """Its iteration is a size of the kernels, counted by the walk: one call, and what every repetition has."""
    found = assembled(lambda x, h: scan(x.shape[0], [h], lambda t, s: ([add(s, turn_of(x, t))], []))[0], "f32[t, m]", "f32[m]")
    assert found.mid_run_plans == []
    body = [0, abi.BARRIER, *kinds(found)[kinds(found).index(abi.COUNT) :]]
    assert body.count(0) == 2  # the body's call, and the one that reads the final state
    assert kinds(found).count(abi.WHILE) == 2


def tanh(x: Tensor) -> Tensor:
    return pointwise(lambda e: apply("tanh", e), x)


def test_an_lstm_has_no_plan_between_its_calls() -> None:
    found = assembled(lambda x, w, r: lstm(x, w, r, hidden_size=8)[:1], "f32[t, b, 5]", "f32[1, 32, 5]", "f32[1, 32, 8]")
    assert found.mid_run_plans == []


def test_the_calls_of_one_iteration_of_a_recurrent_net() -> None:
    """The product with what doesn't change stands before the loop; the rest of an iteration is one call."""

    def net(x: Tensor, h: Tensor) -> Sequence[Tensor]:
        w, r = constant(reals(5, 8), "w"), constant(reals(8, 8), "r")
        y = linalg.matmul(x, w)
        step = lambda t, s: ([tanh(add(turn_of(y, t), linalg.matmul(s, r)))], [])  # noqa: E731
        return scan(x.shape[0], [h], step)[0]

    inputs = [parse("f32[t, b, 5]", "x"), parse("f32[b, 8]", "h")]
    program, _ = lower(inputs, list(net(*inputs)), machine_for(features.host()))
    (repeat,) = [s for s in program.segments[0].steps if isinstance(s, Repeat)]
    assert len(list(calls(repeat.steps))) == 1
    assert assemble(program, []).mid_run_plans == []


def summed(x: Tensor, n: Dim) -> Tensor:
    """The sum of n elements of x."""
    return reduction("add", x.dtype, [], [n], lambda r: Read(x, (r,)))


def test_a_size_of_the_iteration_that_is_no_plain_counter_is_computed_at_each() -> None:
    """minimum(t + 2, n) elements: a plan at the start of each iteration."""
    net = lambda x, h: scan(3, [h], lambda t, s: ([add(s, summed(x, minimum(t + 2, x.shape[0])))], []))[0]  # noqa: E731
    program = compiled(net, "f32[n]", "f32[]")
    for n in (0, 1, 2, 9):
        program.check(reals(n), reals())


def test_plans_stand_only_where_something_is_to_be_done() -> None:
    def net(x: Tensor, y: Tensor, h: Tensor) -> Sequence[Tensor]:
        def inner(t: Dim) -> Callable[[Dim, Tensor], tuple[list[Tensor], list[Tensor]]]:
            return lambda u, s: ([add(s, summed(x, t * u))], [])

        return scan(3, [h], lambda t, s: (scan(t + 1, [s], inner(t))[0], []))[0]

    found = assembled(net, "f32[n]", "f32[m]", "f32[]")
    assert 1 <= len(found.mid_run_plans) <= 2
    named = [what for what, *_ in found.spec.segments[0].steps if what >= len(found.spec.kernels) - len(found.mid_run_plans)]
    assert len(named) == len(found.mid_run_plans)


def test_what_a_branch_requires_is_tested_where_it_begins() -> None:
    def then(x: Tensor, y: Tensor) -> Sequence[Tensor]:
        return [mul(x, y)]

    net = lambda c, x, y: choose(c, lambda: then(x, y), lambda: [x], lambda a, _: x.shape)  # noqa: E731
    found = assembled(net, "bool[]", "f32[n]", "f32[n]")
    assert found.mid_run_plans == []
    other = assembled(
        lambda c, x, y: choose(c, lambda: [view(then(x, y)[0], x.shape, lambda i: (i,))], lambda: [x], lambda a, _: x.shape),
        *("bool[]", "f32[n]", "f32[m]"),
    )
    (plan,) = other.mid_run_plans
    assert [test.zero for test in plan.tests].count(True) == 1, "n and m are equal; the others say that reads stay inside"


def test_each_call_of_a_timed_program_waits_and_has_a_slot_of_its_own() -> None:
    """Beside the conditions of a branch, which are numbered with the calls, and apart from all slots of other kinds."""

    def net(c: Tensor, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        return choose(c, lambda: [view(mul(x, y), x.shape, lambda i: (i,))], lambda: [x], lambda a, _: x.shape)

    spec = assembled(net, "bool[]", "f32[n]", "f32[m]", timed=True).spec
    rows = [row for segment in spec.segments for row in segment.steps if row[0] >= 0 and row[3]]
    slots = [ticks for *_, ticks in rows]
    assert rows
    assert all(how & 1 for _, _, how, _ in rows)
    assert len(set(slots)) == len(slots)
    assert set(slots) <= set(range(spec.ticks, spec.ticks + len(spec.calls)))
    others = {slot for slot, _ in (*spec.fixed, *spec.constants)} | {s.arena_slot for s in spec.segments} | {r[1] for r in rows}
    assert set(range(spec.ticks, spec.ticks + len(spec.calls))).isdisjoint(others | {port.slot for port in spec.inputs})


def test_requirements_of_what_is_not_in_the_program_are_none() -> None:
    """A branch whose results nobody reads asks for nothing."""

    def net(c: Tensor, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        choose(c, lambda: [mul(x, y)], lambda: [x], lambda a, _: x.shape)
        return [add(x, x)]

    assert assembled(net, "bool[]", "f32[n]", "f32[m]").mid_run_plans == []


def test_memory_is_reserved_for_the_largest_iteration() -> None:
    """An inner buffer of t + 1 elements takes n of them, whatever t."""

    def net(x: Tensor, h: Tensor) -> Sequence[Tensor]:
        def step(t: Dim, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            (part,), _ = scan(2, [view(x, [t + 1], lambda i: (i,))], lambda u, p: ([add(p, p)], []))
            return [add(s, summed(part, t + 1))], []

        return scan(x.shape[0], [h], step)[0]

    program = compiled(net, "f32[n]", "f32[]")
    for n in (1, 2, 5, 40):
        program.check(reals(n), reals())
    (segment,) = program.lowered.segments
    for size in segment.sizes.values():
        assert all(s.extent is None for s in (size.symbols if not isinstance(size, int) else ())), size


def test_scratch_is_reserved_for_the_largest_iteration() -> None:
    """Rows of t + 1 columns in a thread's scratch."""

    def net(x: Tensor, h: Tensor) -> Sequence[Tensor]:
        def step(t: Dim, s: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            part = compute(x.dtype, [x.shape[0], t + 1], lambda i, j: Read(x, (i, j)))
            return [add(s, linalg.matmul(part, view(x, [t + 1, x.shape[0]], lambda i, j: (j, i))))], []

        return scan(3, [h], step)[0]

    program = compiled(net, "f32[m, 3]", "f32[m, m]")
    for m in (1, 4, 17):
        program.check(reals(m, 3), reals(m, m), tolerance=1e-5)


def test_the_largest_of_a_thousand_sizes() -> None:
    """No formula is so deep that Python's stack ends."""
    sizes: list[Dim] = [symbol(f"n{i}") for i in range(2000)]
    found = largest([*sizes, 3, 5])
    assert evaluate(found, lambda s: 1) == 5
    assert evaluate(found, lambda s: 7 if s.name == "n1234" else 0) == 7
    assert largest([]) == 0
    assert largest([4, 9, 4]) == 9
