"""Sizes that have a name and stand for a formula, so that what is built on them stays short."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sardonyx.base.symbolic.derived import Derived
from sardonyx.base.symbolic.interning import the
from sardonyx.base.symbolic.parts import primitive, single
from sardonyx.base.symbolic.polynomials import Dim, Int, Symbol, identity_of, substitute, symbols, value


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
    """A defined size that nobody looks behind, so that what is built on it stays short however often it is named again."""

    __slots__ = ()

    def __new__(cls, definition: Int) -> Alias:
        return the(cls, identity_of(definition), definition)

    def make(self, definition: Int) -> None:  # type: ignore[override]
        Symbol.make(self, f"<{hashlib.sha256(str(definition).encode()).hexdigest()[:16]}>", None, None)
        self.definition, self.expanded = definition, value(self)


def named(e: Dim) -> Dim:
    """e, or a multiple of a `Defined` size if it holds a quotient: windows over windows would nest them ever deeper."""
    if isinstance(e, Int) and any(isinstance(a, Derived) and a.op == "//" for m in e.terms for a in m):
        factor, rest = primitive(e)
        return value(Defined(rest)) * factor
    return e


def alias(e: Dim) -> Dim:
    """A size by a short name that stands for it, unless it is a number or a name already."""
    if not isinstance(e, Int) or single(e) is not None:
        return e
    return value(Alias(e))


def expanded(e: Dim) -> Dim:
    """e over sizes that are not defined."""
    return substitute(e, {s: s.expanded for s in symbols(e) if isinstance(s, Defined)})


def ground(e: Dim) -> frozenset[Symbol]:
    """The symbols that e depends on, those of definitions included, the defined ones not."""
    out: set[Symbol] = set()
    for s in symbols(e):
        out |= ground(s.definition) if isinstance(s, Defined) else {s}
    return frozenset(out)


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
