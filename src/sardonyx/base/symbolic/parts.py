"""Looking into integers: the symbol that one is, the factor of a symbol, the loop variables that an index runs through."""

from __future__ import annotations

import math

from sardonyx.base.symbolic.polynomials import Dim, Int, Symbol, Terms, polynomial, symbols, value


def single(e: Dim) -> Symbol | None:
    """The symbol that e is, if it is nothing else."""
    if isinstance(e, Int) and len(e.terms) == 1:
        ((monomial, factor),) = e.terms.items()
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


def primitive(e: Int) -> tuple[int, Int]:
    """(n, rest) with e = n rest, n > 0 as large as can be."""
    factor = math.gcd(*e.terms.values())
    return factor, Int({m: c // factor for m, c in e.terms.items()})


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
