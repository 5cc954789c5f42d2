"""Rewrite expressions bottom-up, those inside offsets included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sardonyx.base.symbolic import Dim, Symbol, terms, value
from sardonyx.loop.nodes import Element, Expr, dim_elements

Rule: TypeAlias = Callable[[Expr], Expr]  # returns its argument if nothing changes


def rewrite(expr: Expr, rule: Rule, memo: dict[Expr, Expr] | None = None) -> Expr:
    """Apply the rule once to every node of expr, arguments before the node itself. Shared nodes are rewritten once."""
    memo = {} if memo is None else memo
    found = memo.get(expr)
    if found is None:
        args = tuple(rewrite(a, rule, memo) for a in expr.args)
        dims = tuple(rewrite_dim(d, rule, memo) for d in expr.dims)
        same = args == expr.args and dims == expr.dims
        found = memo[expr] = rule(expr if same else expr.rebuild(args, dims))
    return found


def rewrite_dim(dim: Dim, rule: Rule, memo: dict[Expr, Expr] | None = None) -> Dim:
    """Apply the rule to the expressions of the Elements in dim."""
    if not any(True for _ in dim_elements(dim)):
        return dim
    memo = {} if memo is None else memo
    out: Dim = 0
    for monomial, factor in terms(dim).items():
        term: Dim = factor
        for atom in monomial:
            if isinstance(atom, Element):
                assert atom.extent is not None
                bound = rewrite_dim(atom.extent, rule, memo)
                term = term * value(Element(rewrite(atom.expr, rule, memo), bound, atom.code))
            elif isinstance(atom, Symbol):
                term = term * value(atom)
            else:
                term = term * atom.rebuild(lambda d: rewrite_dim(d, rule, memo))
        out = out + term
    return out
