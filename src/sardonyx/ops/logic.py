"""Elementwise comparisons, logical and bitwise operators; Where."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from sardonyx.base.dtypes import boolean
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr import scalar
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.math import SPECIAL, binary
from sardonyx.ops.pointwise import lifted, pointwise
from sardonyx.ops.record import Case, Op, Rule


def comparison(fn: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the operator that compares two tensors by this function of the loop IR. a: T[*d], b: T[*e] -> bool, broadcast"""

    def on_tensors(a: Tensor, b: Tensor) -> Tensor:
        if not a.dtype.is_number:
            raise Unsupported(f"comparison of {a.dtype}")
        return pointwise(functools.partial(scalar.apply, fn), a, b, dtype=boolean)

    return on_tensors


def invert(x: Expr) -> Expr:
    return scalar.apply("not", x)


def bit_shift(x: Tensor, y: Tensor, direction: str) -> Tensor:
    """Compute BitShift: x shifted by y bits to the "LEFT" or the "RIGHT". x: T[*d], y: T[*e] -> T, broadcast

    If y is at least the width of T, or negative, the result is 0; a right shift of a negative signed x then gives -1.
    """
    if direction not in ("LEFT", "RIGHT"):
        raise Fail(f"direction must be LEFT or RIGHT, not {direction}")
    return pointwise(functools.partial(scalar.apply, "shl") if direction == "LEFT" else shift_right, x, y)


def shift_right(x: Expr, y: Expr) -> Expr:
    """Shift x right by y bits. For signed x a shift of y < 0 or y >= width fills the result with the sign bit."""
    if x.dtype.kind == "uint":
        return scalar.apply("shr", x, y)
    width = scalar.literal(x.dtype.bits - 1, x.dtype)
    inside = scalar.apply("and", scalar.apply("ge", y, 0), scalar.apply("le", y, width))
    return scalar.apply("shr", x, scalar.select(inside, y, width))


def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Compute Where: x where the condition is true, else y. condition: bool[*c], x: T[*d], y: T[*e] -> T, broadcast"""
    return pointwise(scalar.select, condition, x, y, dtype=x.dtype)


def logic(name: str, fn: str, since: int) -> Op:
    truth = np.array([[True, False, True], [False, False, True]])
    cases = (Case((truth, ~truth[:, ::-1])), Case((truth, truth[:1])), Case((truth, np.array([[True], [False]]))))
    return Op(name, since=since, lower=binary(fn), cases=cases, gradient=Rule.NONE)


def bits(name: str, fn: str) -> Op:
    cases = tuple(
        Case((integers(2, 5, dtype=t, lo=0, hi=120), integers(5, dtype=t, lo=3, hi=77))) for t in (np.uint8, np.int32, np.int64)
    )
    return Op(name, since=18, lower=binary(fn), cases=cases, gradient=Rule.NONE)


def compare(name: str, fn: str, since: int) -> Op:
    cases = (
        Case((SPECIAL, SPECIAL[::-1].copy())),
        Case((reals(2, 3, dtype=np.float16), reals(3, dtype=np.float16))),
        Case((integers(2, 3, lo=0, hi=2, dtype=np.uint8), integers(2, 1, lo=0, hi=2, dtype=np.uint8))),
        Case((integers(3), integers(2, 3, lo=-3, hi=3))),
    )
    return Op(name, since=since, lower=comparison(fn), cases=cases, gradient=Rule.NONE)


TRUTH = np.array([[True, False, True], [False, True, False]])
SHIFTS = tuple(
    Case((integers(9, dtype=t, lo=1), np.arange(9).astype(t)), {"direction": d})
    for t in (np.uint8, np.uint64)
    for d in ("LEFT", "RIGHT")
)
OPS = (
    compare("Equal", "eq", 7),
    compare("Greater", "gt", 7),
    compare("Less", "lt", 7),
    compare("GreaterOrEqual", "ge", 12),
    compare("LessOrEqual", "le", 12),
    logic("And", "and", 7),
    logic("Or", "or", 7),
    logic("Xor", "xor", 7),
    Op("Not", since=1, lower=lifted(invert), cases=(Case((TRUTH,)),), gradient=Rule.NONE),
    bits("BitwiseAnd", "and"),
    bits("BitwiseOr", "or"),
    bits("BitwiseXor", "xor"),
    Op(
        "BitwiseNot",
        since=18,
        lower=lifted(invert),
        cases=(Case((integers(7),)), Case((integers(7, lo=0, dtype=np.uint8),))),
        gradient=Rule.NONE,
    ),
    Op("BitShift", since=11, lower=bit_shift, cases=SHIFTS, gradient=Rule.NONE),
    Op(
        "Where",
        since=9,
        lower=where,
        cases=(
            Case((TRUTH, reals(2, 3), reals(3))),
            Case((TRUTH[:, :1], integers(2, 3), integers(2, 3) + 50)),
            Case((np.array(True), np.float32(np.nan), reals(3))),
            Case((TRUTH[:0], reals(3), reals(1, 1))),
        ),
    ),
)
