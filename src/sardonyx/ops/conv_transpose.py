"""ConvTranspose as ordinary convolutions, one for each phase, that is, for each residue p of the outputs o = q stride + p.

Input i reaches output o by tap r if o + lo = i stride + r dilation. For one phase these are the taps r = first + t step, where step
= stride / gcd(stride, dilation), and then i = q + base - t dilation / gcd(stride, dilation): a convolution of stride 1 over q. A
view interleaves the phases.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, ceil_divide, maximum
from sardonyx.expr import scalar
from sardonyx.expr.index import at, inside
from sardonyx.expr.require import require_equal, require_nonnegative
from sardonyx.expr.tensor import Tensor, assemble, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.conv import Channel, along_channels, over_channels
from sardonyx.ops.pointwise import expand_to, pointwise, view
from sardonyx.ops.record import Case, Op
from sardonyx.ops.reference import windows
from sardonyx.ops.windows import pad, per_axis

MOST_PHASES = 64
"""Largest number of phases; each of them is a convolution of its own. Above it, `gathered` is used instead."""


class Phase(Struct, frozen=True):
    """The outputs o = q stride + p of one residue p along an axis. They use the taps first + t step, for t < count.

    base: the input that the first tap reads for q = 0.
    """

    first: int
    step: int
    count: int
    base: int
    move: int  # how far the input moves back per tap

    def tap(self, t: Dim) -> Dim:
        """Return tap number t, counted from the last tap, so that the input index grows with t."""
        return self.first + (self.count - 1) * self.step - t * self.step

    def source(self, q: Dim, t: Dim) -> Dim:
        """Return the input that tap number t reads for output q of the phase."""
        return q + self.lowest + t * self.move

    @property
    def lowest(self) -> int:
        """Return the least input index that the phase reads for q = 0."""
        return self.base - (self.count - 1) * self.move


class TransposedAxis(Struct, frozen=True, dict=True):
    """One spatial axis: `extent` inputs become `out` outputs, after `before` outputs of the full result are cut off at the start."""

    extent: Dim
    size: int  # taps of the kernel
    stride: int
    dilation: int
    before: int
    out: Dim

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of the axis."""
        return phases(self.size, self.stride, self.dilation, self.before)

    @property
    def phase_size(self) -> Dim:
        """Return how many outputs a phase has; the last one of some phases may lie past the end."""
        return ceil_divide(self.out, self.stride)

    @property
    def lo(self) -> int:
        """Return how many elements of border the phases need before the input."""
        return max(0, *(-p.lowest for p in self.phases))

    @property
    def hi(self) -> Dim:
        """Return how many elements of border the phases need after the input."""
        return maximum(self.phase_size + max(p.base for p in self.phases) - self.extent, 0)


def phases(size: int, stride: int, dilation: int, lo: int) -> tuple[Phase, ...]:
    """Return the phase of each residue p of the outputs: its taps are those r for which p + lo - r dilation is a multiple of the
    stride.
    """
    common = math.gcd(stride, dilation)
    step, move = stride // common, dilation // common
    out = []
    for p in range(stride):
        taps = [r for r in range(size) if (p + lo - r * dilation) % stride == 0]
        base = (p + lo - taps[0] * dilation) // stride if taps else 0
        out.append(Phase(taps[0] if taps else 0, step, len(taps), base, move))
    return tuple(out)


def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute ConvTranspose: each input element adds its multiple of the kernel to the output, at i stride + r dilation - pad.

    x: T[n, c, *d], w: T[c, m / group, *k], b: T[m] -> T[n, m, *o]. Raises Fail if the shapes don't fit each other or kernel_shape,
    Unsupported if the kernel's size or a border is symbolic.
    """
    shapes = x.shape, w.shape, group
    if x.rank < 3 or w.rank != x.rank or group < 1 or len(kernel_shape or w.shape[2:]) != x.rank - 2:
        raise Fail(f"[ShapeInferenceError] transposed convolution of {list(x.shape)} by {list(w.shape)}, group {group}")
    require_equal(w.shape[0], x.shape[1], "transposed convolution of {} by {}, group {}: the channels differ", *shapes)
    require_equal(
        w.shape[0] % group, 0, "transposed convolution of {} by {}, group {}: the channels are not divisible by the group", *shapes
    )
    for n, asked in zip(w.shape[2:], kernel_shape or w.shape[2:], strict=True):
        require_equal(n, asked, "transposed convolution of {} by {}, group {}: kernel_shape is {}", *shapes, kernel_shape)
    rank = x.rank - 2
    borders = list(pads) if pads else [0] * (2 * rank)
    if len(borders) != 2 * rank:
        raise Fail(f"[ShapeInferenceError] Attribute pads has {len(borders)} numbers, not {2 * rank}")
    steps, dilation = per_axis("strides", strides, rank), per_axis("dilations", dilations, rank)
    extra = list(output_padding) if output_padding else [0] * rank
    if len(extra) != rank:
        raise Fail(f"[ShapeInferenceError] Attribute output_padding must be {rank} numbers, not {extra}")
    if output_shape and len(output_shape) not in (rank, x.rank):
        raise Fail(f"[ShapeInferenceError] Attribute output_shape must be {rank} numbers, not {output_shape}")
    asked_sizes = output_shape[-rank:] if output_shape else [None] * rank
    axes = [
        transposed_axis(
            x.shape[2 + a],
            w.shape[2 + a],
            steps[a],
            dilation[a],
            extra[a],
            (borders[a], borders[rank + a]),
            auto_pad,
            asked_sizes[a],
        )
        for a in range(rank)
    ]
    form = interleaved if math.prod(steps) <= MOST_PHASES else gathered
    y = form(x, w, axes, group)
    return y if b is None else pointwise(scalar.add, y, along_channels(b, y.rank))


def transposed_axis(
    n: Dim, size: Dim, stride: int, dilation: int, extra: int, pads: tuple[int, int], auto_pad: str, asked: int | None
) -> TransposedAxis:
    """Return one axis, from ONNX's attributes. asked: its output_shape, or None"""
    if not isinstance(size, int):
        raise Unsupported("ConvTranspose with a kernel of symbolic size")
    full = (n - 1) * stride + extra + (size - 1) * dilation + 1
    lo: Dim = pads[0]
    out: Dim = full - sum(pads)
    if asked is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        out = asked if asked is not None else n * stride
        total = maximum(full - out, 0)
        lo = total // 2 if auto_pad != "SAME_LOWER" else ceil_divide(total, 2)
    elif auto_pad == "VALID":
        lo, out = 0, full
    if not isinstance(lo, int):
        raise Unsupported("ConvTranspose with an output_shape for an input of symbolic size")
    require_nonnegative(out, "transposed convolution of {} elements gives the negative size {}", n, out)
    return TransposedAxis(n, size, stride, dilation, lo, out)


def gathered(x: Tensor, w: Tensor, axes: Sequence[TransposedAxis], group: int) -> Tensor:
    """Sum over all taps for each output, most of which reach no input. -> T[n, m, *o]. Used for strides so large that there would
    be too many phases.
    """
    compute_dtype = scalar.wide(x.dtype)

    def term(at_channel: Channel, o: Sequence[Dim], r: Sequence[Dim]) -> Expr:
        n, c, _, _, own = at_channel
        places = [i + a.before - k * a.dilation for a, i, k in zip(axes, o, r, strict=True)]
        guards = [g for a, p in zip(axes, places, strict=True) for g in (is_multiple(p, a.stride), inside(p // a.stride, a.extent))]
        read = at(
            x, (n, c, *(p // a.stride for a, p in zip(axes, places, strict=True))), functools.reduce(scalar.logical_and, guards)
        )
        return scalar.mul(scalar.cast(read, compute_dtype), scalar.cast(at(w, (c, own, *r)), compute_dtype))

    sizes = (x.shape[0], group, w.shape[0] // group, w.shape[1])
    return over_channels(x.dtype, sizes, [a.out for a in axes], [a.size for a in axes], term)


def is_multiple(place: Dim, of: int) -> Expr:
    """Return whether place is a multiple of `of`, as a bool expression."""
    return scalar.apply("eq", scalar.index(place % of), 0)


def interleaved(x: Tensor, w: Tensor, axes: Sequence[TransposedAxis], group: int) -> Tensor:
    """Compute all phases and interleave them by a view. -> T[n, m, *o]"""
    zero = constant(np.zeros((), x.dtype.numpy))
    source = pad(x, [0, 0, *(a.lo for a in axes)], [0, 0, *(a.hi for a in axes)], zero)
    if all(a.stride == 1 for a in axes):
        return one_phase(source, w, axes, [a.phases[0] for a in axes], group)
    images, channels = x.shape[0], group * w.shape[1]
    split = [e for a in axes for e in (a.phase_size, a.stride)]
    parts = []
    for chosen in itertools.product(*(range(a.stride) for a in axes)):
        y = one_phase(source, w, axes, [a.phases[p] for a, p in zip(axes, chosen, strict=True)], group)
        own = [e for a in axes for e in (a.phase_size, 1)]
        part = view(y, [images, channels, *own], lambda n, m, *i: (n, m, *i[::2]))
        parts.append((part, [0, 0, *(e for p in chosen for e in (0, p))]))
    whole = assemble(x.dtype, [images, channels, *split], parts)
    outs = [a.out for a in axes]

    def index(n: Dim, m: Dim, *o: Dim) -> list[Dim]:
        return [n, m, *(e for i, a in zip(o, axes, strict=True) for e in (i // a.stride, i % a.stride))]

    return view(whole, [images, channels, *outs], index)


def one_phase(x: Tensor, w: Tensor, axes: Sequence[TransposedAxis], chosen: Sequence[Phase], group: int) -> Tensor:
    """Compute one phase. x: T[n, c, *d], already padded -> T[n, m, *phase sizes]"""
    phase_size = [a.phase_size for a in axes]
    if any(p.count == 0 for p in chosen):
        return expand_to(constant(np.zeros((), x.dtype.numpy)), [x.shape[0], group * w.shape[1], *phase_size])
    compute_dtype = scalar.wide(x.dtype)

    def term(at_channel: Channel, q: Sequence[Dim], t: Sequence[Dim]) -> Expr:
        n, c, _, _, own = at_channel
        places = [a.lo + p.source(i, k) for a, p, i, k in zip(axes, chosen, q, t, strict=True)]
        taps = [p.tap(k) for p, k in zip(chosen, t, strict=True)]
        return scalar.mul(scalar.cast(at(x, (n, c, *places)), compute_dtype), scalar.cast(at(w, (c, own, *taps)), compute_dtype))

    sizes = (x.shape[0], group, w.shape[0] // group, w.shape[1])
    return over_channels(x.dtype, sizes, phase_size, [p.count for p in chosen], term)


IMAGE, KERNEL = reals(2, 4, 3, 4), reals(4, 3, 3, 2)

OPS = (
    Op(
        "ConvTranspose",
        since=1,
        lower=conv_transpose,
        reference=windows.conv_transpose,
        tolerance=1e-5,
        cases=(
            Case((IMAGE, KERNEL, reals(3))),
            Case((IMAGE, KERNEL), {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]}, "strides"),
            Case((IMAGE, KERNEL), {"strides": [2, 2], "dilations": [2, 3], "pads": [1, 1, 2, 0]}, "dilations"),
            Case((IMAGE, KERNEL), {"strides": [3, 2], "auto_pad": "SAME_UPPER"}, "same_upper"),
            Case((IMAGE, KERNEL), {"strides": [2, 1], "auto_pad": "SAME_LOWER"}, "same_lower"),
            Case((IMAGE, KERNEL), {"strides": [2, 2], "output_shape": [8, 8]}, "output_shape"),
            Case((IMAGE, reals(4, 2, 2, 2), reals(4)), {"strides": [2, 2], "group": 2}, "groups"),
            Case((IMAGE, KERNEL, reals(3)), {"strides": [9, 11], "pads": [1, 0, 2, 1], "dilations": [2, 1]}, "many_phases"),
            Case((IMAGE, reals(4, 2, 2, 2)), {"strides": [40, 3], "group": 2, "output_padding": [2, 1]}, "many_phases_groups"),
            Case((IMAGE, reals(4, 1, 3, 3)), {"strides": [2, 2], "group": 4}, "depthwise"),
            Case((reals(1, 2, 5), reals(2, 3, 4)), {"strides": [3]}, "one_axis"),
            Case((reals(1, 2, 2, 3, 2), reals(2, 2, 2, 1, 2)), {"strides": [2, 1, 1]}, "three_axes"),
        ),
    ),
)
