"""Division, minimum, maximum and comparison: operations whose results need not be polynomials.

Division is only formed with divisors that are positive wherever the quotient is used. Rewrites, with r in [0, f):

    (q b + r) // b = q                 (q b + r) % b = r
    (f x + r) // (f d) = x // d        (f x + r) % (f d) = f (x % d) + r
    (e // m) // n = e // (m n)         for numbers m and n
"""

from __future__ import annotations

import functools
import math

from sardonyx.base.symbolic.derived import Derived, lone_quotient
from sardonyx.base.symbolic.facts import is_below, is_nonnegative
from sardonyx.base.symbolic.polynomials import OPERATIONS, Dim, Int, Symbol, Terms, polynomial, terms, value


def split(e: Dim, by: Dim) -> tuple[Dim, Dim]:
    """(q, rest) with e = q * by + rest, taking every term that `by` (one monomial) divides."""
    ((divisor, scale),) = terms(by).items()
    quotient: Terms = {}
    rest: Terms = {}
    for monomial, factor in terms(e).items():
        left = list(monomial)
        fits = factor % scale == 0
        for atom in divisor:
            if atom in left:
                left.remove(atom)
            else:
                fits = False
        if fits:
            quotient[tuple(left)] = factor // scale
        else:
            rest[monomial] = factor
    return polynomial(quotient), polynomial(rest)


def divide(e: Dim, by: Dim) -> Dim:
    """e // by, rounding down, for by > 0."""
    return quotient_and_remainder(e, by)[0]


def remainder(e: Dim, by: Dim) -> Dim:
    """e % by in [0, by), for by > 0."""
    return quotient_and_remainder(e, by)[1]


@functools.lru_cache(maxsize=1 << 16)
def quotient_and_remainder(e: Dim, by: Dim) -> tuple[Dim, Dim]:
    if not isinstance(e, Int) and not isinstance(by, Int):
        return divmod(e, by)
    if by == 1:
        return e, 0
    if len(terms(by)) == 1:
        q, rest = split(e, by)
    else:
        q, rest = (1, 0) if e == by else (0, e)
    if is_below(rest, by):
        return q, rest
    if not isinstance(rest, Int) and not isinstance(by, Int):
        return q + rest // by, rest % by
    if reduced := reduce_common_factor(rest, by):
        return q + reduced[0], reduced[1]
    inner = lone_quotient(rest)
    if inner is not None and not isinstance(by, Int) and not isinstance(inner.right, Int):
        return q + divide(inner.left, inner.right * by), value(Derived("%", rest, by))
    return q + value(Derived("//", rest, by)), value(Derived("%", rest, by))


def forget_quotients() -> None:
    """Drop the memo of divisions: it holds what the models compiled so far divided, hundreds of thousands of objects."""
    quotient_and_remainder.cache_clear()


def reduce_common_factor(e: Dim, by: Dim) -> tuple[Dim, Dim] | None:
    """(f x + r) divmod (f d) = (x // d, f (x % d) + r), for a factor f found in a term of e."""
    if len(terms(by)) != 1:
        return None
    ((atoms, divisor),) = terms(by).items()
    tried: set[Dim] = {1}
    for monomial, factor in terms(e).items():
        sizes = tuple(a for a in monomial if isinstance(a, Symbol) and a.extent is None and a in atoms)
        common = math.gcd(factor, divisor)
        f: Dim = Int({sizes: common}) if sizes else common
        if f in tried:
            continue
        tried.add(f)
        (d, none), (x, r) = split(by, f), split(e, f)
        if none == 0 and x != 0 and is_below(r, f):
            q, m = quotient_and_remainder(x, d)
            return q, m * f + r
    return None


def round_up(e: Dim, to: int) -> Dim:
    """The least multiple of `to` that is >= e >= 0."""
    return ceil_divide(e, to) * to


def ceil_divide(e: Dim, by: Dim) -> Dim:
    return (e + (by - 1)) // by


def minimum(a: Dim, b: Dim) -> Dim:
    """min(a, b)"""
    if not isinstance(a, Int) and not isinstance(b, Int):
        return min(a, b)
    if is_nonnegative(b - a):
        return a
    if is_nonnegative(a - b):
        return b
    return value(Derived("min", *ordered(a, b)))


def maximum(a: Dim, b: Dim) -> Dim:
    """max(a, b)"""
    if not isinstance(a, Int) and not isinstance(b, Int):
        return max(a, b)
    if is_nonnegative(b - a):
        return b
    if is_nonnegative(a - b):
        return a
    return value(Derived("max", *ordered(a, b)))


def equals(a: Dim, b: Dim) -> Dim:
    """1 if a == b else 0"""
    if not isinstance(a - b, Int):
        return int(a == b)
    return value(Derived("==", *ordered(a, b)))


def ordered(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    return (a, b) if str(a) <= str(b) else (b, a)


OPERATIONS |= {"//": divide, "%": remainder, "min": minimum, "max": maximum, "==": equals}
