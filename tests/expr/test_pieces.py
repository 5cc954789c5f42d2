"""Piecewise expressions: what they mean, which indices decide, and what is left once these are known."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import boolean, f32
from sardonyx.base.symbolic import Symbol, symbol, value
from sardonyx.expr import scalar
from sardonyx.expr.evaluate import evaluate
from sardonyx.expr.pieces import COMPARISONS, deciding, piecewise, settle
from sardonyx.expr.tensor import Read, compute, input_tensor
from sardonyx.loop.nodes import Const, Expr, Index, Op, Select, replace, walk

SHORT, LONG = Symbol("i", 4), Symbol("j", 12)
i, j = value(SHORT), value(LONG)
X = input_tensor("x", f32, [16])


def cases(n: int) -> list[Expr]:
    return [Read(X, (a,)) for a in range(n)]


# ---- piecewise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_arm_of_each_index(n: int) -> None:
    x = np.arange(16, dtype=np.float32)
    y = compute(f32, [16], lambda a: piecewise(a % n, [scalar.mul(Read(X, (a,)), k + 1) for k in range(n)]))
    (got,) = evaluate([y], {X: x}, {})
    np.testing.assert_array_equal(got, x * (np.arange(16) % n + 1))


def test_one_arm_is_itself() -> None:
    (only,) = cases(1)
    assert piecewise(i, [only]) is only
    assert deciding(piecewise(i, [only])) == ()


# ---- deciding ---------------------------------------------------------------------------------------------------------------


def test_what_decides() -> None:
    assert deciding(piecewise(i, cases(4))) == (i,)
    assert deciding(piecewise(j % 4, cases(4))) == (j % 4,)
    assert {*deciding(piecewise(i, [piecewise(j % 2, cases(2)), *cases(3)]))} == {i, j % 2}
    assert deciding(scalar.maximum(scalar.add(piecewise(i, cases(2)), 1), 0)) == (i,), "inside an expression"


def test_what_does_not() -> None:
    assert deciding(None) == ()
    assert deciding(cases(1)[0]) == ()
    assert deciding(piecewise(2, cases(4))) == (), "known"
    a, b = cases(2)
    by_order, by_size, by_data = Op("lt", Index(i), Index(2)), Op("eq", Index(i), Index(symbol("n"))), Op("eq", a, b)
    for condition in (by_order, by_size, by_data):
        assert deciding(Select(condition, a, b)) == ()
    assert deciding(Op("eq", Index(i), Index(2))) == (), "decides between no cases"


# ---- settle -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(4))
def test_one_arm_is_left(at: int) -> None:
    settled = settle(replace(piecewise(i, cases(4)), {SHORT: at}))
    assert settled == cases(4)[at]


def test_arms_within_arms_and_around() -> None:
    both = piecewise(i, [piecewise(j % 2, cases(2)), *cases(3)])
    assert settle(replace(both, {SHORT: 0, LONG: 5})) == cases(2)[1]
    assert deciding(settle(replace(both, {SHORT: 0}))) == (j % 2,)
    assert settle(replace(both, {SHORT: 3})) == cases(3)[2]
    assert settle(replace(scalar.add(both, 1), {SHORT: 3})) == scalar.add(cases(3)[2], 1)


def test_a_split_index_is_known_by_its_remainder() -> None:
    """j = 4 q + r: the cases of j % 4 are those of r."""
    q, r = Symbol("q", 3), Symbol("r", 4)
    body = replace(piecewise(j % 4, cases(4)), {LONG: value(q) * 4 + value(r)})
    assert deciding(body) == (value(r),)
    for at in range(4):
        assert settle(replace(body, {r: at})) == cases(4)[at]


@pytest.mark.parametrize("fn", COMPARISONS)
@pytest.mark.parametrize("pair", [(1, 2), (2, 2), (3, 2)])
def test_comparisons_of_numbers(pair: tuple[int, int], fn: str) -> None:
    a, b = cases(2)
    wanted = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
    assert settle(Select(Op(fn, Index(pair[0]), Index(pair[1])), a, b)) is (a if wanted[fn](*pair) else b)


def test_bounds_that_hold_by_extents_alone() -> None:
    read = Read(X, (i,), Op("lt", Index(i), Index(4)))
    assert settle(read) == Read(X, (i,))
    n = symbol("n")
    inside = Symbol("k", n)
    assert settle(Read(X, (value(inside),), Op("lt", Index(value(inside)), Index(n)))) == Read(X, (value(inside),))


def test_bounds_that_may_not_hold_stay() -> None:
    for index, bound in ((i, 3), (i + 1, 4), (j, symbol("n")), (i - 5, 0)):
        read = Read(X, (i,), Op("lt", Index(index), Index(bound)))
        left = settle(read)
        assert left == read or (isinstance(left, Read) and left.guard is None and (index, bound) == (i - 5, 0))
    for fn in ("eq", "ne", "le", "gt", "ge"):
        unsure = Op(fn, Index(i), Index(2))
        assert settle(unsure) == unsure


def test_a_guard_that_fails_keeps_its_zero() -> None:
    """Nothing is read there: the read must not become a plain one."""
    left = settle(Read(X, (i,), Op("lt", Index(5), Index(4))))
    assert not isinstance(left, Read) or (isinstance(left.guard, Const) and not left.guard.value)


def test_comparisons_of_data_are_left_alone() -> None:
    a, b = cases(2)
    kept = Select(Op("lt", a, b), a, b)
    assert settle(kept) == kept
    assert settle(Select(Const(True, boolean), a, b)) is a
    assert settle(Select(Const(False, boolean), a, b)) is b
    assert all(n.dtype is not boolean for n in walk(settle(replace(piecewise(i, cases(4)), {SHORT: 1}))))
