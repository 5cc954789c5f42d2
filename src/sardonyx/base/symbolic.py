"""Symbolic integers: one class for shapes, indices, addresses, strides, offsets and loop bounds.

A `Dim` is a Python `int` or an `Int`: a polynomial with integer coefficients over *atoms*, in a canonical form, so that equal is
`==`. Every operation that comes out constant returns an `int`, hence fixed shapes cost nothing here.

    atom       stands for                                           range, if known
    Symbol     a size of the model, or a loop variable              [0, extent)
    Derived    e // b, e % b, min(e, b), max(e, b), e == b (0 or 1) [0, b) for e % b
    (others)   subclasses, such as an element of an index tensor    [0, extent)

Symbols that are not `signed` are never negative. Division is only formed with divisors that are positive wherever the quotient is used.
Rewrites, with r in [0, f):  (q b + r) // b = q,  (q b + r) % b = r,  (f x + r) // (f d) = x // d,
(f x + r) % (f d) = f (x % d) + r,  (e // m) // n = e // (m n) for numbers m and n,  and  c b (e // b) + c (e % b) = c e.
"""

from __future__ import annotations

import functools
import hashlib
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, Union

Dim: TypeAlias = Union[int, "Int"]


class Atom:
    """A factor of a monomial. `key` identifies it, `symbols` are what it depends on; with `extent` its range is [0, extent).

    `signed` ones may be negative (numbers read from data); all others are not.
    """

    __slots__ = ("_hash", "extent", "key", "signed", "symbols")
    is_remainder = False

    def __init__(self, key: str, symbols: frozenset[Symbol] | None, extent: Dim | None) -> None:
        self.key = key
        self.extent = extent
        self.signed = False
        self._hash = hash(key)
        self.symbols: frozenset[Symbol] = frozenset([self]) if symbols is None else symbols  # type: ignore[list-item]

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self._same(other))

    def _same(self, other: Atom) -> bool:
        """Is another atom of this class the same?"""
        return self.key == other.key

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


class Symbol(Atom):
    """A named integer >= 0: a size (no extent) or a loop variable in [0, extent). Same name and same extent: the same symbol."""

    __slots__ = ()

    def __init__(self, name: str, extent: Dim | None = None) -> None:
        super().__init__(name, None, extent)

    def _same(self, other: Atom) -> bool:
        return self.key == other.key and self.extent == other.extent

    @property
    def name(self) -> str:
        return self.key

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        got = env.get(self)
        return Int({(self,): 1}) if got is None else got

    def evaluate(self, env: Callable[[Symbol], int]) -> int:
        return env(self)


class Defined(Symbol):
    """A size that stands for a formula, so that what is built on it stays short; it is computed once, at run start.

    `expanded` is the formula over sizes that are not defined; two are the same if theirs is.
    """

    __slots__ = ("definition", "expanded")

    def __init__(self, definition: Int) -> None:
        self.definition, self.expanded = definition, expanded(definition)
        super().__init__(f"<{self.expanded}>")

    def _same(self, other: Atom) -> bool:
        assert isinstance(other, Defined)
        return self.key == other.key and self.expanded == other.expanded  # names are unique only within one graph


class Alias(Defined):
    """A defined size that nobody looks behind, so that what is built on it stays short however often it is named again. Made by `alias`:
    one for each definition."""

    __slots__ = ("__weakref__",)

    def __init__(self, definition: Int) -> None:
        Symbol.__init__(self, f"<{hashlib.sha256(str(definition).encode()).hexdigest()[:16]}>")
        self.definition, self.expanded = definition, value(self)

    def _same(self, other: Atom) -> bool:
        return self is other


class Derived(Atom):
    """op(left, right) for op in "//", "%", "min", "max", "==" that did not simplify."""

    __slots__ = ("is_remainder", "left", "op", "right")

    def __init__(self, op: str, left: Dim, right: Dim) -> None:
        self.is_remainder = op == "%"
        extent = right if op == "%" else 2 if op == "==" else None
        super().__init__(f"({left} {op} {right})", symbols(left) | symbols(right), extent)
        self.op, self.left, self.right = op, left, right

    def _same(self, other: Atom) -> bool:
        assert isinstance(other, Derived)
        return self.op == other.op and self.left == other.left and self.right == other.right

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        return OPERATIONS[self.op](substitute(self.left, env), substitute(self.right, env))

    def evaluate(self, env: Callable[[Symbol], int]) -> int:
        left, right = evaluate(self.left, env), evaluate(self.right, env)
        return OPERATIONS[self.op](left, right)  # type: ignore[return-value]

    def rebuild(self, change: Callable[[Dim], Dim]) -> Dim:
        return OPERATIONS[self.op](change(self.left), change(self.right))


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = dict[Monomial, int]


class Int:
    """A polynomial that is not constant. Built by arithmetic on `Symbol.value` and friends, never directly."""

    __slots__ = ("_atoms", "_key", "_symbols", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._atoms: tuple[Atom, ...] | None = None
        self._key: frozenset[tuple[Monomial, int]] | None = None
        self._symbols: frozenset[Symbol] | None = None

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
            inner = [d for a in own if isinstance(a, Derived) for d in (a.left, a.right) if isinstance(d, Int)]
            self._atoms = (*own, *(a for d in inner for a in d.atoms))
        return self._atoms

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
        for left, a in self.terms.items():
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
        return divide(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return divide(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return remainder(self, other)

    def __rmod__(self, other: int) -> Dim:
        return remainder(other, self)

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
        return merge_quotients(Int(terms))
    return Int(terms) if terms and () not in terms else terms.get((), 0)


def merge_quotients(e: Int) -> Dim:
    """c b (x // b) + c (x % b) becomes c x."""
    for monomial, factor in e.terms.items():
        for atom in monomial:
            if not atom.is_remainder:
                continue
            assert isinstance(atom, Derived)
            rest = list(monomial)
            rest.remove(atom)
            scale = Int({tuple(rest): factor}) if rest else factor
            whole = scale * atom.right * divide(atom.left, atom.right)
            if isinstance(whole, Int) and all(e.terms.get(m) == c for m, c in whole.terms.items()):
                return e - whole - Int({monomial: factor}) + scale * atom.left
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
    return value(_aliases.get(e) or _aliases.setdefault(e, Alias(e)))


_aliases: weakref.WeakValueDictionary[Int, Alias] = weakref.WeakValueDictionary()


def primitive(e: Int) -> tuple[int, Int]:
    """(n, rest) with e = n rest, n > 0 as large as can be."""
    factor = math.gcd(*e.terms.values())
    return factor, Int({m: c // factor for m, c in e.terms.items()})


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


def product(values: Iterable[Dim]) -> Dim:
    out: Dim = 1
    for v in values:
        out = out * v
    return out


def round_up(e: Dim, to: int) -> Dim:
    """The least multiple of `to` that is >= e >= 0."""
    return ceil_divide(e, to) * to


def ceil_divide(e: Dim, by: Dim) -> Dim:
    return (e + (by - 1)) // by


def coefficient(e: Dim, s: Symbol) -> Dim | None:
    """The factor of s in e = factor * s + rest, or None if e is not linear in s (s inside an atom, or squared)."""
    alone = frozenset((s,))  # sets know the hashes of what they hold
    if not isinstance(e, Int) or e.symbols.isdisjoint(alone):
        return 0
    found: Terms = {}
    for monomial, factor in e.terms.items():
        moving = [i for i, a in enumerate(monomial) if not a.symbols.isdisjoint(alone)]
        if not moving:
            continue
        if len(moving) > 1 or monomial[moving[0]] != s:
            return None
        found[monomial[: moving[0]] + monomial[moving[0] + 1 :]] = factor
    return polynomial(found)


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
    out: Dim = 0
    for monomial, factor in e.terms.items():
        term: Dim = factor
        for atom in monomial:
            term = term * (value(atom) if atom.symbols.isdisjoint(moved) else atom.substitute(env))
        out = out + term
    return out


def evaluate(e: Dim, env: Callable[[Symbol], int]) -> int:
    """The number e is, given each symbol's number."""
    if not isinstance(e, Int):
        return e
    return sum(c * math.prod(a.evaluate(env) for a in m) for m, c in e.terms.items())


def single(e: Dim) -> Symbol | None:
    """The symbol that e is, if it is nothing else."""
    if isinstance(e, Int) and len(e.terms) == 1:
        ((monomial, factor),) = e.terms.items()
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


# ---- facts --------------------------------------------------------------------------------------------------------------


def is_nonnegative(e: Dim) -> bool:
    """Is e >= 0 for certain? (No negative factor; a quotient, minimum and so on of such.)"""
    if not isinstance(e, Int):
        return e >= 0
    return all(c > 0 and all(atom_nonnegative(a) for a in m) for m, c in e.terms.items())


def atom_nonnegative(atom: Atom) -> bool:
    if not isinstance(atom, Derived) or atom.extent is not None:
        return not atom.signed
    if atom.op == "max":
        return is_nonnegative(atom.left) or is_nonnegative(atom.right)
    return is_nonnegative(atom.left) and is_nonnegative(atom.right)


def largest(e: Dim) -> Dim | None:
    """The largest value of e over the ranges of its atoms with an extent, or None if e may decrease along one, or is negative."""
    if not isinstance(e, Int):
        return e if e >= 0 else None
    top: Dim = 0
    for monomial, factor in e.terms.items():
        bounded = [a for a in monomial if a.extent is not None]
        if factor < 0 or len(bounded) > 1 or not all(atom_nonnegative(a) for a in monomial):
            return None
        free = Int({tuple(a for a in monomial if a.extent is None): factor}) if len(monomial) > len(bounded) else factor
        extent = bounded[0].extent if bounded else 2
        assert extent is not None
        top = top + free * (extent - 1)
    return top


def is_below(e: Dim, bound: Dim) -> bool:
    """Is 0 <= e < bound for certain, from the extents of e's atoms?"""
    if not isinstance(e, Int) and not isinstance(bound, Int):
        return 0 <= e < bound
    if e == 0:
        return True  # a range that is entered at all is not empty
    top = largest(e)
    return top is not None and is_nonnegative(bound - 1 - top)


# ---- operations that are not polynomial ----------------------------------------------------------------------------------


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


def lone_quotient(e: Dim) -> Derived | None:
    """The quotient that e is, if it is nothing else."""
    if isinstance(e, Int) and len(e.terms) == 1:
        ((monomial, factor),) = e.terms.items()
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Derived) and monomial[0].op == "//":
            return monomial[0]
    return None


def reduce_common_factor(e: Dim, by: Dim) -> tuple[Dim, Dim] | None:
    """(f x + r) divmod (f d) = (x // d, f (x % d) + r), for a factor f found in a term of e."""
    if len(terms(by)) != 1:
        return None
    ((atoms, divisor),) = terms(by).items()
    for monomial, factor in terms(e).items():
        sizes = tuple(a for a in monomial if isinstance(a, Symbol) and a.extent is None and a in atoms)
        common = math.gcd(factor, divisor)
        f: Dim = Int({sizes: common}) if sizes else common
        if f == 1:
            continue
        (d, none), (x, r) = split(by, f), split(e, f)
        if none == 0 and x != 0 and is_below(r, f):
            q, m = quotient_and_remainder(x, d)
            return q, m * f + r
    return None


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


OPERATIONS: dict[str, Callable[[Dim, Dim], Dim]] = {
    "//": divide,
    "%": remainder,
    "min": minimum,
    "max": maximum,
    "==": equals,
}


# ---- axes ---------------------------------------------------------------------------------------------------------------


def strides(shape: Sequence[Dim], order: Sequence[int] | None = None) -> list[Dim]:
    """Strides, in elements, of a dense buffer whose axes lie in `order`, outermost first (the axes' own order by default)."""
    out: list[Dim] = [0] * len(shape)
    step: Dim = 1
    for axis in reversed(order if order is not None else range(len(shape))):
        out[axis] = step
        step = step * shape[axis]
    return out


def covering_loops(index: Dim) -> list[Symbol] | None:
    """The loop variables, outermost first, if the index runs through 0, 1, 2, ... as they do (4 a + b with b < 4); else None."""
    alone = single(index)
    if alone is not None and alone.extent is not None:
        return [alone]
    step: Dim = 1
    out: list[Symbol] = []
    total: Dim = 0
    while left := [s for s in sorted(symbols(index)) if s.extent is not None and s not in out]:
        found = next((s for s in left if coefficient(index, s) == step), None)
        if found is None:
            return None
        assert found.extent is not None
        total = total + step * value(found)
        out.append(found)
        step = step * found.extent
    return out[::-1] if total == index else None
