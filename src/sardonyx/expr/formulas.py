"""One operation of shape arithmetic, by the rules of its element type, on numbers and on formulas.

A number means what `loop.semantics` says: i8 wraps, f32 rounds. A formula is exact, so it stands for an element only where the
element is exact too; else `Unknown` is raised, and the element is computed when the model runs:

    i64         an Int, as it is
    i32         an Int that stays within 32 bits: a requirement, checked before each run with new sizes
    f32, f64    an Int or a Ratio whose numerator has so few bits that nothing is rounded: a requirement too
    all others  never a formula
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sardonyx.base.dtypes import DType, boolean, f32, f64, i32, i64
from sardonyx.base.symbolic import Dim, Int, ceil_divide, is_nonnegative, largest, maximum, minimum, primitive, symbols
from sardonyx.expr import decide
from sardonyx.expr.decide import Relation
from sardonyx.expr.require import is_required_nonnegative, require_nonnegative
from sardonyx.loop import semantics


class Unknown(Exception):
    """This element is not shape arithmetic."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A float that is exactly numerator / denominator, or what one division of exact floats makes of that; denominator > 1.

    The second only where the denominator is no power of two. Rounding it down, up or towards zero still gives the exact result: for
    numbers below 2^24 (2^53 in f64) a quotient is never rounded onto the next whole number.
    """

    numerator: Int
    denominator: int


Number: TypeAlias = int | float | bool | Int | Ratio

BITS: Mapping[DType, int] = {f32: 24, f64: 53}
"""Of a float's significand: whole numbers up to 2^bits are exact."""
MOST_FACTOR = 8
"""A size times an odd number above this one soon has more bits than a float: it is computed when the model runs."""


def operate(fn: str, dtype: DType, args: Sequence[Number]) -> Number:
    """fn of loop.nodes.OPS on elements of this dtype. Raises Unknown for functions (exp, ...), and where data decide."""
    if not any(isinstance(a, (Int, Ratio)) for a in args):
        return on_numbers(fn, dtype, args)
    if dtype in (i64, i32):
        rule = INTEGERS.get(fn)
        dims = [a for a in args if isinstance(a, (int, Int))]
        if rule is None or len(dims) < len(args):
            raise Unknown
        return fitting(rule(*dims), dtype)
    if dtype not in BITS or fn not in FLOATS:
        raise Unknown
    return exact(FLOATS[fn](*map(ratio, args)), dtype)


def convert(x: Number, source: DType, to: DType) -> Number:
    """x as `to`, by ONNX's Cast."""
    if not isinstance(x, (Int, Ratio)):
        return number(semantics.cast(array(x, source), source, to))
    if to is boolean:
        return unequal(x, 0) if isinstance(x, Int) else _unknown()
    if to in (i64, i32):
        whole = truncated(*ratio(x)) if source.is_float else (x, 1)
        return fitting(whole[0], to)
    return exact(ratio(x), to)


def reduced(fn: str, dtype: DType, terms: Sequence[Number]) -> Number:
    """fn over all terms, one after the other."""
    total: Number = number(semantics.neutral(fn, dtype))
    for place, term in enumerate(terms):
        total = operate(fn, dtype, (total, term)) if place else term
    return total


def _unknown() -> Number:
    raise Unknown


# ---- numbers ------------------------------------------------------------------------------------------------------------


def on_numbers(fn: str, dtype: DType, args: Sequence[Number]) -> Number:
    if fn not in semantics.FN:
        raise Unknown
    if dtype is i64 and fn in ("add", "sub", "mul") and abs(quick := INTEGERS[fn](*args)) < 1 << 63:  # type: ignore[arg-type]
        return quick
    return number(semantics.apply(fn, *(array(a, dtype) for a in args)))


def array(x: Number, dtype: DType) -> semantics.Array:
    try:
        return np.array(x, dtype.numpy)
    except OverflowError:
        raise Unknown from None


def number(x: semantics.Array) -> int | float | bool:
    """The only element, as Python's own number."""
    if x.dtype.kind == "b":
        return bool(x)
    return int(x) if x.dtype.kind in "iu" or "int" in x.dtype.name else float(x)


# ---- formulas that stand for integers -----------------------------------------------------------------------------------


def fitting(x: Number, dtype: DType) -> Number:
    """x, which must fit dtype in each run."""
    if isinstance(x, Int) and dtype is i32:
        within(x, -(1 << 31), (1 << 31) - 1, dtype)
    elif not isinstance(x, (Int, bool)):
        return number(array(x, dtype))
    return x


def within(x: Int, least: int, most: int, dtype: DType) -> None:
    """Requires least <= x <= most, at all turns of the loops in x. Raises Unknown where their ranges don't tell."""
    low, high = x, x
    if any(s.extent is not None for s in symbols(x)):
        top = largest(x)
        if top is None:
            raise Unknown
        low, high = 0, top  # type: ignore[assignment]
    message = f"a size that the model computes in {dtype} does not fit there"
    for margin in (most - high, low - least):
        if not isinstance(margin, Int) and margin < 0:
            raise Unknown
        require_nonnegative(margin, message)


def divide(a: Dim, b: Dim) -> Dim:
    """Integer division towards zero; of formulas only where both are known (or required) not to be negative."""
    if not is_required_nonnegative(a) or not is_required_nonnegative(b - 1):
        raise Unknown
    return a // b


def remainder(a: Dim, b: Dim) -> Dim:
    return a - divide(a, b) * b


def absolute(a: Dim) -> Dim:
    if is_nonnegative(a):
        return a
    return -a if is_nonnegative(-a) else maximum(a, -a)


def compare(certain: Callable[[Dim], bool | None], relation: Relation, truth: bool) -> Callable[[Dim, Dim], bool]:
    """The comparison whose result is `truth` if a - b is in the relation to zero. certain: is it? None where sizes decide."""

    def rule(a: Dim, b: Dim) -> bool:
        answer = certain(a - b)
        if answer is None and decide.is_asking():
            answer = decide.ask(a - b, relation)
        if answer is None:
            raise Unknown
        return answer is truth

    return rule


def less(d: Dim) -> bool | None:
    """Is d < 0?"""
    if is_nonnegative(d):
        return False
    return True if is_nonnegative(-1 - d) else None


def at_most(d: Dim) -> bool | None:
    """Is d <= 0?"""
    if is_nonnegative(-d):
        return True
    return False if is_nonnegative(d - 1) else None


def same(d: Dim) -> bool | None:
    """Is d == 0?"""
    if not isinstance(d, Int):
        return d == 0
    return False if is_nonnegative(d - 1) or is_nonnegative(-1 - d) else None


unequal = compare(same, "==", False)

COMPARISONS: Mapping[str, Callable[[Dim, Dim], bool]] = {
    "eq": compare(same, "==", True),
    "ne": unequal,
    "lt": compare(less, "<", True),
    "ge": compare(less, "<", False),
    "le": compare(at_most, "<=", True),
    "gt": compare(at_most, "<=", False),
}

INTEGERS: Mapping[str, Callable[..., Dim | bool]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": divide,
    "rem": remainder,
    "mod": remainder,
    "min": minimum,
    "max": maximum,
    "neg": lambda a: -a,
    "abs": absolute,
    **COMPARISONS,
}


# ---- formulas that stand for floats -------------------------------------------------------------------------------------

Pair: TypeAlias = tuple[Dim, int]
"""numerator, denominator > 0"""


def ratio(x: Number) -> Pair:
    """x as numerator and denominator. Raises Unknown for infinity and NaN."""
    if isinstance(x, Ratio):
        return x.numerator, x.denominator
    if isinstance(x, (int, Int)):
        return x, 1
    return x.as_integer_ratio() if math.isfinite(x) else _no_pair()


def _no_pair() -> Pair:
    raise Unknown


def exact(x: Pair | bool, dtype: DType) -> Number:
    """x as an element of this dtype that is not rounded, which is required of its sizes. Raises Unknown for other dtypes."""
    if isinstance(x, bool):
        return x
    if dtype not in BITS:
        raise Unknown
    top, below = x
    if not isinstance(top, Int):
        return number(array(top / below, dtype))
    common = math.gcd(primitive(top)[0], below)
    top, below = Int({m: c // common for m, c in top.terms.items()}), below // common
    factor, rest = primitive(top)
    odd = factor // (factor & -factor)
    if odd > MOST_FACTOR or below > 1 << (BITS[dtype] // 2):
        raise Unknown
    most = ((1 << BITS[dtype]) - 1) // odd
    within(rest, -most, most, dtype)
    return top if below == 1 else Ratio(top, below)


def is_power_of_two(n: int) -> bool:
    return n & (n - 1) == 0


def unrounded(*pairs: Pair) -> None:
    """Raises Unknown if one of these floats is a quotient that may have been rounded."""
    if not all(is_power_of_two(below) for _, below in pairs):
        raise Unknown


def add(x: Pair, y: Pair) -> Pair:
    unrounded(x, y)
    return x[0] * y[1] + y[0] * x[1], x[1] * y[1]


def multiply(x: Pair, y: Pair) -> Pair:
    unrounded(x, y)
    return x[0] * y[0], x[1] * y[1]


def quotient(x: Pair, y: Pair) -> Pair:
    """Of a formula by a number."""
    unrounded(x, y)
    by = y[0]
    if isinstance(by, Int) or by == 0:
        raise Unknown
    return (x[0] * y[1], x[1] * by) if by > 0 else (x[0] * -y[1], x[1] * -by)


def chosen(choose: Callable[[Dim, Dim], Dim]) -> Callable[[Pair, Pair], Pair]:
    """Minimum or maximum: rounding keeps the order."""
    return lambda x, y: (choose(x[0] * y[1], y[0] * x[1]), x[1] * y[1])


def compared(rule: Callable[[Dim, Dim], bool]) -> Callable[[Pair, Pair], bool]:
    def on_pairs(x: Pair, y: Pair) -> bool:
        if x[1] != 1 and y[1] != 1:
            unrounded(x, y)  # beside a whole number a quotient lies where the exact one does
        return rule(x[0] * y[1], y[0] * x[1])

    return on_pairs


def truncated(top: Dim, below: int) -> Pair:
    """Towards zero."""
    if below == 1:
        return top, 1
    if not is_required_nonnegative(top):
        raise Unknown
    return top // below, 1


def nearest(x: Pair) -> Pair:
    return x if x[1] == 1 else _no_pair()


FLOATS: Mapping[str, Callable[..., Pair | bool]] = {
    "add": add,
    "sub": lambda x, y: add(x, (-y[0], y[1])),
    "mul": multiply,
    "div": quotient,
    "min": chosen(minimum),
    "max": chosen(maximum),
    "neg": lambda x: (-x[0], x[1]),
    "abs": lambda x: (absolute(x[0]), x[1]),
    "floor": lambda x: (x[0] // x[1], 1),
    "ceil": lambda x: (ceil_divide(x[0], x[1]), 1),
    "trunc": lambda x: truncated(*x),
    "rint": nearest,
    **{fn: compared(rule) for fn, rule in COMPARISONS.items()},
}
