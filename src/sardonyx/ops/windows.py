"""Sliding windows over spatial axes, for convolution and pooling: sizes, borders, and how many elements of a window lie inside the
data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Int, ceil_divide, maximum, minimum
from sardonyx.expr import scalar
from sardonyx.expr.index import at, inside
from sardonyx.expr.require import require_nonnegative
from sardonyx.expr.tensor import Tensor, assemble, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.pointwise import expand_to

LONG = 64
"""A window that spans more inputs than this counts as wider than data of unknown size."""


class Window(Struct, frozen=True):
    """A sliding window along one spatial axis: output o covers the inputs o stride + r dilation - lo, for r in [0, size)."""

    extent: Dim  # size of the input along the axis
    size: Dim
    stride: int
    dilation: int
    lo: Dim  # padding before the data
    hi: Dim  # padding after the data, as the attributes say
    out: Dim  # number of outputs
    beyond: Dim  # elements past hi that the last window covers (ceil_mode)

    def position(self, o: Dim, r: Dim) -> Dim:
        """Return the index of tap r of output o, counted from the start of the border."""
        return o * self.stride + r * self.dilation

    @property
    def is_inside(self) -> bool:
        """Return whether the window needs no border."""
        return all(isinstance(n, int) and n == 0 for n in (self.lo, self.hi, self.beyond))

    @property
    def reach(self) -> Dim:
        """Return how many inputs the window spans."""
        return (self.size - 1) * self.dilation + 1

    @property
    def is_wide(self) -> bool:
        """Return whether the window may cover more border than data. The border of such windows is neither stored nor visited."""
        if isinstance(self.reach, Int):
            return False
        return self.reach > (LONG if isinstance(self.extent, Int) else self.extent)

    @property
    def taps(self) -> Dim:
        """Return how many taps are visited for each output: all, or for a wide window as many as can lie inside the data."""
        return minimum(self.size, maximum(ceil_divide(self.extent, self.dilation), 1)) if self.is_wide else self.size

    def tap(self, o: Dim, t: Dim) -> Dim:
        """Return the tap r that is visited as number t. In wide windows, t counts from the first tap inside the data."""
        return t + maximum(ceil_divide(self.lo - o * self.stride, self.dilation), 0) if self.is_wide else t

    def holds(self, o: Dim, r: Dim) -> Expr | None:
        """Return a bool expression: does tap r of output o lie inside the data? None means always."""
        if self.is_wide:
            return scalar.logical_and(inside(self.position(o, r) - self.lo, self.extent), inside(r, self.size))
        if self.is_inside:
            return None
        return inside(self.position(o, r) - self.lo, self.extent)

    def inside(self, o: Dim, lo: Dim, hi: Dim) -> Dim:
        """Return how many taps of output o lie inside the data extended by `lo` elements before and `hi` after."""
        first = self.lo - lo - o * self.stride
        end = self.extent + self.lo + hi - o * self.stride
        if self.dilation != 1:
            first, end = ceil_divide(first, self.dilation), ceil_divide(end, self.dilation)
        return maximum(minimum(self.size, end) - maximum(0, first), 0)


def windows(
    extents: Sequence[Dim],
    sizes: Sequence[Dim],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> list[Window]:
    """Return the window along each spatial axis, from ONNX's attributes. Raises Fail if a window does not fit, or an attribute has
    another rank.
    """
    rank = len(extents)
    steps = per_axis("strides", strides, rank)
    spread = per_axis("dilations", dilations, rank)
    if len(sizes) != rank:
        raise Fail(f"[ShapeInferenceError] a kernel of {len(sizes)} axes does not fit {rank} spatial axes")
    borders = list(pads) if pads else [0] * (2 * rank)
    if len(borders) != 2 * rank or any(n < 0 for n in borders):
        raise Fail(f"[ShapeInferenceError] Attribute pads must be {2 * rank} numbers of at least 0, not {borders}")
    return [
        window(extents[a], sizes[a], steps[a], spread[a], (borders[a], borders[rank + a]), auto_pad, bool(ceil_mode))
        for a in range(rank)
    ]


def per_axis(name: str, numbers: Sequence[int] | None, rank: int) -> list[int]:
    """Return one positive number per axis; by default 1. Raises Fail for other numbers."""
    out = list(numbers) if numbers else [1] * rank
    if len(out) != rank or any(n < 1 for n in out):
        raise Fail(f"[ShapeInferenceError] Attribute {name} must be {rank} positive numbers, not {out}")
    return out


def window(n: Dim, size: Dim, stride: int, dilation: int, pads: tuple[Dim, Dim], auto_pad: str, ceil_mode: bool) -> Window:
    """Return the window along one axis of n elements, with auto_pad and ceil_mode resolved. Raises Fail if it does not fit."""
    reach = (size - 1) * dilation + 1
    lo, hi = pads
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        out = ceil_divide(n, stride)
        total = maximum((out - 1) * stride + reach - n, 0)
        less, more = total // 2, ceil_divide(total, 2)
        lo, hi = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
        return Window(n, size, stride, dilation, lo, hi, out, 0)
    if auto_pad == "VALID":
        lo = hi = 0
    elif auto_pad != "NOTSET":
        raise Fail(f"auto_pad {auto_pad} is unknown")
    room = n + lo + hi - reach
    require_nonnegative(
        room + (stride - 1 if ceil_mode else 0), "a window of {} does not fit in {} with pads {} and {}", reach, n, lo, hi
    )
    if not ceil_mode:
        return Window(n, size, stride, dilation, lo, hi, room // stride + 1, 0)
    # a window that would begin in the padding after the data is omitted
    out = minimum(ceil_divide(room, stride) + 1, (n + lo - 1) // stride + 1)
    return Window(n, size, stride, dilation, lo, hi, out, maximum((out - 1) * stride - room, 0))


def bordered(x: Tensor, axis_windows: Sequence[Window], fill: float) -> Tensor:
    """Add the windows' borders, filled with this number, around the last axes of x."""
    outer = x.rank - len(axis_windows)
    lo = [0] * outer + [w.lo for w in axis_windows]
    hi = [0] * outer + [w.hi + w.beyond for w in axis_windows]
    return pad(x, lo, hi, constant(np.array(fill, x.dtype.numpy)))


def pad(x: Tensor, lo: Sequence[Dim], hi: Sequence[Dim], fill: Tensor) -> Tensor:
    """Add borders of `fill` (a scalar) around x: T[*d] -> T[*(lo + d + hi)]. The result is assembled from x and two slabs for each
    padded axis.
    """
    if all(isinstance(n, int) and n == 0 for n in (*lo, *hi)):
        return x
    shape = [a + n + b for a, n, b in zip(lo, x.shape, hi, strict=True)]
    parts: list[tuple[Tensor, list[Dim]]] = []
    around: list[Dim] = list(shape)
    origin: list[Dim] = [0] * x.rank
    for axis, (before, after) in enumerate(zip(lo, hi, strict=True)):
        for where, width in ((0, before), (before + x.shape[axis], after)):
            if width != 0:
                slab = [*around[:axis], width, *around[axis + 1 :]]
                parts.append((expand_to(fill, slab), [*origin[:axis], where, *origin[axis + 1 :]]))
        around[axis], origin[axis] = x.shape[axis], before
    parts.append((compute(x.dtype, x.shape, lambda *i: at(x, i)), list(lo)))
    return assemble(x.dtype, shape, parts)


def lowest(dtype: DType) -> float:
    """Return the neutral element of the maximum: -infinity, or the least integer."""
    if dtype.is_float:
        return float("-inf")
    return int(np.iinfo(dtype.numpy).min)
