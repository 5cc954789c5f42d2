"""Polynomials with integer coefficients over atoms, in a canonical form: equal is `==`.

What adds, multiplies, substitutes and evaluates stands here; what divides in `quotients`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias, Union

from sardonyx.base.budget import work
from sardonyx.base.symbolic.interning import the

Dim: TypeAlias = Union[int, "Int"]

FEW_TERMS = 16
"""Polynomials of more terms are counted as work."""
COMPUTING = "computing with formulas of sizes"
"""The work that is counted, for messages."""

OPERATIONS: dict[str, Callable[[Dim, Dim], Dim]] = {}
"""What a Derived atom stands for, by its sign; filled in by `quotients`."""


class Atom:
    """A factor of a monomial. Equal atoms are one object (see `interning`).

    key: its text, by which the factors of a monomial are put in order. symbols: what it depends on. With `extent` its range is
    [0, extent). `signed` ones may be negative (numbers read from data), all others are not. operands: the Dims it is made of.
    weight: how many atoms it is written with, itself and those inside operands included.
    """

    __slots__ = ("__weakref__", "extent", "key", "signed", "symbols")
    is_remainder = False
    weight = 1
    key: str
    symbols: frozenset[Symbol]
    extent: Dim | None
    signed: bool

    def make(self, key: str, symbols: frozenset[Symbol] | None, extent: Dim | None) -> None:
        """Fills in a new atom. symbols: None if it is a symbol, which depends on itself."""
        self.key = key
        self.extent = extent
        self.signed = False
        self.symbols = frozenset([self]) if symbols is None else symbols  # type: ignore[list-item]

    @property
    def operands(self) -> tuple[Dim, ...]:
        return ()

    def __lt__(self, other: Atom) -> bool:
        return self.key < other.key

    def __repr__(self) -> str:
        return self.key

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        """The value of this atom with symbols replaced."""
        raise NotImplementedError

    def evaluate(self, env: Callable[[Symbol], int]) -> int:
        """The number this atom stands for, given the symbols' numbers."""
        raise NotImplementedError

    def rebuild(self, change: Callable[[Dim], Dim]) -> Dim:
        """This atom with its inner Dims changed."""
        return value(self)


def identity_of(e: Dim | None) -> Hashable:
    """What tells e from other Dims while its atoms are there: a number, or monomials and factors, atoms by their addresses."""
    return frozenset([(tuple(map(id, m)), c) for m, c in e.terms.items()]) if isinstance(e, Int) else e


class Symbol(Atom):
    """A named integer >= 0: a size (no extent) or a loop variable in [0, extent). Same name and same extent: the same symbol."""

    __slots__ = ()

    def __new__(cls, name: str, extent: Dim | None = None) -> Symbol:
        return the(cls, (name, identity_of(extent)), name, None, extent)

    @property
    def name(self) -> str:
        return self.key

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        got = env.get(self)
        return Int({(self,): 1}) if got is None else got

    def evaluate(self, env: Callable[[Symbol], int]) -> int:
        return env(self)


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = dict[Monomial, int]


class Int:
    """A polynomial that is not constant. Built by arithmetic on `Symbol.value` and friends, never directly."""

    __slots__ = ("_atoms", "_key", "_remainders", "_symbols", "_weight", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._atoms: tuple[Atom, ...] | None = None
        self._key: frozenset[tuple[Monomial, int]] | None = None
        self._symbols: frozenset[Symbol] | None = None
        self._remainders: bool | None = None
        self._weight: int | None = None

    @property
    def key(self) -> frozenset[tuple[Monomial, int]]:
        if self._key is None:
            self._key = frozenset(self.terms.items())
        return self._key

    @property
    def symbols(self) -> frozenset[Symbol]:
        if self._symbols is None:
            self._symbols = frozenset().union(*(a.symbols for m in self.terms for a in m))
        return self._symbols

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """All atoms, those inside quotients and the like too."""
        if self._atoms is None:
            own = [a for m in self.terms for a in m]
            inner = [d for a in own for d in a.operands if isinstance(d, Int)]
            self._atoms = (*own, *(a for d in inner for a in d.atoms))
        return self._atoms

    @property
    def weight(self) -> int:
        """How many atoms it is written with, those inside quotients and the like included."""
        if self._weight is None:
            self._weight = sum(a.weight for m in self.terms for a in m)
        return self._weight

    @property
    def has_remainders(self) -> bool:
        """Is an e % b among the factors of its monomials?"""
        if self._remainders is None:
            self._remainders = any(a.is_remainder for m in self.terms for a in m)
        return self._remainders

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Int) and (self is other or self.key == other.key)

    def __hash__(self) -> int:
        return hash(self._key or self.key)

    def __add__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            if other == 0:
                return self
            terms = dict(self.terms)
            terms[()] = terms.get((), 0) + other
            return Int(terms) if terms[()] else polynomial(terms)
        terms = dict(self.terms)
        for monomial, factor in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return polynomial(terms)

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return 0 if other == 0 else self if other == 1 else Int({m: c * other for m, c in self.terms.items()})
        terms: Terms = {}
        many = len(self.terms) > FEW_TERMS and len(other.terms) > FEW_TERMS
        for left, a in self.terms.items():
            if many:
                work(len(other.terms), COMPUTING)
            for right, b in other.terms.items():
                monomial = tuple(sorted(left + right)) if left and right else left or right
                terms[monomial] = terms.get(monomial, 0) + a * b
        return polynomial(terms)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        if isinstance(other, int):
            return self + -other
        terms = dict(self.terms)
        for monomial, factor in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) - factor
        return polynomial(terms)

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __floordiv__(self, other: Dim) -> Dim:
        return OPERATIONS["//"](self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return OPERATIONS["//"](other, self)

    def __mod__(self, other: Dim) -> Dim:
        return OPERATIONS["%"](self, other)

    def __rmod__(self, other: int) -> Dim:
        return OPERATIONS["%"](other, self)

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of {self} is not known before the run")

    def __repr__(self) -> str:
        def show(monomial: Monomial, factor: int) -> str:
            names = [str(a) for a in monomial]
            return "*".join(names if names and factor == 1 else [str(factor), *names])

        return " + ".join(show(m, c) for m, c in sorted(self.terms.items()))


def polynomial(terms: Terms) -> Dim:
    """The canonical Dim of these terms: zeros dropped, e // b and e % b of one e merged, a constant as `int`."""
    if 0 in terms.values():
        terms = {m: c for m, c in terms.items() if c}
    if len(terms) > 1:
        if len(terms) > FEW_TERMS:
            work(len(terms), COMPUTING)
        made = Int(terms)
        return merge_quotients(made) if made.has_remainders else made
    return Int(terms) if terms and () not in terms else terms.get((), 0)


def merge_quotients(e: Int) -> Dim:
    """c b (x // b) + c (x % b) becomes c x."""
    for monomial, factor in e.terms.items():
        for atom in monomial:
            if not atom.is_remainder:
                continue
            left, right = atom.operands
            rest = list(monomial)
            rest.remove(atom)
            scale = Int({tuple(rest): factor}) if rest else factor
            whole = scale * right * OPERATIONS["//"](left, right)
            if isinstance(whole, Int) and all(e.terms.get(m) == c for m, c in whole.terms.items()):
                return e - whole - Int({monomial: factor}) + scale * left
    return e


def value(atom: Atom) -> Int:
    """The Dim that is this atom."""
    return Int({(atom,): 1})


def symbol(name: str) -> Int:
    """A size named `name`, as a Dim."""
    return value(Symbol(name))


def symbols(e: Dim) -> frozenset[Symbol]:
    """The symbols that e depends on, also inside atoms."""
    return e.symbols if isinstance(e, Int) else frozenset()


def terms(e: Dim) -> Terms:
    """{monomial: factor}; a constant has the empty monomial."""
    return e.terms if isinstance(e, Int) else {(): e} if e else {}


def substitute(e: Dim, env: Mapping[Symbol, Dim]) -> Dim:
    """e with symbols replaced, simplified again."""
    if not isinstance(e, Int):
        return e
    moved = frozenset(env)  # sets know the hashes of what they hold
    if e.symbols.isdisjoint(moved):
        return e
    if len(e.terms) == 1:
        ((alone, factor),) = e.terms.items()
        if len(alone) == 1:
            return alone[0].substitute(env) * factor
    if len(e.terms) > FEW_TERMS:
        work(len(e.terms), COMPUTING)
    total: Terms = {}
    for monomial, factor in e.terms.items():
        term: Dim = factor
        for atom in monomial:
            term = term * (value(atom) if atom.symbols.isdisjoint(moved) else atom.substitute(env))
        for m, c in terms(term).items():
            total[m] = total.get(m, 0) + c
    return polynomial(total)


def weight(e: Dim) -> int:
    """How many atoms e is written with."""
    return e.weight if isinstance(e, Int) else 0


def evaluate(e: Dim, env: Callable[[Symbol], int]) -> int:
    """The number e is, given each symbol's number."""
    if not isinstance(e, Int):
        return e
    return sum(c * math.prod(a.evaluate(env) for a in m) for m, c in e.terms.items())
