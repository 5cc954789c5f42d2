"""How often the loops of a kernel poll should_stop (codegen.stop).

A long loop is divided into strips and polls after each strip. A poll costs about 100 cycles, so a strip has to take much longer
than that, yet be short enough for a run to end quickly. A loop without polling loops inside has strips of about NODES
expression nodes; a loop around polling loops has strips of AROUND iterations, so that all levels together take some
milliseconds at most. A loop that is known to be short does not poll.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from sardonyx.base.symbolic import Atom, Derived, Dim, Int, Symbol, atom_nonnegative
from sardonyx.codegen.loop_analysis import children, own_expressions
from sardonyx.loop.nodes import FUNCTIONS, Expr, For, Kind, Reduce, Seq, Stmt, Store, Tile, While

NODES = 1 << 16
"""Expression nodes that are computed in a strip; each takes a quarter of a cycle to four cycles."""
AROUND = (1 << 7, 1 << 4)
"""Iterations in a strip of a loop around polling loops, by the number of levels of such loops inside it; the last entry holds for
more levels.
"""
FUNCTION = 20
"""Nodes that a call of a function such as exp counts as."""
LANES = 4
"""The least number of lanes of a vector loop."""
PRODUCTS = 16
"""Multiply-adds of a tile that count as one node."""


class Effort(Struct, frozen=True):
    """The work of code that runs once. nodes: expression nodes computed, without those in polling loops inside. depth: levels of
    polling loops inside.
    """

    nodes: int = 0
    depth: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(self.nodes + other.nodes, max(self.depth, other.depth))


def poll_interval(most: int | None, body: Effort, lanes: int = 1) -> int | None:
    """Return the iterations between two polls of a loop; None if the loop need not poll.

    most: the most iterations that the loop has (None: unknown). body: the effort of one iteration. lanes: iterations that run
    at once.
    """
    longest = strip(body, lanes)
    return None if most is not None and most <= longest else longest


def strip(body: Effort, lanes: int = 1) -> int:
    """Return the number of iterations in a strip."""
    longest = max(1, NODES * lanes // max(body.nodes, 1))
    return min(longest, AROUND[min(body.depth, len(AROUND)) - 1]) if body.depth else longest


def repeated(most: int | None, body: Effort, lanes: int = 1) -> Effort:
    """Return the effort of a whole loop, from that of its body; the arguments are those of `poll_interval`."""
    if most is None or poll_interval(most, body, lanes) is not None:
        return Effort(0, body.depth + 1)
    return Effort(-(-max(most, 0) // lanes) * body.nodes, body.depth)


def at_once(kind: Kind) -> int:
    """Return how many iterations of a loop of this kind run at once, at least."""
    return LANES if kind == "vector" else 1


# ---- efforts ----------------------------------------------------------------------------------------------------------------


class Efforts(Struct):
    """Efforts of statements, each computed once and cached."""

    known: dict[int, tuple[Stmt, Effort]] = field(default_factory=dict)
    """{id of a statement: (the statement, its effort)}; the reference keeps the statement alive, so that no other one gets its id.
    """

    def statement(self, stmt: Stmt) -> Effort:
        found = self.known.get(id(stmt))
        if found is None:
            found = self.known[id(stmt)] = stmt, self._look(stmt)
        return found[1]

    def _look(self, stmt: Stmt) -> Effort:
        if isinstance(stmt, Tile):
            return tile(stmt)
        if isinstance(stmt, Seq):  # expressions that several stores share are computed once
            stores = [s for s in stmt.body if isinstance(s, Store)]
            shared = expressions(e for s in stores for e in own_expressions(s)) + Effort(len(stores))
            return sum((self.statement(s) for s in stmt.body if not isinstance(s, Store)), shared)
        inner = sum(map(self.statement, children(stmt)), expressions(own_expressions(stmt)))
        if isinstance(stmt, For):
            return repeated(iterations(stmt.variable, stmt.lo, stmt.hi), inner, at_once(stmt.kind))
        return Effort(0, inner.depth + 1) if isinstance(stmt, While) else inner + Effort(1)


def tile(stmt: Tile) -> Effort:
    """Return the effort of a tile. Tiles don't poll, so one whose k is long or unknown makes the loop around it poll often, as
    if two levels of loops were inside.
    """
    k = stmt.group
    for step in stmt.steps:
        most = at_most(step.extent)
        if most is None:
            return Effort(0, len(AROUND))
        k *= most
    nodes = k * max(stmt.heights) * stmt.width // PRODUCTS
    return Effort(nodes) if nodes <= NODES else Effort(0, len(AROUND))


def expressions(exprs: Iterable[Expr]) -> Effort:
    """Return the effort of expressions: each shared node counts once, except inside a reduction's body."""
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
    """Return the effort of a reduction, without its `outer` outermost loops."""
    total = expressions([expr.body])
    for symbol, kind in reversed(expr.loops[outer:]):
        total = repeated(None if symbol.extent is None else at_most(symbol.extent), total, at_once(kind))
    return total


# ---- bounds -----------------------------------------------------------------------------------------------------------------


def iterations(variable: Symbol, lo: Dim, hi: Dim) -> int | None:
    """Return the most iterations of a loop, from its bounds or from its variable's extent; None if unknown."""
    found = at_most(hi - lo)
    if isinstance(variable.extent, int) and isinstance(lo, int):
        return variable.extent - lo if found is None else min(found, variable.extent - lo)
    return found


def at_most(dim: Dim) -> int | None:
    """Return a number that dim doesn't exceed, if one is found cheaply; else None."""
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
