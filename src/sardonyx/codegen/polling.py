"""How often a kernel's loops ask whether the run is to end (codegen.stop).

A loop of very many iterations is divided into strips; after each strip it asks. What asking costs, some 100 cycles, has to be little beside a
strip, and a strip short: NODES for a loop that holds no others that ask, and fewer and fewer iterations around such loops, so that
all of them together take some milliseconds at most. A loop that is known to be short has no strips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sardonyx.base.symbolic import Atom, Derived, Dim, Int, Symbol, atom_nonnegative
from sardonyx.codegen.loop_analysis import children, own_expressions
from sardonyx.loop.nodes import FUNCTIONS, Expr, For, Kind, Reduce, Seq, Stmt, Store, Tile, While

NODES = 1 << 16
"""Nodes of expressions that a strip computes: each takes a quarter of a cycle to four cycles."""
AROUND = (1 << 7, 1 << 4)
"""Iterations of a strip of a loop around loops that ask, by how many levels of them there are, the last for more."""
FUNCTION = 20
"""Nodes that a function of many instructions stands for."""
LANES = 4
"""Of a vector loop, at least."""
PRODUCTS = 16
"""Multiply-adds of a tile that take as long as a node, at least."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Of code that runs once. nodes: that it computes, without the loops in it that ask. depth: how many levels of those there are."""

    nodes: int = 0
    depth: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(self.nodes + other.nodes, max(self.depth, other.depth))


def pace(most: int | None, body: Effort, lanes: int = 1) -> int | None:
    """After how many iterations a loop asks, of which so many run at once; None: it need not. most: iterations that there are at most."""
    longest = strip(body, lanes)
    return None if most is not None and most <= longest else longest


def strip(body: Effort, lanes: int = 1) -> int:
    """Iterations of a strip."""
    longest = max(1, NODES * lanes // max(body.nodes, 1))
    return min(longest, AROUND[min(body.depth, len(AROUND)) - 1]) if body.depth else longest


def repeated(most: int | None, body: Effort, lanes: int = 1) -> Effort:
    """The effort of a loop; see `pace`."""
    if most is None or pace(most, body, lanes) is not None:
        return Effort(0, body.depth + 1)
    return Effort(-(-max(most, 0) // lanes) * body.nodes, body.depth)


def at_once(kind: Kind) -> int:
    """How many iterations run at once, at least."""
    return LANES if kind == "vector" else 1


# ---- efforts ----------------------------------------------------------------------------------------------------------------


@dataclass
class Efforts:
    """Of statements and expressions, each looked at once."""

    known: dict[int, tuple[Stmt, Effort]] = field(default_factory=dict)  # a statement is kept, so that no other one gets its id

    def statement(self, stmt: Stmt) -> Effort:
        found = self.known.get(id(stmt))
        if found is None:
            found = self.known[id(stmt)] = stmt, self._look(stmt)
        return found[1]

    def _look(self, stmt: Stmt) -> Effort:
        if isinstance(stmt, Tile):
            return tile(stmt)
        if isinstance(stmt, Seq):  # what several stores are made of is computed once
            stores = [s for s in stmt.body if isinstance(s, Store)]
            shared = expressions(e for s in stores for e in own_expressions(s)) + Effort(len(stores))
            return sum((self.statement(s) for s in stmt.body if not isinstance(s, Store)), shared)
        inner = sum(map(self.statement, children(stmt)), expressions(own_expressions(stmt)))
        if isinstance(stmt, For):
            return repeated(iterations(stmt.variable, stmt.lo, stmt.hi), inner, at_once(stmt.kind))
        return Effort(0, inner.depth + 1) if isinstance(stmt, While) else inner + Effort(1)


def tile(stmt: Tile) -> Effort:
    """A tile whose k is long, or not known, does not ask: that counts as two levels."""
    k = 1
    for step in stmt.steps:
        most = at_most(step.extent)
        if most is None:
            return Effort(0, len(AROUND))
        k *= most
    nodes = k * max(stmt.heights) * stmt.width // PRODUCTS
    return Effort(nodes) if nodes <= NODES else Effort(0, len(AROUND))


def expressions(exprs: Iterable[Expr]) -> Effort:
    """Each node once, as far as they are not in a reduction's body."""
    total, seen, waiting = Effort(), set[Expr](), list(exprs)
    while waiting:
        expr = waiting.pop()
        if expr in seen:
            continue
        seen.add(expr)
        if isinstance(expr, Reduce):
            total += reduction(expr)
        else:
            total += Effort(FUNCTION if getattr(expr, "fn", None) in FUNCTIONS else 1)
            waiting += expr.args
    return total


def reduction(expr: Reduce, outer: int = 0) -> Effort:
    """A reduction's effort, without its `outer` outermost loops."""
    total = expressions([expr.body])
    for symbol, kind in reversed(expr.loops[outer:]):
        total = repeated(None if symbol.extent is None else at_most(symbol.extent), total, at_once(kind))
    return total


# ---- bounds -----------------------------------------------------------------------------------------------------------------


def iterations(variable: Symbol, lo: Dim, hi: Dim) -> int | None:
    """How many there are at most of a loop, from its bounds or its variable's range."""
    found = at_most(hi - lo)
    if isinstance(variable.extent, int) and isinstance(lo, int):
        return variable.extent - lo if found is None else min(found, variable.extent - lo)
    return found


def at_most(dim: Dim) -> int | None:
    """A number that dim does not exceed, if one is seen at once."""
    if not isinstance(dim, Int):
        return dim
    for monomial, factor in dim.terms.items():
        atom = monomial[0] if len(monomial) == 1 and factor == 1 else None
        if isinstance(atom, Derived) and atom.op in ("min", "max"):
            rest = dim - Int({monomial: 1})
            left, right = at_most(rest + atom.left), at_most(rest + atom.right)
            if left is None or right is None:
                return (right if left is None else left) if atom.op == "min" else None
            return min(left, right) if atom.op == "min" else max(left, right)
    return _most_of_terms(dim)


def _most_of_terms(dim: Int) -> int | None:
    total = 0
    for monomial, factor in dim.terms.items():
        if not all(map(atom_nonnegative, monomial)):
            return None
        if factor > 0:
            product = factor
            for atom in monomial:
                most = _most_of(atom)
                if most is None:
                    return None
                product *= most
            total += product
        elif not monomial:
            total += factor
    return total


def _most_of(atom: Atom) -> int | None:
    if atom.extent is not None:
        most = at_most(atom.extent)
        return None if most is None else most - 1
    if isinstance(atom, Derived) and atom.op == "//" and isinstance(atom.right, int):
        most = at_most(atom.left)
        return None if most is None else most // atom.right
    return None
