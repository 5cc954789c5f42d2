"""Prove, or require at run time, that each index in a body lies within its axis, so that no tensor is read out of bounds.

An index is a formula over the loop variables of the result, sizes, and integers read from data. Its smallest and largest
values follow from the extents of the loops:

    compute(f32, [m, n], lambda i, j: Read(x, (i, 2 * j + 1)))      reads x, of shape [a, b], up to x[m - 1, 2 * n - 1]

Here a >= m and b >= 2 n are required unless they are certain. Constant sizes are compared at once, others when a run starts.

Three kinds of index are left to the operator. First, an index of which a guard compares parts. (If the guard compares the
whole index with zero and a size, that size is required not to exceed the axis.) Second, an index whose bounds are not found.
Third, an index that contains a loop variable twice, such as min(i, 2 n - i): its computed bounds may lie outside although the
index never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sardonyx.base.bounds import DERIVED, Range
from sardonyx.base.symbolic import (
    OPERATIONS,
    Atom,
    Derived,
    Dim,
    Int,
    Symbol,
    coefficient,
    is_nonnegative,
    maximum,
    minimum,
    product,
    single,
    substitute,
    symbols,
    value,
)
from sardonyx.expr.require import is_collecting, require_nonnegative
from sardonyx.loop.nodes import Element, Expr, Index, Kernel, Op

if TYPE_CHECKING:
    from sardonyx.expr.tensor import Read, Tensor

SHORT = "axis {} of {}, of shape {}, is too short: {} of its elements are read"
EMPTY = "axis {} of {}, of shape {}, has no element to take"
UNDIVIDED = "axis {} of {}, of shape {}, is read at a number divided by {}"
NEGATIVE = "axis {} of {}, of shape {}, is read at {}"


class NoBounds(Exception):
    """The bounds of a formula are not known."""


def stay_inside(found: Iterable[Read], loops: Sequence[Symbol]) -> None:
    """Require that each read lies within its tensor for all values of the loop variables. loops: outermost first.

    Raises Fail if constant sizes violate this.
    """
    if not is_collecting():
        return
    for r in found:
        for axis, (index, size) in enumerate(zip(r.indices, r.tensor.shape, strict=True)):
            if not is_whole_axis(index, size):
                stay_on_axis(r, axis, loops)


def is_whole_axis(index: Dim, size: Dim) -> bool:
    """Tell whether the index is a loop variable over exactly this axis, or a constant that is certainly inside."""
    if not isinstance(index, Int):
        return not isinstance(size, Int) and 0 <= index < size
    s = single(index)
    return s is not None and s.extent is not None and (s.extent is size or s.extent == size)


def stay_inside_buffers(kernel: Kernel, tensors: Sequence[Tensor], sizes: Sequence[Dim]) -> None:
    """Require that each tensor has as many elements as the kernel, called with these sizes, may access in its buffer."""
    given = dict(zip(kernel.sizes, sizes, strict=True))
    for x, length in zip(tensors, kernel.lengths or [None] * len(tensors), strict=True):
        if length is not None:
            needed = substitute(length, given)
            require_nonnegative(
                product(x.shape) - needed, "{} of shape {} is too small: {} of its elements are needed", label(x), x.shape, needed
            )


def stay_on_axis(r: Read, axis: int, loops: Sequence[Symbol]) -> None:
    """Require that a read lies within this axis whenever it is executed."""
    x, index, size = r.tensor, r.indices[axis], r.tensor.shape[axis]
    extents = {s.extent for s in loops if s.extent is not None}
    used = [s for s in loops if s in symbols(index)]
    if 0 in extents or not is_exact(index, used):
        return
    try:
        low, high = range_of(index, r.guard, used)
    except NoBounds:
        return
    # An empty loop reads nothing. If the index is a single loop variable, its bound is then -1, which violates nothing.
    entered = product(minimum(n, 1) for n in extents) if single(index) is None else 1
    for divisor in divisors(index):
        if symbols(divisor).isdisjoint(loops) and product(extents) % divisor != 0:
            require_nonnegative((divisor - 1) * entered, UNDIVIDED, axis, label(x), x.shape, divisor)
    for bound in data_bounds(index):
        if not is_nonnegative(bound - 1):
            require_nonnegative((bound - 1) * entered, EMPTY, axis, label(x), x.shape)
    if not is_nonnegative(low):
        require_nonnegative(divisible(low) * entered, NEGATIVE, axis, label(x), x.shape, divisible(low))
    if not is_nonnegative(size - 1 - high):
        require_nonnegative(divisible(size - 1 - high) * entered, SHORT, axis, label(x), x.shape, divisible(high + 1))


def divisors(index: Dim) -> list[Dim]:
    """List what the index divides by and what may be zero. (An empty loop divides by nothing.)"""
    found = [a.right for a in index.atoms if isinstance(a, Derived) and a.op in ("//", "%")] if isinstance(index, Int) else []
    return [d for d in dict.fromkeys(found) if not is_nonnegative(d - 1)]


def divisible(e: Dim) -> Dim:
    """Replace divisors in e that may be zero by at least 1, so that e can be evaluated for all sizes."""
    if not isinstance(e, Int) or not divisors(e):
        return e
    out: Dim = 0
    for monomial, factor in e.terms.items():
        term: Dim = factor
        for atom in monomial:
            term = term * (_divisible_atom(atom) if isinstance(atom, Derived) else value(atom))
        out = out + term
    return out


def _divisible_atom(atom: Derived) -> Dim:
    """Replace the divisor of one atom likewise."""
    left, right = divisible(atom.left), divisible(atom.right)
    if atom.op in ("//", "%") and not is_nonnegative(right - 1):
        right = maximum(right, 1)
    return OPERATIONS[atom.op](left, right)


def data_bounds(index: Dim) -> list[Dim]:
    """List the extents of the axes that the data-dependent parts of the index count from: an empty axis has no valid index."""
    return [a.extent for a in index.atoms if isinstance(a, Element) and a.extent is not None] if isinstance(index, Int) else []


def label(x: Tensor) -> str:
    """Return the name by which users know a tensor: that of the model's value, or of the node that computes it."""
    return f"a result of {x.origin.full}" if x.origin else x.name


def is_exact(e: Dim, loops: Sequence[Symbol]) -> bool:
    """Tell whether each loop variable occurs once in e, so that e reaches its computed bounds."""
    if not isinstance(e, Int) or e.symbols.isdisjoint(loops):
        return True
    atoms = [a for monomial in e.terms for a in monomial]
    bare = {a for a in atoms if isinstance(a, Symbol)}
    inner = [d for a in atoms if isinstance(a, Derived) for d in (a.left, a.right)]
    places = [found & frozenset(loops) for found in (bare, *map(symbols, inner))]
    return sum(map(len, places)) == len(set().union(*places)) and all(is_exact(d, loops) for d in inner)


# ---- bounds ---------------------------------------------------------------------------------------------------------------


def extreme(e: Dim, top: bool, loops: Sequence[Symbol]) -> Dim:
    """Return an upper bound of e if `top`, else a lower bound, for loops with at least one iteration. Raises NoBounds if none
    is found.

    Unlike `base.bounds`, this allows extents of loops to depend on the loops around them.
    """
    e = without_ranges(e, top, loops)
    for s in reversed(loops):
        factor = coefficient(e, s)
        if factor is None:
            raise NoBounds
        assert s.extent is not None
        rest, whole = e - factor * value(s), factor * (s.extent - 1)
        if is_natural(factor):
            e = rest + whole if top else rest
        elif is_natural(-factor):
            e = rest if top else rest + whole
        else:
            e = rest + (maximum(whole, 0) if top else minimum(whole, 0))
    return e


def is_natural(e: Dim) -> bool:
    """Tell whether e >= 0 is certain; comparisons count as 0 or 1, as in 1 - (n == 1)."""
    if is_nonnegative(e) or not isinstance(e, Int):
        return is_nonnegative(e)
    return is_nonnegative(sum(c * product(1 if c < 0 and is_truth(a) else value(a) for a in m) for m, c in e.terms.items()))


def is_truth(atom: Atom) -> bool:
    """Tell whether the atom is a comparison, which is 0 or 1."""
    return isinstance(atom, Derived) and atom.op == "=="


def without_ranges(e: Dim, top: bool, loops: Sequence[Symbol]) -> Dim:
    """Replace quotients and the like that contain loop variables, and integers from data, by their bounds."""
    if not isinstance(e, Int):
        return e
    out: Dim = 0
    for monomial, factor in e.terms.items():
        ranges = [atom_range(a, loops) for a in monomial if has_range(a, loops)]
        rest = product(value(a) for a in monomial if not has_range(a, loops)) * factor
        if len(ranges) > 1 and not all(is_nonnegative(least) for least, _ in ranges):
            raise NoBounds
        for least, most in ranges:
            if not is_natural(rest) and not is_natural(-rest):
                raise NoBounds
            rest = rest * (most if is_natural(rest) == top else least)
        out = out + rest
    return out


def has_range(atom: Atom, loops: Sequence[Symbol]) -> bool:
    """Tell whether the atom is an integer from data, or a quotient or the like that contains a loop variable."""
    return isinstance(atom, Element) or (isinstance(atom, Derived) and not atom.symbols.isdisjoint(loops))


def atom_range(atom: Atom, loops: Sequence[Symbol]) -> Range:
    """Return (smallest, largest) value of the atom."""
    if isinstance(atom, Element):
        assert atom.extent is not None
        return 0, atom.extent - 1
    assert isinstance(atom, Derived)
    left, right = ((extreme(e, False, loops), extreme(e, True, loops)) for e in (atom.left, atom.right))
    return DERIVED[atom.op](left, right)


# ---- guards ---------------------------------------------------------------------------------------------------------------


def range_of(index: Dim, guard: Expr | None, loops: Sequence[Symbol]) -> Range:
    """Return (smallest, largest) value of the index where the guard holds. Raises NoBounds if they are not found, or if the
    guard compares parts of the index."""
    low: Dim | None = None
    high: Dim | None = None
    for fn, compared, bound in comparisons(guard):
        if compared == index:
            low = bound if fn == "ge" else low
            high = bound - 1 if fn == "lt" else high
        elif not symbols(compared).isdisjoint(loops):
            raise NoBounds
    return extreme(index, False, loops) if low is None else low, extreme(index, True, loops) if high is None else high


def comparisons(guard: Expr | None) -> Iterator[tuple[str, Dim, Dim]]:
    """Yield the comparisons of indices that are true wherever the guard is true. -> (fn, left, right)"""
    waiting = [] if guard is None else [guard]
    while waiting:
        e = waiting.pop()
        if isinstance(e, Op) and e.fn == "and":
            waiting += e.args
        elif isinstance(e, Op) and len(e.args) == 2 and isinstance(e.args[0], Index) and isinstance(e.args[1], Index):
            yield e.fn, e.args[0].dim, e.args[1].dim
