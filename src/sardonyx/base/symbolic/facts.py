"""What is certain of an integer, whatever its symbols are."""

from __future__ import annotations

from sardonyx.base.symbolic.derived import Derived
from sardonyx.base.symbolic.polynomials import Atom, Dim, Int


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
