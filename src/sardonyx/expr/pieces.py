"""Piecewise expressions, which have one case for each value of a short index.

    piecewise(i, [e0, e1, e2])  =  i == 0 ? e0 : i == 1 ? e1 : e2

A Select evaluates both sides. Lowering therefore fully unrolls loops whose index selects a case, and `at_iteration` keeps,
for each iteration, only the case that applies.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from sardonyx.base.symbolic import Dim, Int, Symbol, is_below, substitute
from sardonyx.expr.tensor import Read
from sardonyx.loop.nodes import Const, Expr, Index, Load, Op, Select, walk
from sardonyx.loop.rewrite import rewrite

COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {fn: getattr(operator, fn) for fn in ("eq", "ne", "lt", "le", "gt", "ge")}


def piecewise(index: Dim, cases: Sequence[Expr]) -> Expr:
    """Return cases[index], for 0 <= index < len(cases)."""
    *others, out = cases
    for i, case in reversed(list(enumerate(others))):
        out = Select(Op("eq", Index(index), Index(i)), case, out)
    return out


def deciding(body: Expr | None) -> tuple[Int, ...]:
    """List the indices that select between cases of piecewise expressions in body."""
    if body is None:
        return ()
    found = [n.args[0] for n in walk(body) if isinstance(n, Select)]
    pairs = [c.args for c in found if isinstance(c, Op) and c.fn == "eq"]
    return tuple(
        dict.fromkeys(
            a.dim
            for a, b in pairs
            if isinstance(a, Index) and isinstance(b, Index) and isinstance(a.dim, Int) and isinstance(b.dim, int)
        )
    )


def settle(expr: Expr) -> Expr:
    """Remove cases and guards whose conditions are decided by constant indices."""
    return rewrite(expr, _settled)


def at_iteration(expr: Expr, iteration: Mapping[Symbol, Dim], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Substitute the loop variables of one iteration, and remove cases and guards that this decides. Cases that don't apply
    are not visited."""
    if expr.symbols.isdisjoint(frozenset(iteration)):
        return expr
    memo = {} if memo is None else memo
    found = memo.get(expr)
    if found is None:
        if isinstance(expr, Select):
            condition, then, otherwise = expr.args
            decided = at_iteration(condition, iteration, memo)
            if isinstance(decided, Const):
                found = at_iteration(then if decided.value else otherwise, iteration, memo)
        if found is None:
            args = tuple([at_iteration(a, iteration, memo) for a in expr.args])
            found = _settled(expr.rebuild(args, tuple([substitute(d, iteration) for d in expr.dims])))
        memo[expr] = found
    return found


def _settled(e: Expr) -> Expr:
    """Simplify one node whose arguments are simplified."""
    if isinstance(e, Op) and e.fn in COMPARISONS and all(isinstance(a, Index) for a in e.args):
        known = _compared(e)
        return e if known is None else Const(known, e.dtype)
    if isinstance(e, Select) and isinstance(e.args[0], Const):
        return e.args[1] if e.args[0].value else e.args[2]
    if isinstance(e, (Read, Load)) and isinstance(e.guard, Const) and e.guard.value:
        return e.rebuild((), e.dims)
    return e


def _compared(e: Op) -> bool | None:
    """Return the outcome of a comparison of indices if it is certain, else None."""
    left, right = (a.dims[0] for a in e.args)
    if not isinstance(left, Int) and not isinstance(right, Int):
        return COMPARISONS[e.fn](left, right)
    return True if e.fn == "lt" and is_below(left, right) else None
