"""Indices read from data, under the guard of a load or store: where the guard is false, the index is neither read nor checked."""

from __future__ import annotations

from collections.abc import Mapping

from sardonyx.base.symbolic import Dim, Int, Symbol, identity_of, substitute, the, value
from sardonyx.loop.nodes import Element, Expr, Load, Op, dim_elements, elements_of, replace


class Guarded(Element):
    """An Element (an index read from data) that is read and checked only where `guard` is true; elsewhere it is some valid
    index.
    """

    __slots__ = ("guard",)

    guard: Expr

    def __new__(cls, expr: Expr, bound: Dim, code: int, guard: Expr) -> Guarded:
        return the(cls, (id(expr), identity_of(bound), code, id(guard)), expr, bound, code, guard)

    def make(self, expr: Expr, bound: Dim, code: int, guard: Expr) -> None:  # type: ignore[override]
        super().make(expr, bound, code)
        self.guard = guard
        self.key = f"{self.key}[{id(guard):x}]"
        self.symbols |= guard.symbols

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        assert self.extent is not None
        return value(Guarded(replace(self.expr, env), substitute(self.extent, env), self.code, replace(self.guard, env)))


def under(dim: Dim, guard: Expr | None) -> Dim:
    """Rewrite dim so that its Elements are read only where the guard is true."""
    if guard is None or not isinstance(dim, Int) or not any(True for _ in dim_elements(dim)):
        return dim
    out: Dim = 0
    for monomial, factor in dim.terms.items():
        term: Dim = factor
        for atom in monomial:
            if isinstance(atom, Element):
                assert atom.extent is not None
                term = term * value(Guarded(_expression(atom.expr, guard), under(atom.extent, guard), atom.code, guard))
            else:
                term = term * atom.rebuild(lambda d: under(d, guard))
        out = out + term
    return out


def _expression(expr: Expr, guard: Expr) -> Expr:
    """Rewrite expr so that its loads touch memory only where the guard is true."""
    args = tuple(_expression(a, guard) for a in expr.args)
    if isinstance(expr, Load):
        return Load(expr.buffer, under(expr.offset, guard), Op("and", guard, args[0]) if args else guard)
    if not args and not any(True for _ in elements_of(expr)):
        return expr
    return expr.rebuild(args, tuple(under(d, guard) for d in expr.dims))
