"""Prove, or require at run time, that each index in a body lies within its axis, so that no tensor is read out of bounds.

An index is a formula over the loop variables of the result, sizes, and integers read from data. Its smallest and largest
values follow from the extents of the loops:

    compute(f32, [m, n], lambda i, j: Read(x, (i, 2 * j + 1)))      reads x, of shape [a, b], up to x[m - 1, 2 * n - 1]

Here a >= m and b >= 2 n are required unless they are certain. Constant sizes are compared at once, others when a run starts.

A guard that compares the index, or a part of it, with numbers bounds it too. On an axis of one element, to which broadcasting
gives the index 0 in place of any other, there is nothing to require.

An index whose bounds are not found, or which may never reach them and is not certain to lie inside, is no index of compiled code:
its operator falls to the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sardonyx.base.bounds import DERIVED, Range
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import (
    OPERATIONS,
    Atom,
    Derived,
    Dim,
    Int,
    Symbol,
    ceil_divide,
    coefficient,
    equals,
    is_nonnegative,
    maximum,
    minimum,
    product,
    single,
    split,
    substitute,
    symbols,
    terms,
    value,
)
from sardonyx.expr.require import is_collecting, is_required_nonnegative, require_nonnegative
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
    x, size = r.tensor, r.tensor.shape[axis]
    index, is_read = without_broadcast(r.indices[axis], size)
    extents = {s.extent for s in loops if s.extent is not None}
    if 0 in extents:
        return
    try:
        low, high, is_reached = range_of(index, r.guard, [s for s in loops if s in symbols(index)])
    except NoBounds:
        raise unproved(r, axis) from None
    # An empty loop reads nothing. If the index is a single loop variable, its bound is then -1, which violates nothing.
    entered = is_read * (product(minimum(n, 1) for n in extents) if single(index) is None else 1)
    for divisor in divisors(index):
        if symbols(divisor).isdisjoint(loops) and product(extents) % divisor != 0:
            require_nonnegative((divisor - 1) * entered, UNDIVIDED, axis, label(x), x.shape, divisor)
    for bound in data_bounds(index):
        if not is_nonnegative(bound - 1):
            require_nonnegative((bound - 1) * entered, EMPTY, axis, label(x), x.shape)
    is_low, is_high = is_certain(low), is_certain(size - 1 - high)
    if not is_reached and not (is_low and is_high):
        raise unproved(r, axis)
    if not is_low:
        require_nonnegative(divisible(low) * entered, NEGATIVE, axis, label(x), x.shape, divisible(low))
    if not is_high:
        require_nonnegative(divisible(size - 1 - high) * entered, SHORT, axis, label(x), x.shape, divisible(high + 1))


def unproved(r: Read, axis: int) -> Unsupported:
    """Return the error for a read of which it can be neither proved nor required that it lies within its axis."""
    return Unsupported(f"a read of axis {axis} of {label(r.tensor)} at {r.indices[axis]}, which may lie outside of it")


def without_broadcast(index: Dim, size: Dim) -> tuple[Dim, Dim]:
    """Return (e, 1 - (size == 1)) for the index e (1 - (size == 1)), which `broadcast_index` makes; (index, 1) for others."""
    if not isinstance(index, Int) or not isinstance(size, Int):
        return index, 1
    is_one = equals(size, 1)
    atom = next(iter(terms(is_one)))
    e: Dim = sum(Int({m: c}) if m else c for m, c in index.terms.items() if atom[0] not in m)
    return (e, 1 - is_one) if e != index and index == e * (1 - is_one) else (index, 1)


def is_certain(e: Dim) -> bool:
    """Tell whether e >= 0 for certain, or has been required; of a minimum that is subtracted, one side is enough."""
    if is_required_nonnegative(e) or not isinstance(e, Int):
        return is_required_nonnegative(e)
    for monomial, factor in e.terms.items():
        for atom in monomial:
            if isinstance(atom, Derived) and len(monomial) == 1 and atom.op == ("min" if factor < 0 else "max"):
                rest = e - Int({monomial: factor})
                return any(is_certain(rest + side * factor) for side in (atom.left, atom.right))
    return False


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
    inner = [d for a in atoms if isinstance(a, Derived) for d in ((a.left,) if mirror(a, loops) is not None else (a.left, a.right))]
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
        if is_size(factor):
            e = rest + whole if top else rest
        elif is_size(-factor):
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
    low, high = DERIVED[atom.op](left, right)
    total = mirror(atom, loops)
    if total is None:
        return low, high
    return (low, minimum(high, total // 2)) if atom.op == "min" else (maximum(low, ceil_divide(total, 2)), high)


def mirror(atom: Derived, loops: Sequence[Symbol]) -> Dim | None:
    """Return c for min(e, c - e) and max(e, c - e), of which one is c / 2 at most and the other at least; None for other atoms."""
    total = atom.left + atom.right
    return total if atom.op in ("min", "max") and symbols(total).isdisjoint(loops) else None


# ---- guards ---------------------------------------------------------------------------------------------------------------


def range_of(index: Dim, guard: Expr | None, loops: Sequence[Symbol]) -> tuple[Dim, Dim, bool]:
    """Return (smallest, largest) value of the index where the guard holds, and whether they are reached for all that is known.
    Raises NoBounds if they are not found."""
    low: Dim = 0
    high: Dim = 0
    rest, told = index, set[Symbol]()
    for compared, (least, most) in sorted(limits(guard).items(), key=lambda limit: limit[0] != index):  # itself first
        factor = factor_of(rest, compared, loops)
        told |= symbols(compared)
        if factor is None:
            continue
        rest = rest - factor * compared
        least = extreme(compared, False, loops) if least is None else least
        most = extreme(compared, True, loops) if most is None else most
        low, high = low + factor * least, high + factor * most
    is_reached = is_exact(rest, loops) and symbols(rest).isdisjoint(told.intersection(loops))
    return low + extreme(rest, False, loops), high + extreme(rest, True, loops), is_reached


def factor_of(index: Dim, compared: Dim, loops: Sequence[Symbol]) -> Dim | None:
    """Return f >= 0 of index = f compared + rest, where fewer loop variables are in the rest; None if there is none."""
    own = symbols(index) & frozenset(loops)
    candidates: list[Dim] = [1] if index == compared else []
    if isinstance(compared, Int) and len(compared.terms) == 1:
        candidates.append(split(index, compared)[0])
    for s in symbols(compared) & own:
        if coefficient(compared, s) == 1 and (found := coefficient(index, s)) is not None:
            candidates.append(found)
    for f in candidates:
        if is_size(f) and symbols(index - f * compared) & own < own:
            return f
    return None


def is_size(e: Dim) -> bool:
    """Tell whether e >= 0 for certain, or by what has been required: (n - 3) // 2 + 1 is, if n >= 3 is required."""
    if not isinstance(e, Int):
        return e >= 0
    if is_natural(e) or is_required_nonnegative(e) or is_required_nonnegative(e - 1):
        return True
    return all(c > 0 and all(map(is_size_atom, m)) for m, c in e.terms.items())


def is_size_atom(atom: Atom) -> bool:
    """Tell the same of an atom."""
    if isinstance(atom, Derived) and atom.op == "//":
        return is_size(atom.left) and is_size(atom.right)
    return is_natural(value(atom)) or is_required_nonnegative(value(atom))


def limits(guard: Expr | None) -> dict[Dim, tuple[Dim | None, Dim | None]]:
    """Return for each index that is compared where the guard is true: (smallest, largest) value, None where it is not bounded so."""
    found: dict[Dim, tuple[Dim | None, Dim | None]] = {}
    for fn, compared, bound in comparisons(guard):
        least, most = found.get(compared, (None, None))
        found[compared] = bound if fn == "ge" else least, bound - 1 if fn == "lt" else most
    return found


def comparisons(guard: Expr | None) -> Iterator[tuple[str, Dim, Dim]]:
    """Yield the comparisons of indices that are true wherever the guard is true. -> (fn, left, right)"""
    waiting = [] if guard is None else [guard]
    while waiting:
        e = waiting.pop()
        if isinstance(e, Op) and e.fn == "and":
            waiting += e.args
        elif isinstance(e, Op) and len(e.args) == 2 and isinstance(e.args[0], Index) and isinstance(e.args[1], Index):
            yield e.fn, e.args[0].dim, e.args[1].dim
