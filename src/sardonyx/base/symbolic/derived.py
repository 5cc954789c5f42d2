"""Atoms that stand for quotients, remainders, minima, maxima and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sardonyx.base.budget import OverBudget, work
from sardonyx.base.symbolic.interning import the
from sardonyx.base.symbolic.polynomials import (
    COMPUTING,
    OPERATIONS,
    Atom,
    Dim,
    Int,
    Symbol,
    evaluate,
    identity_of,
    substitute,
    symbols,
    weight,
)

MOST_WEIGHT = 100_000
"""The most atoms that a formula may be written with: its text is then some megabytes long."""


class Derived(Atom):
    """op(left, right) for op in "//", "%", "min", "max", "==" that did not simplify.

    Raises OverBudget if it is written with more than MOST_WEIGHT atoms.
    """

    __slots__ = ("is_remainder", "left", "op", "right", "weight")
    op: str
    left: Dim
    right: Dim
    weight: int

    def __new__(cls, op: str, left: Dim, right: Dim) -> Derived:
        return the(cls, (op, identity_of(left), identity_of(right)), op, left, right)

    def make(self, op: str, left: Dim, right: Dim) -> None:  # type: ignore[override]
        self.weight = 1 + weight(left) + weight(right)
        work(self.weight, COMPUTING)
        if self.weight > MOST_WEIGHT:
            raise OverBudget("Loading the model takes too much memory: a formula of its sizes is too long.")
        extent = right if op == "%" else 2 if op == "==" else None
        super().make(f"({left} {op} {right})", symbols(left) | symbols(right), extent)
        self.is_remainder = op == "%"
        self.op, self.left, self.right = op, left, right

    @property
    def operands(self) -> tuple[Dim, ...]:
        return self.left, self.right

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        return OPERATIONS[self.op](substitute(self.left, env), substitute(self.right, env))

    def evaluate(self, env: Callable[[Symbol], int]) -> int:
        left, right = evaluate(self.left, env), evaluate(self.right, env)
        return OPERATIONS[self.op](left, right)  # type: ignore[return-value]

    def rebuild(self, change: Callable[[Dim], Dim]) -> Dim:
        return OPERATIONS[self.op](change(self.left), change(self.right))


def lone_quotient(e: Dim) -> Derived | None:
    """The quotient that e is, if it is nothing else."""
    if isinstance(e, Int) and len(e.terms) == 1:
        ((monomial, factor),) = e.terms.items()
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Derived) and monomial[0].op == "//":
            return monomial[0]
    return None
