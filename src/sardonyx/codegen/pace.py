"""How often a kernel's loops ask whether the run is to end (codegen.stop).

A loop of very many iterations is divided into strips; after each strip it asks. What asking costs, some 40 cycles, has to be little beside a
strip, and a strip short: CYCLES for a loop that holds no others that ask, and fewer and fewer iterations around such loops, so that
all of them together take some milliseconds at most. A loop that is known to be short has no strips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sardonyx.base.symbolic import Atom, Derived, Dim, Int, atom_nonnegative
from sardonyx.codegen.shape import children, own_expressions
from sardonyx.loop.nodes import FUNCTIONS, Expr, For, Kind, Reduce, Stmt, Tile, While

CYCLES = 1 << 14
AROUND = (1 << 7, 1 << 4)
"""Iterations of a strip of a loop around loops that ask, by how many levels of them there are, the last for more."""
NODE, FUNCTION = 2, 40
"""Cycles that a node of an expression takes, about; that a function of many instructions does."""
LANES = 4
"""Of a vector loop, at least."""
PRODUCTS = 16
"""Multiply-adds of a tile in a cycle, at least."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Of code that runs once. cycles: about, without the loops in it that ask. depth: how many levels of those there are."""

    cycles: int = 0
    depth: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(self.cycles + other.cycles, max(self.depth, other.depth))


def pace(iterations: Dim, body: Effort, lanes: int = 1) -> int | None:
    """After how many iterations a loop asks, of which so many run at once; None: it need not."""
    most, longest = at_most(iterations), strip(body, lanes)
    return None if most is not None and most <= longest else longest


def strip(body: Effort, lanes: int = 1) -> int:
    """Iterations of a strip."""
    longest = max(1, CYCLES * lanes // max(body.cycles, 1))
    return min(longest, AROUND[min(body.depth, len(AROUND)) - 1]) if body.depth else longest


def repeated(iterations: Dim, body: Effort, lanes: int = 1) -> Effort:
    """The effort of a loop."""
    most = at_most(iterations)
    if most is None or pace(iterations, body, lanes) is not None:
        return Effort(0, body.depth + 1)
    return Effort(-(-max(most, 0) // lanes) * body.cycles, body.depth)


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
        inner = sum(map(self.statement, children(stmt)), expressions(own_expressions(stmt)))
        if isinstance(stmt, For):
            return repeated(stmt.hi - stmt.lo, inner, at_once(stmt.kind))
        return Effort(0, inner.depth + 1) if isinstance(stmt, While) else inner + Effort(NODE)


def tile(stmt: Tile) -> Effort:
    """A tile whose k is long, or not known, does not ask: that counts as two levels."""
    k = 1
    for step in stmt.steps:
        most = at_most(step.extent)
        if most is None:
            return Effort(0, len(AROUND))
        k *= most
    cycles = k * max(stmt.heights) * stmt.width // PRODUCTS
    return Effort(cycles) if cycles <= CYCLES else Effort(0, len(AROUND))


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
            total += Effort(FUNCTION if getattr(expr, "fn", None) in FUNCTIONS else NODE)
            waiting += expr.args
    return total


def reduction(expr: Reduce, outer: int = 0) -> Effort:
    """A reduction's effort, without its `outer` outermost loops."""
    total = expressions([expr.body])
    for symbol, kind in reversed(expr.loops[outer:]):
        total = repeated(0 if symbol.extent is None else symbol.extent, total, at_once(kind))
    return total


# ---- bounds -----------------------------------------------------------------------------------------------------------------


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
