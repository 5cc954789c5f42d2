"""Operators whose axes are an input of the node, as Squeeze, Unsqueeze and ReduceSum have since opset 13.

If the axes are known before the run, the operators use plain lists of integers. If only the run decides them, each axis gets a
mark: a symbolic 0 or 1 that says whether the input names this axis. Shapes and indices are formulas over these marks, so that one
compiled program serves every choice of axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Int, alias, equals
from sardonyx.expr.known import elements, known
from sardonyx.expr.require import require_equal, require_nonnegative
from sardonyx.expr.tensor import MOST_AXES, Tensor
from sardonyx.ops.pointwise import view


def known_axes(axes: Tensor | None) -> list[int] | None:
    """Return the axes of an optional input as integers, or None if the input is absent.

    Raises Unsupported if the axes are known only at run time, Fail if the tensor has more than one axis.
    """
    if axes is None:
        return None
    if not decided(axes):
        raise Unsupported("axes that are known only at run time")
    if axes.rank > 1:
        raise Fail(f"[ShapeInferenceError] axes must be in a tensor of one axis, not in {axes}")
    return [int(a) for a in elements(axes).ravel()]


def decided(axes: Tensor | None) -> bool:
    """Return whether the axes are known before the run. An absent input and an empty tensor count as known.

    Raises Undecided while the number of axes is not known yet.
    """
    if axes is None or axes.shape == (0,):
        return True
    numbers = known(axes)
    found = elements(axes) if numbers is None else numbers
    return all(isinstance(a, int) for a in found.ravel())


def choices(axes: Tensor, rank: int) -> list[list[Dim]]:
    """Return for each element of `axes` a list with one 0 or 1 for each axis of a tensor of this rank: 1 if the element names the
    axis.

    axes: i64[n], negative ones count from the end. The run fails if an axis is out of range.
    """
    out = []
    if axes.rank > 1:
        raise Fail(f"[ShapeInferenceError] axes must be in a tensor of one axis, not in {axes}")
    for a in elements(axes).ravel().tolist():
        require_nonnegative(a + rank, "axis out of range for a tensor of rank {}", rank)
        require_nonnegative(rank - 1 - a, "axis out of range for a tensor of rank {}", rank)
        out.append([alias(equals(a, i) + equals(a, i - rank)) for i in range(rank)])
    return out


def marks(axes: Tensor, rank: int) -> list[Dim]:
    """Return for each axis of a tensor of this rank 1 if `axes` names it, else 0. The run fails if an axis is named twice."""
    out: list[Dim] = []
    for column in zip(*choices(axes, rank), [0] * rank, strict=True):
        total: Dim = sum(column)
        require_nonnegative(1 - total, "one axis is named twice")
        out.append(alias(total))
    return out


def split_marked(x: Tensor, marked: Sequence[Dim]) -> Tensor:
    """Double the rank of x: first the unmarked axes, then the marked ones, with size 1 in place of the other kind.

    x: T[*d] -> T[*d with 1 at the marked axes, *d with 1 at the unmarked axes]. Example: T[3, 4] with axis 1 marked -> T[3, 1, 1,
    4].
    """
    kept = [alias(n + m * (1 - n)) for n, m in zip(x.shape, marked, strict=True)]
    others = [alias(1 + m * (n - 1)) for n, m in zip(x.shape, marked, strict=True)]
    return view(x, [*kept, *others], lambda *i: [k + o for k, o in zip(i[: x.rank], i[x.rank :], strict=True)])


def places(marked: Sequence[Dim], count: int) -> list[list[Dim]]:
    """Say which axis is which unmarked one: entry [a][p] is 1 if axis a is the unmarked axis number p, else 0. count: number of
    unmarked axes
    """
    out: list[list[Dim]] = []
    before: list[Dim] = []
    for m in marked:
        place = alias(sum(1 - b for b in before))
        out.append([chosen((1 - m) * equals(place, p)) for p in range(count)])
        before.append(m)
    return out


def chosen(e: Dim) -> Dim:
    return alias(e) if isinstance(e, Int) else e


def without(x: Tensor, marked: Sequence[Dim], count: int) -> Tensor:
    """Remove the marked axes, which all have one element. count: how many axes are marked."""
    where = places(marked, x.rank - count)
    shape = [alias(sum(w[p] * n for w, n in zip(where, x.shape, strict=True))) for p in range(x.rank - count)]
    return view(x, shape, lambda *i: [sum(own * j for own, j in zip(w, i, strict=True)) for w in where])


def inserted(x: Tensor, axes: Tensor) -> Tensor:
    """Compute Unsqueeze: insert axes of one element, so that `axes` are their positions in the result."""
    rank = x.rank + elements(axes).size
    if rank > MOST_AXES:
        raise Fail(f"[ShapeInferenceError] Unsqueeze to {rank} axes, more than a tensor can have")
    marked = marks(axes, rank)
    where = places(marked, x.rank)
    shape = [alias(m + sum(own * n for own, n in zip(w, x.shape, strict=True))) for m, w in zip(marked, where, strict=True)]
    return view(x, shape, lambda *i: [sum(w[p] * j for w, j in zip(where, i, strict=True)) for p in range(x.rank)])


def removed(x: Tensor, axes: Tensor) -> Tensor:
    """Compute Squeeze: remove these axes. The run fails if one of them does not have exactly one element."""
    marked = marks(axes, x.rank)
    for m, n in zip(marked, x.shape, strict=True):
        require_equal(m * (n - 1), 0, "cannot squeeze an axis of {} whose size is not 1", x.shape)
    return without(x, marked, elements(axes).size)
