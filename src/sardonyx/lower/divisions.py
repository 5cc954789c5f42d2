"""Replace divisions before a rounding to narrow integers by multiplications, which take a fraction of the time.

    i8(rint(x / c) + z)    becomes, with y = 1 / c rounded to f32,

    q = x y,   q' = q + y (x - c q),   q'' = q' + y (x - c q'),   i8(rint(|q| < LARGE ? q'' : q) + z)

1. q is off by less than two units in the last place, q' by less than one, and q'' is x / c correctly rounded (Markstein, "Computation
   of elementary functions on the IBM RISC System/6000 processor", 1990). x - c q is exact, since it is a fused multiply-add.
2. That fails for infinities, where q is taken, and for quotients beyond LARGE or below the normal numbers, which may be off by one unit:
   their result is the limit of the integers, or z, all the same. So the rule stands only where an integer of at most 16 bits is made.
3. The quotient may also be multiplied by an integer: i8(rint(f32(n) (x / c)) + z).

The divisor must be a literal. Division by a power of two is a product already. Nothing changes without fused multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from sardonyx.base.dtypes import f32
from sardonyx.loop.nodes import Cast, Const, Expr, Op, Select
from sardonyx.loop.rewrite import rewrite
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Value

MOST_BITS = 16
LARGE = 2.0**60
"""Quotients up to which q'' is taken. Those from 2^24 on are beyond all integers of 16 bits."""
LEAST_DIVISOR, MOST_DIVISOR = 2.0**-40, 2.0**40
"""Divisors for which no intermediate result leaves the range of f32."""


def multiply_by_reciprocals(values: Iterable[Value], machine: Machine) -> None:
    """Apply the rule to the bodies of these values."""
    memo: dict[Expr, Expr] = {}
    for v in values:
        if machine.fma and v.body is not None:
            v.body = rewrite(v.body, to_integer, memo)


def to_integer(e: Expr) -> Expr:
    """Rewrite what a cast to a narrow integer converts."""
    if not isinstance(e, Cast) or not e.dtype.is_integer or e.dtype.bits > MOST_BITS or e.args[0].dtype is not f32:
        return e
    inner = limited(e.args[0])
    return e if inner is e.args[0] else Cast(inner, e.dtype)


def limited(e: Expr) -> Expr:
    """Rewrite the rounded number inside limits and a zero point."""
    if not isinstance(e, Op):
        return e
    if e.fn == "rint":
        return rebuilt(e, quotient(e.args[0]))
    if (e.fn in ("min", "max") and isinstance(e.args[1], Const)) or (e.fn == "add" and is_narrow(e.args[1])):
        return rebuilt(e, limited(e.args[0]))
    return e


def rebuilt(e: Op, first: Expr) -> Expr:
    """Return e with another first argument."""
    return e if first is e.args[0] else Op(e.fn, first, *e.args[1:])


def is_narrow(e: Expr) -> bool:
    """Tell whether e is converted from an integer of at most MOST_BITS."""
    return isinstance(e, Cast) and e.args[0].dtype.is_integer and e.args[0].dtype.bits <= MOST_BITS


def quotient(e: Expr) -> Expr:
    """Rewrite e if it is a quotient, or a product with one."""
    if isinstance(e, Op) and e.fn == "mul" and is_whole(e.args[0]):
        factor = divided(e.args[1])
        return e if factor is e.args[1] else Op("mul", e.args[0], factor)
    return divided(e)


def is_whole(e: Expr) -> bool:
    """Tell whether e is converted from an integer: 0, or at least 1."""
    return isinstance(e, Cast) and e.args[0].dtype.is_integer


def divided(e: Expr) -> Expr:
    """Return x / c by multiplications; e itself if it is no division by such a literal."""
    if not isinstance(e, Op) or e.fn != "div":
        return e
    x, divisor = e.args
    if not isinstance(divisor, Const):
        return e
    number = float(divisor.value)
    if not LEAST_DIVISOR <= abs(number) <= MOST_DIVISOR or math.frexp(number)[0] in (0.5, -0.5):
        return e
    y, minus = Const(float(np.float32(1) / np.float32(number)), f32), Const(-number, f32)
    q = Op("mul", x, y)
    better = q
    for _ in range(2):
        better = Op("fma", y, Op("fma", minus, better, x), better)
    return Select(Op("lt", Op("abs", q), Const(LARGE, f32)), better, q)
