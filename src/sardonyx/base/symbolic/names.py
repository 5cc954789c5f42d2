"""Sizes that have a name and stand for a formula, so that what is built on them stays short."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sardonyx.base.symbolic.derived import Derived
from sardonyx.base.symbolic.facts import is_nonnegative
from sardonyx.base.symbolic.interning import the
from sardonyx.base.symbolic.parts import primitive, single
from sardonyx.base.symbolic.polynomials import (
    Atom,
    Dim,
    Int,
    Monomial,
    Symbol,
    Terms,
    identity_of,
    polynomial,
    substitute,
    symbols,
    value,
)


class Defined(Symbol):
    """A size that stands for a formula, so that what is built on it stays short; it is computed once, at run start.

    `expanded` is the formula over sizes that are not defined; two are the same if theirs is.
    """

    __slots__ = ("definition", "expanded")
    definition: Int
    expanded: Dim

    def __new__(cls, definition: Int) -> Defined:
        whole = expanded(definition)
        return the(cls, identity_of(whole), definition, whole)

    def make(self, definition: Int, whole: Dim) -> None:  # type: ignore[override]
        super().make(f"<{whole}>", None, None)
        self.definition, self.expanded = definition, whole


class Alias(Defined):
    """A defined size that nobody looks behind, so that what is built on it stays short however often it is named again.

    signed: it may be negative.
    """

    __slots__ = ()

    def __new__(cls, definition: Int, signed: bool = False) -> Alias:
        return the(cls, (identity_of(definition), signed), definition, signed)

    def make(self, definition: Int, signed: bool) -> None:  # type: ignore[override]
        digest = hashlib.sha256(str(definition).encode()).hexdigest()[:16]
        Symbol.make(self, f"<-{digest}>" if signed else f"<{digest}>", None, None)
        self.definition, self.expanded, self.signed = definition, value(self), signed


LONG = 64
"""Formulas of sizes that are written with more atoms get a short name."""
MANY_TERMS = 16
"""Indices of more terms are collected by their loop variables."""


def named(e: Dim) -> Dim:
    """e, or a multiple of a `Defined` size if it holds a quotient: windows over windows would nest them ever deeper."""
    if isinstance(e, Int) and any(isinstance(a, Derived) and a.op == "//" for m in e.terms for a in m):
        factor, rest = primitive(e)
        return value(Defined(rest)) * factor
    return e


def alias(e: Dim, signed: bool = False) -> Dim:
    """A size by a short name that stands for it, unless it is a number or a name already. signed: it may be negative."""
    if not isinstance(e, Int) or single(e) is not None:
        return e
    return value(Alias(e, signed))


def short(e: Dim, is_size: bool = False) -> Dim:
    """e, or an alias if it is a long formula of sizes: what a chain of operators computes from it would be twice as long after
    each. is_size: e is required not to be negative.
    """
    if not isinstance(e, Int) or e.weight <= LONG or any(moves(a) for m in e.terms for a in m):
        return e
    return alias(e, signed=not is_size and not is_nonnegative(e))


def collected(index: Dim) -> Dim:
    """An index of many terms as a sum over what moves in it, each factor by a short name; others as they are.

    With i, j in loops and sizes a to f: (a b + c d) i + (a f + c) j + ... becomes <a b + c d> i + <a f + c> j + ... A chain of such
    index maps has as many terms as there are loops, instead of a number that grows with each map.
    """
    if not isinstance(index, Int) or len(index.terms) <= MANY_TERMS:
        return index
    factors: dict[Monomial, Terms] = {}
    for monomial, count in index.terms.items():
        moving = tuple(a for a in monomial if moves(a))
        factors.setdefault(moving, {})[tuple(a for a in monomial if not moves(a))] = count
    total: Dim = 0
    for moving, found in factors.items():
        factor = polynomial(found)
        total = total + alias(factor, signed=not is_nonnegative(factor)) * (Int({moving: 1}) if moving else 1)
    return total


def moves(atom: Atom) -> bool:
    """Whether an atom is, or contains, a loop variable or a number with a range, such as an element of an index tensor."""
    own = (atom, *(a for d in atom.operands if isinstance(d, Int) for a in d.atoms))
    return any(a.extent is not None and not isinstance(a, Derived) for a in own)


def expanded(e: Dim) -> Dim:
    """e over sizes that are not defined."""
    return substitute(e, {s: s.expanded for s in symbols(e) if isinstance(s, Defined)})


def ground(e: Dim) -> frozenset[Symbol]:
    """The symbols that e depends on, those of definitions included, the defined ones not."""
    out = set(symbols(e))
    for s in definitions(symbols(e)):
        out |= s.definition.symbols
    return frozenset(s for s in out if not isinstance(s, Defined))


def definitions(found: Iterable[Symbol]) -> list[Defined]:
    """The defined sizes among the symbols and in their definitions, each after those it is made of."""
    out: dict[Defined, None] = {}
    waiting = sorted(found, reverse=True)
    while waiting:  # names may stand for names a thousand deep: no recursion
        s = waiting.pop()
        if not isinstance(s, Defined) or s in out:
            continue
        inner = [i for i in sorted(s.definition.symbols, reverse=True) if isinstance(i, Defined) and i not in out]
        if inner:
            waiting += [s, *inner]
        else:
            out[s] = None
    return list(out)
