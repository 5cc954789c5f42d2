"""Arithmetic written by hand: Python's operators on loop expressions, with numbers of the other operand's dtype."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sardonyx.base.dtypes import f32, f64, i32, i64, u8
from sardonyx.loop.nodes import Bitcast, Buffer, Cast, Const, Load, Op, Select
from sardonyx.loop.values import Value, constant, fma, horner, op, operands, where
from tests.loop.evaluation import compute

X, Y = Value(Load(Buffer("x", f32), 0)), Value(Load(Buffer("y", f32), 0))
ARITHMETIC: list[tuple[Callable[[Any, Any], Any], str]] = [
    (operator.add, "add"),
    (operator.sub, "sub"),
    (operator.mul, "mul"),
    (operator.truediv, "div"),
]
COMPARISONS: list[tuple[Callable[[Any, Any], Any], str]] = [
    *((operator.lt, "lt"), (operator.le, "le"), (operator.gt, "gt")),
    *((operator.ge, "ge"), (operator.eq, "eq"), (operator.ne, "ne")),
]


@pytest.mark.parametrize(("apply", "fn"), [*ARITHMETIC, *COMPARISONS, (operator.mod, "mod")])
def test_an_operator_is_one_node(apply: Callable[[Any, Any], Any], fn: str) -> None:
    assert apply(X, Y).expr is Op(fn, X.expr, Y.expr)
    assert apply(X, 2).expr is Op(fn, X.expr, Const(2, f32))


@pytest.mark.parametrize(("apply", "fn"), ARITHMETIC)
def test_a_number_on_the_left_stays_on_the_left(apply: Callable[[Any, Any], Any], fn: str) -> None:
    assert apply(3, X).expr is Op(fn, Const(3, f32), X.expr)


def test_bits_and_shifts() -> None:
    n = Value(Load(Buffer("n", i32), 0))
    for apply, fn in (
        (operator.and_, "and"),
        (operator.or_, "or"),
        (operator.xor, "xor"),
        (operator.lshift, "shl"),
        (operator.rshift, "shr"),
    ):
        assert apply(n, 5).expr is Op(fn, n.expr, Const(5, i32))
    assert (~n).expr is Op("not", n.expr)
    assert (-n).expr is Op("neg", n.expr)
    assert abs(n).expr is Op("abs", n.expr)


def test_casting_to_the_same_dtype_does_nothing() -> None:
    assert X.cast(f32) is X
    assert X.bits(f32) is X
    assert X.cast(f64).expr is Cast(X.expr, f64)
    assert X.bits(i32).expr is Bitcast(X.expr, i32)


def test_where_takes_numbers_of_the_other_sides_dtype() -> None:
    chosen = where(X < 0, 0, X)
    assert chosen.expr is Select(Op("lt", X.expr, Const(0, f32)), Const(0, f32), X.expr)


def test_mixed_dtypes_and_numbers_alone_are_refused() -> None:
    with pytest.raises(TypeError):
        X + Value(Load(Buffer("d", f64), 0))
    with pytest.raises(TypeError, match="no dtype"):
        operands(1, 2.0)
    with pytest.raises(TypeError):
        where(X < 0, 1, 2)


def test_a_value_has_no_truth_and_no_hash() -> None:
    """`if x < 0:` would silently take one side; a set would compare by identity."""
    with pytest.raises(TypeError, match="not known before the run"):
        bool(X < 0)
    with pytest.raises(TypeError, match="unhashable"):
        hash(X)


def test_constants_are_of_the_dtype() -> None:
    assert constant(300, u8).expr is Const(44, u8)
    assert op("max", constant(1, i64), 2).dtype is i64


def test_polynomials_and_fma() -> None:
    x = np.linspace(-2, 2, 41, dtype=np.float64)
    got = compute(lambda v: horner(v, [2.0, -3.0, 0.5, 1.0]), x)
    np.testing.assert_allclose(got, ((2 * x - 3) * x + 0.5) * x + 1, rtol=1e-15, atol=1e-15)
    tiny = np.array([2.0**-52], np.float64)
    np.testing.assert_array_equal(compute(lambda v: fma(v + 1, v + 1, -1.0), tiny), [2.0**-51 + 2.0**-104])
