"""The check of what lowering has made: each fault is found, and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen import features
from sardonyx.expr.known import DataSymbol, elements
from sardonyx.expr.region import scan
from sardonyx.expr.tensor import Tensor
from sardonyx.lower import lowered
from sardonyx.lower.lowered import Lowered, lower
from sardonyx.lower.schedule import Call, Repeat, calls
from sardonyx.lower.verify import LoweringError, verify
from sardonyx.ops.pointwise import add, view
from tests.lower.harness import compiled, machine_for, parse, reals


def program() -> Lowered:
    """A sum, a loop over its rows of a number of iterations that is fed, and a sum with its final state."""
    n, x, h = parse("i64[1]", "n"), parse("f32[m, k]", "x"), parse("f32[k]", "h")
    y = add(x, x)
    count = add(n, n)
    (final,), _ = scan(elements(count)[0], [h], lambda t, s: ([add(s, view(y, [y.shape[1]], lambda i: (t, i)))], []))
    return lower([n, x, h], [add(final, h), y], machine_for(features.host()))[0]


def check(p: Lowered) -> None:
    verify(p.inputs, p.constants, p.readbacks, p.segments)


def loop(p: Lowered) -> Repeat:
    (found,) = [s for segment in p.segments for s in segment.steps if isinstance(s, Repeat)]
    return found


def test_what_is_whole_passes() -> None:
    check(program())


def test_a_step_that_comes_too_early() -> None:
    p = program()
    p.segments[0].steps.clear()
    with pytest.raises(LoweringError, match="which nothing has written by then"):
        check(p)


def test_a_loop_whose_state_does_not_begin() -> None:
    p = program()
    (halves,) = loop(p).states
    for segment in p.segments:
        segment.steps[:] = [s for s in segment.steps if isinstance(s, Repeat) or halves not in s.writes]
    with pytest.raises(LoweringError, match=f"reads {halves.name}".replace(".", r"\.")):
        check(p)


def test_a_loop_that_is_in_no_segment() -> None:
    p = program()
    for segment in p.segments:
        segment.steps[:] = [s for s in segment.steps if isinstance(s, Call)]
    check_fails = pytest.raises(LoweringError)
    done = [s for c in calls(p.segments[-1].steps) for s in c.sizes]
    assert done
    p.readbacks.clear()
    with check_fails:
        check(p)


@pytest.mark.parametrize("where", ["call", "trip", "memory"])
def test_a_size_that_nobody_knows(where: str) -> None:
    p = program()
    strange = value(Symbol("strange"))
    if where == "call":
        first = p.segments[0].steps[0]
        assert isinstance(first, Call)
        first.sizes = [strange]
    elif where == "trip":
        found = loop(p)
        found.region = replace(found.region, trip=strange)
    else:
        p.segments[0].arena = strange
    with pytest.raises(LoweringError, match="needs the size strange, but strange is not known by then"):
        check(p)


def test_the_iteration_of_a_loop_is_not_known_outside() -> None:
    p = program()
    last = p.segments[-1].steps[-1]
    assert isinstance(last, Call)
    last.sizes = [*last.sizes, value(loop(p).region.step)]
    with pytest.raises(LoweringError, match="is not known by then"):
        check(p)


def test_a_size_from_data_is_known_once_its_segment_is_over() -> None:
    p = program()
    (readback,) = p.readbacks
    assert isinstance(readback, DataSymbol)
    first = p.segments[0].steps[0]
    assert isinstance(first, Call)
    first.sizes = [*first.sizes, value(readback)]
    with pytest.raises(LoweringError, match="is not known by then"):
        check(p)


def test_every_program_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in another order than lowering gives them never become a program."""
    whole = lowered.in_regions
    backwards: Callable[..., list] = lambda items, path, values: whole(items, path, values)[::-1]  # noqa: E731
    monkeypatch.setattr(lowered, "in_regions", backwards)

    def net(x: Tensor) -> Tensor:
        (final,), _ = scan(3, [x], lambda t, s: ([add(s, s)], []))
        return add(final, x)

    with pytest.raises((LoweringError, Fail), match="written by then"):
        compiled(net, "f32[n]")
    monkeypatch.undo()
    compiled(net, "f32[n]").check(reals(3))
