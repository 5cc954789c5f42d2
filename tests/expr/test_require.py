"""Requirements, and what may be relied upon because of them."""

from __future__ import annotations

import pytest

from sardonyx.base.dtypes import i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, maximum, named, symbol
from sardonyx.expr import require, scalar
from sardonyx.expr.known import known
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import compute

N, M = symbol("n"), symbol("m")


def test_what_is_known_is_decided_at_once() -> None:
    with require.collect() as found:
        require.require_equal(N + 1, N + 1, "")
        require.require_nonnegative(N, "")
        with pytest.raises(Fail, match=r"\[ShapeInferenceError\] no"):
            require.require_equal(3, 4, "no")
        with pytest.raises(Fail, match=r"\[ShapeInferenceError\] no"):
            require.require_nonnegative(-1, "no")
    assert found == []


def test_the_rest_is_left_to_the_run() -> None:
    with require.collect() as found:
        require.require_equal(N, M, "a")
        require.require_nonnegative(N - 3, "b")
    assert [(r.dim, r.relation) for r in found] == [(N - M, "zero"), (N - 3, "nonnegative")]


@pytest.mark.parametrize("e", [N - 3, 2 * N - 6])
def test_what_is_required_holds(e: Dim) -> None:
    with require.collect():
        assert not require.is_required_nonnegative(e)
        assert require.not_below_zero(e) == maximum(e, 0)
        require.require_nonnegative(N - 3, "")
        assert require.is_required_nonnegative(e)
        assert require.not_below_zero(e) is e
    assert not require.is_required_nonnegative(e)


def test_defined_sizes_are_seen_through() -> None:
    half = named(N // 2)
    with require.collect():
        require.require_nonnegative(half - 1, "")
        assert require.is_required_nonnegative(N // 2 - 1)
        assert not require.is_required_nonnegative(N // 2 - 2)


def test_one_formula_has_one_name() -> None:
    inner = named(N // 2)
    assert named(1 + (inner - 1) // 2) == named(1 + (N // 2 - 1) // 2)
    assert named(2 + (N // 2) * 2) == 2 * named(1 + N // 2)


def test_quotients_of_quotients() -> None:
    assert (N // 2) // 8 == N // 16
    assert ((N - 1) // 2) // 3 == (N - 1) // 6
    assert (N // 2) % 8 + 8 * (N // 16) == N // 2


def test_integer_division_of_sizes_needs_to_know_the_sign() -> None:
    def halved() -> Dim | None:
        t = compute(i64, (), lambda: scalar.div(scalar.index(N - 1), 2))
        found = known(t)
        return None if found is None else found.item()

    with require.collect():
        assert halved() is None
        require.require_nonnegative(N - 1, "")
        assert halved() == (N - 1) // 2


def try_in_vain() -> None:
    with require.tentative():
        require.require_equal(N, M, "tried")
        require.require_nonnegative(N - 3, "tried")
        raise Fail("in vain")


def test_what_was_tried_in_vain_is_forgotten_whole() -> None:
    """Also that it was stated: the next to state it is not taken for the second."""
    with require.collect() as found:
        require.require_nonnegative(N - 1, "kept")
        with pytest.raises(Fail, match="in vain"):
            try_in_vain()
        assert [r.text for r in found] == ["kept"]
        assert not require.is_required_nonnegative(N - 3)
        require.require_equal(N, M, "meant")
        require.require_nonnegative(N - 3, "meant")
        require.require_nonnegative(N - 1, "again")
    assert [r.text for r in found] == ["kept", "meant", "meant"]


# ---- messages ---------------------------------------------------------------------------------------------------------------


def test_a_message_has_a_field_for_each_size_of_the_run() -> None:
    with origin("a {node}", "Add"), require.collect() as found:
        require.require_equal(N, M, "{} of {}: {} {}", [N, 3, M], N, 5, "{as it is}")
    (r,) = found
    assert r.text.format(*("n", "m")[: len(r.values)]) == "[n, 3, m] of n: 5 {as it is}"
    assert r.values == (N, M)
    assert r.title == "Add node 'a {node}'"


@pytest.mark.parametrize(
    ("size", "shown"), [(N, "n"), (3, "3"), (named(N // 2), "?"), (N + 1, "?"), (maximum(N, M), "?"), (named((N * M) // 7), "?")]
)
def test_before_a_run_a_size_is_shown_by_its_name(size: Dim, shown: str) -> None:
    """And one that has none not by what the compiler knows it by."""
    with pytest.raises(Fail, match=rf"a size of {shown.replace('?', '[?]')}, \[{shown.replace('?', '[?]')}\]$"):
        require.require_equal(3, 4, "a size of {}, {}", size, (size,))
