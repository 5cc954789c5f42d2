"""Bounds of symbolic integers: how large an expression can be while some of its symbols vary within given ranges.

    greatest(n - t + min(t, 3), t, 0, n - 1) = n + min(n - 1, 3)

Each occurrence of a symbol is assumed to vary independently. A bound may therefore exceed the largest value, but is never
below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.base.symbolic import (
    Atom,
    Defined,
    Derived,
    Dim,
    Int,
    Symbol,
    divide,
    ground,
    is_nonnegative,
    maximum,
    minimum,
    symbols,
    terms,
    value,
)

Range = tuple[Dim, Dim]


def greatest(e: Dim, s: Symbol, low: Dim, high: Dim) -> Dim:
    """Return an upper bound of e while s lies in [low, high]. s may also occur in the definitions of e's sizes."""
    return bounds(e, {s: (low, high)})[1]


def bounds(e: Dim, ranges: Mapping[Symbol, Range]) -> Range:
    """Return (lower, upper) bounds of e while each symbol of `ranges` lies in its range."""
    if not moves(symbols(e), ranges):
        return e, e
    assert isinstance(e, Int)
    low: Dim = 0
    high: Dim = 0
    for monomial, factor in e.terms.items():
        found: Range = (1, 1)
        for atom in monomial:
            found = product(found, atom_bounds(atom, ranges))
        least, most = found if factor > 0 else (found[1], found[0])
        low, high = low + least * factor, high + most * factor
    return low, high


def moves(found: frozenset[Symbol], ranges: Mapping[Symbol, Range]) -> bool:
    """Tell whether any symbol, or its definition, depends on a symbol with a range."""
    return any(s in ranges or (isinstance(s, Defined) and moves(ground(s.definition), ranges)) for s in found)


def atom_bounds(atom: Atom, ranges: Mapping[Symbol, Range]) -> Range:
    """Return (lower, upper) bounds of an atom."""
    if not moves(atom.symbols, ranges):
        return value(atom), value(atom)
    if isinstance(atom, Defined):
        return bounds(atom.definition, ranges)
    if isinstance(atom, Symbol):
        return ranges[atom]
    assert isinstance(atom, Derived), f"{atom} is no size"
    return DERIVED[atom.op](bounds(atom.left, ranges), bounds(atom.right, ranges))


def product(a: Range, b: Range) -> Range:
    """Return the range of products of numbers in two ranges."""
    if is_nonnegative(a[0]) and is_nonnegative(b[0]):
        return a[0] * b[0], a[1] * b[1]
    corners = [x * y for x in a for y in b]
    low = high = corners[0]
    for corner in corners[1:]:
        low, high = minimum(low, corner), maximum(high, corner)
    return low, high


def quotient(a: Range, b: Range) -> Range:
    """Return the range of a // b for b > 0, rounded down: it grows with a, and for negative a also with b."""
    smallest = b[0] if b[0] == b[1] else maximum(b[0], 1)
    if b[0] == b[1] or is_nonnegative(a[0]):
        return divide(a[0], b[1]), last_block(a[1], smallest)
    return minimum(divide(a[0], smallest), divide(a[0], b[1])), maximum(divide(a[1], smallest), divide(a[1], b[1]))


def last_block(e: Dim, by: Dim) -> Dim:
    """Return e // by in the form that cancels against a number of blocks. e + 1 numbers in blocks of `by` end in block e // by.

    (8 n - 1) // 8 becomes n - 1, and (n - 1) // 32 becomes (n + 31) // 32 - 1, one less than the number of blocks of n numbers.
    """
    blocks = divide(e + 1, by)
    if blocks * by == e + 1:
        return blocks - 1
    return divide(e + by, by) - 1 if terms(e).get((), 0) < 0 else divide(e, by)


DERIVED: Mapping[str, Callable[[Range, Range], Range]] = {
    "//": quotient,
    "%": lambda a, b: (0, b[1] - 1),
    "min": lambda a, b: (minimum(a[0], b[0]), minimum(a[1], b[1])),
    "max": lambda a, b: (maximum(a[0], b[0]), maximum(a[1], b[1])),
    "==": lambda a, b: (0, 1),
}
