"""Ways to index a tensor: with broadcasting, at an index from data, clamped."""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Derived, Dim, Int, alias, equals, is_nonnegative, maximum, minimum, value
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Element, Expr, Index, Op

OUT_OF_BOUNDS = 0
"""Check code of a data-dependent index outside its axis; the details are the index and the extent."""


def at(x: Tensor, indices: Sequence[Dim], guard: Expr | None = None) -> Expr:
    """Read x at the trailing indices, by ONNX's (numpy's) broadcasting: on an axis of one element, that element is read for
    all indices.

    Raises Fail if x has more axes than there are indices.
    """
    if x.rank > len(indices):
        raise Fail(f"[ShapeInferenceError] {x} does not broadcast to {len(indices)} axes")
    own = list(indices)[len(indices) - x.rank :]
    return Read(x, tuple(broadcast_index(i, n) for i, n in zip(own, x.shape, strict=True)), guard)


def broadcast_index(index: Dim, extent: Dim) -> Dim:
    """Return index, or 0 on an axis of extent 1. If that is known only at run time, return a formula that is 0 if the extent
    is 1."""
    if isinstance(extent, int):
        return 0 if extent == 1 else index
    if is_clamped(extent, 1):
        return 0  # the axis has at most one element
    loops = [s.extent for s in sorted(index.symbols) if s.extent is not None] if not isinstance(index, int) else []
    if len(loops) == 1 and loops[0] != extent and not is_one_with(extent, loops[0]):
        return index * (1 - equals(extent, 1))
    return index


def is_clamped(e: Dim, other: Dim) -> bool:
    """Tell whether e has the form min(other, n)."""
    return clamped_by(e, other) is not None


def is_one_with(e: Dim, other: Dim) -> bool:
    """Tell whether e = min(other, n) where n can't be 1. Then e is 1 only if other is 1, so broadcasting them requires that
    they are equal."""
    n = clamped_by(e, other)
    return n is not None and (n == 0 or is_nonnegative(n - 2))


def clamped_by(e: Dim, other: Dim) -> Dim | None:
    """Return n if e has the form min(other, n), else None."""
    if not isinstance(e, Int) or len(e.terms) != 1:
        return None
    ((monomial, factor),) = e.terms.items()
    atom = monomial[0]
    if (
        factor != 1
        or len(monomial) != 1
        or not isinstance(atom, Derived)
        or atom.op != "min"
        or other not in (atom.left, atom.right)
    ):
        return None
    return atom.right if other == atom.left else atom.left


def broadcast(*shapes: Sequence[Dim]) -> list[Dim]:
    """Return the common shape. Raises Fail if constant sizes clash; different unknown sizes are required to be equal or 1 at
    run time."""
    rank = max(map(len, shapes))
    out: list[Dim] = []
    for axis in range(rank):
        extents = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        out.append(broadcast_extent([e for e in extents if e != 1], shapes))
    return out


def broadcast_extent(extents: Sequence[Dim], shapes: Sequence[Sequence[Dim]]) -> Dim:
    """Return the common extent of one axis. extents: those that are not certainly 1; shapes: for the message."""
    clash = f"{{}} by {{}} cannot be broadcast: shapes {' and '.join(['{}'] * len(shapes))}"
    fixed = {e for e in extents if isinstance(e, int)}
    if len(fixed) > 1:
        raise Fail(f"[ShapeInferenceError] Incompatible dimensions: {' and '.join(str(list(s)) for s in shapes)}")
    if fixed:
        known = fixed.pop()
        for e in extents:  # may also be 1: then broadcast_index reads element 0
            require_equal((e - known) * (e - 1), 0, clash, known, e, *shapes)
        return known
    different = list(dict.fromkeys(extents))
    if not different:
        return 1
    out = different[0]
    for e in different[1:]:
        if is_clamped(out, e):
            out, e = e, out
        if is_clamped(e, 1) and is_clamped(e, out):
            continue  # e broadcasts to out: it has one element, or out is empty too
        if is_one_with(e, out):
            require_equal(e, out, clash, out, e, *shapes)
            continue
        require_equal((e - out) * (e - 1) * (out - 1), 0, clash, out, e, *shapes)
        out = alias(out + (e - out) * equals(out, 1))
    return out


def element(expr: Expr, bound: Dim) -> Dim:
    """Return an integer read from data as an index into an axis of extent `bound`. Negative ones count from the end; others
    fail the run."""
    return value(Element(expr, bound, OUT_OF_BOUNDS))


def clamp(index: Dim, lo: Dim, hi: Dim) -> Dim:
    """Limit index to [lo, hi]."""
    return maximum(lo, minimum(index, hi))


def inside(index: Dim, extent: Dim) -> Expr:
    """Return the bool 0 <= index < extent."""
    return Op("and", Op("ge", Index(index), Index(0)), Op("lt", Index(index), Index(extent)))
