"""Evaluate one operation of shape arithmetic, by the rules of its element type, on numbers and formulas.

A number follows `loop.semantics`: i8 wraps, f32 rounds. A formula is exact, so it can represent an element only if the
element is exact too. Otherwise `Unknown` is raised, and the element is computed when the model runs:

    i64         an Int
    i32         an Int that must stay within 32 bits: a requirement, checked before each run with new sizes
    f32, f64    an Int or a Ratio whose numerator must have so few bits that nothing is rounded: also a requirement
    all others  never a formula
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType, boolean, f32, f64, i32, i64
from sardonyx.base.symbolic import Dim, Int, ceil_divide, is_nonnegative, largest, maximum, minimum, primitive, short, symbols
from sardonyx.expr import decide
from sardonyx.expr.decide import Relation
from sardonyx.expr.require import is_required_nonnegative, require_nonnegative
from sardonyx.loop import semantics


class Unknown(Exception):
    """The element can't be evaluated by shape arithmetic."""


class Ratio(Struct, frozen=True):
    """A float that is exactly numerator / denominator, or that quotient rounded once; denominator > 1.

    It may be rounded only if the denominator is no power of two. Floor, ceil and trunc of it are exact all the same: for
    numbers below 2^24 (2^53 in f64), a quotient is never rounded to the next whole number.
    """

    numerator: Int
    denominator: int


Number: TypeAlias = int | float | bool | Int | Ratio

BITS: Mapping[DType, int] = {f32: 24, f64: 53}
"""Bits of a float's significand: integers up to 2^bits are exact."""
MOST_FACTOR = 8
"""Largest odd factor of a size in a float formula: with larger ones, it soon needs more bits than a float has."""


def operate(fn: str, dtype: DType, args: Sequence[Number]) -> Number:
    """Apply fn of loop.nodes.OPS to elements of this dtype. Raises Unknown for functions (exp, ...), and for formulas without
    an exact result."""
    if not any(isinstance(a, (Int, Ratio)) for a in args):
        return on_numbers(fn, dtype, args)
    if dtype in (i64, i32):
        rule = INTEGERS.get(fn)
        dims = [a for a in args if isinstance(a, (int, Int))]
        if rule is None or len(dims) < len(args):
            raise Unknown
        made = rule(*dims)
        return fitting(short(made) if isinstance(made, Int) else made, dtype)
    if dtype not in BITS or fn not in FLOATS:
        raise Unknown
    return exact(FLOATS[fn](*map(ratio, args)), dtype)


def convert(x: Number, source: DType, to: DType) -> Number:
    """Convert x to another dtype by ONNX's Cast."""
    if not isinstance(x, (Int, Ratio)):
        return number(semantics.cast(array(x, source), source, to))
    if to is boolean:
        return unequal(x, 0) if isinstance(x, Int) else _unknown()
    if to in (i64, i32):
        whole = truncated(*ratio(x)) if source.is_float else (x, 1)
        return fitting(whole[0], to)
    return exact(ratio(x), to)


def reduced(fn: str, dtype: DType, terms: Sequence[Number]) -> Number:
    """Combine all terms by fn, in order."""
    total: Number = number(semantics.neutral(fn, dtype))
    for place, term in enumerate(terms):
        total = operate(fn, dtype, (total, term)) if place else term
    return total


def _unknown() -> Number:
    raise Unknown


# ---- numbers ------------------------------------------------------------------------------------------------------------


def on_numbers(fn: str, dtype: DType, args: Sequence[Number]) -> Number:
    """Apply fn to numbers by the loop IR's semantics."""
    if fn not in semantics.FN:
        raise Unknown
    if dtype is i64 and fn in ("add", "sub", "mul") and abs(quick := INTEGERS[fn](*args)) < 1 << 63:  # type: ignore[arg-type]
        return quick
    return number(semantics.apply(fn, *(array(a, dtype) for a in args)))


def array(x: Number, dtype: DType) -> semantics.Array:
    """Return the number as an array of this dtype. Raises Unknown if it is out of range."""
    try:
        return np.array(x, dtype.numpy)
    except OverflowError:
        raise Unknown from None


def number(x: semantics.Array) -> int | float | bool:
    """Return the array's only element as a Python number."""
    if x.dtype.kind == "b":
        return bool(x)
    return int(x) if x.dtype.kind in "iu" or "int" in x.dtype.name else float(x)


# ---- formulas that stand for integers -----------------------------------------------------------------------------------


def fitting(x: Number, dtype: DType) -> Number:
    """Return x; requires that a formula fits dtype in each run."""
    if isinstance(x, Int) and dtype is i32:
        within(x, -(1 << 31), (1 << 31) - 1, dtype)
    elif not isinstance(x, (Int, bool)):
        return number(array(x, dtype))
    return x


def within(x: Int, least: int, most: int, dtype: DType) -> None:
    """Require least <= x <= most for all values of loop variables in x. Raises Unknown if their ranges are not known."""
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
    """Divide integers, rounding towards zero. For formulas, both must be known or required not to be negative; else raises
    Unknown."""
    if not is_required_nonnegative(a) or not is_required_nonnegative(b - 1):
        raise Unknown
    return a // b


def remainder(a: Dim, b: Dim) -> Dim:
    """Return the remainder of `divide`."""
    return a - divide(a, b) * b


def absolute(a: Dim) -> Dim:
    """Return |a|."""
    if is_nonnegative(a):
        return a
    return -a if is_nonnegative(-a) else maximum(a, -a)


def compare(certain: Callable[[Dim], bool | None], relation: Relation, truth: bool) -> Callable[[Dim, Dim], bool]:
    """Make a comparison that returns `truth` if a - b is in the relation to zero. certain: decides it, or returns None if
    sizes do."""

    def rule(a: Dim, b: Dim) -> bool:
        answer = certain(a - b)
        if answer is None and decide.is_asking():
            answer = decide.ask(a - b, relation)
        if answer is None:
            raise Unknown
        return answer is truth

    return rule


def less(d: Dim) -> bool | None:
    """Tell whether d < 0; None if sizes decide."""
    if is_nonnegative(d):
        return False
    return True if is_nonnegative(-1 - d) else None


def at_most(d: Dim) -> bool | None:
    """Tell whether d <= 0; None if sizes decide."""
    if is_nonnegative(-d):
        return True
    return False if is_nonnegative(d - 1) else None


def same(d: Dim) -> bool | None:
    """Tell whether d == 0; None if sizes decide."""
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
"""A fraction: (numerator, denominator > 0)."""


def ratio(x: Number) -> Pair:
    """Return x as numerator and denominator. Raises Unknown for infinity and NaN."""
    if isinstance(x, Ratio):
        return x.numerator, x.denominator
    if isinstance(x, (int, Int)):
        return x, 1
    return x.as_integer_ratio() if math.isfinite(x) else _no_pair()


def _no_pair() -> Pair:
    raise Unknown


def exact(x: Pair | bool, dtype: DType) -> Number:
    """Return the fraction as an element of this dtype, and require that its sizes are small enough not to be rounded. Raises
    Unknown for other dtypes."""
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
    """Raise Unknown if one of these floats may be a rounded quotient."""
    if not all(is_power_of_two(below) for _, below in pairs):
        raise Unknown


def add(x: Pair, y: Pair) -> Pair:
    """Add two fractions."""
    unrounded(x, y)
    return x[0] * y[1] + y[0] * x[1], x[1] * y[1]


def multiply(x: Pair, y: Pair) -> Pair:
    """Multiply two fractions."""
    unrounded(x, y)
    return x[0] * y[0], x[1] * y[1]


def quotient(x: Pair, y: Pair) -> Pair:
    """Divide a fraction by a number. Raises Unknown for a divisor that is a formula or zero."""
    unrounded(x, y)
    by = y[0]
    if isinstance(by, Int) or by == 0:
        raise Unknown
    return (x[0] * y[1], x[1] * by) if by > 0 else (x[0] * -y[1], x[1] * -by)


def chosen(choose: Callable[[Dim, Dim], Dim]) -> Callable[[Pair, Pair], Pair]:
    """Make the minimum or maximum of fractions, given that of integers. Rounding keeps the order, so rounded quotients are
    allowed."""
    return lambda x, y: (choose(x[0] * y[1], y[0] * x[1]), x[1] * y[1])


def compared(rule: Callable[[Dim, Dim], bool]) -> Callable[[Pair, Pair], bool]:
    """Make a comparison of fractions from one of integers."""

    def on_pairs(x: Pair, y: Pair) -> bool:
        if x[1] != 1 and y[1] != 1:
            unrounded(x, y)  # against an integer, a rounded quotient compares like the exact one
        return rule(x[0] * y[1], y[0] * x[1])

    return on_pairs


def truncated(top: Dim, below: int) -> Pair:
    """Round a fraction towards zero. Raises Unknown if its sign is not known."""
    if below == 1:
        return top, 1
    if not is_required_nonnegative(top):
        raise Unknown
    return top // below, 1


def nearest(x: Pair) -> Pair:
    """Round a fraction to nearest; only integers can be."""
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
