"""Products of quantised numbers: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.

    sum (a - za) (b - zb)  =  sum a b  -  zb sum a  -  za sum b  +  k za zb

The first sum on the right is a contraction of the integers as they are stored. The other terms correct it for the zero points za
and zb; they need sums of one operand only, and are omitted where a zero point is known to be 0. All arithmetic is i32 modulo 2^32,
so the result is exact whenever the left side fits in i32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sardonyx.base.dtypes import f32, i32
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.known import known
from sardonyx.expr.require import require_same
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import linalg
from sardonyx.ops.cases import integers
from sardonyx.ops.conv import Channel, conv_windows, convolve, over_channels
from sardonyx.ops.pointwise import reduce, view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.windows import Window, pad

Place = Callable[[Sequence[Dim]], Expr]
"""Function from the index of an output to an i32 value."""


def integer(x: Tensor, *index: Dim) -> Expr:
    """Return an element of x as i32."""
    return scalar.cast(at(x, index), i32)


def is_zero(zero_point: Tensor | None) -> bool:
    """Return whether the zero point is known to be 0, or absent."""
    if zero_point is None:
        return True
    numbers = known(zero_point)
    return numbers is not None and all(n == 0 for n in numbers.flat)


def corrected(sums: Tensor, count: Dim, a: tuple[Tensor | None, Place, Place], b: tuple[Tensor | None, Place, Place]) -> Tensor:
    """Correct a sum of products for the zero points: sums - zb sum a - za sum b + count za zb. -> i32[*d]

    a, b: for each operand its zero point, and functions from an output's index to the zero point and to the operand's sum there.
    count: the number of summed products.
    """
    has_a, has_b = not is_zero(a[0]), not is_zero(b[0])
    if not has_a and not has_b:
        return sums

    def body(*i: Dim) -> Expr:
        out = at(sums, i)
        if has_b:
            out = scalar.sub(out, scalar.mul(b[1](i), a[2](i)))
        if has_a:
            out = scalar.sub(out, scalar.mul(a[1](i), b[2](i)))
        if has_a and has_b:
            both = scalar.mul(a[1](i), b[1](i))
            out = scalar.add(out, scalar.mul(both, scalar.cast(scalar.index(count), i32)))
        return out

    return compute(i32, sums.shape, body)


# ---- matrices --------------------------------------------------------------------------------------------------------------


def matmul_integer(a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None) -> Tensor:
    """Compute MatMulInteger: (a - a_zero_point) (b - b_zero_point) in i32. a: T[*batch, m, k], b: U[*batch, k, n] -> i32[*batch, m,
    n]

    a_zero_point: a scalar, T[m] or T[*batch, m, 1]; b_zero_point: a scalar, U[n] or U[*batch, 1, n].
    """
    refuse_floats(a, b)
    y = shifted_product(linalg.as_rows(a), linalg.as_columns(b), a_zero_point, b_zero_point)
    return linalg.without_vector_axes(y, a, b)


def refuse_floats(*operands: Tensor) -> None:
    """Raise Unsupported unless all operands are integers."""
    for t in operands:
        if not t.dtype.is_integer:
            raise Unsupported(f"quantised product of {t.dtype}")


def shifted_product(a: Tensor, b: Tensor, za: Tensor | None, zb: Tensor | None) -> Tensor:
    """Compute (a - za) (b - zb). a: T[*batch, m, k], b: U[*batch, k, n] -> i32[*batch, m, n]"""
    y = linalg.product(a, b, i32)
    for z, one_each in ((za, a.shape[-2:-1]), (zb, b.shape[-1:])):
        if z is not None and z.rank == 1 and z.shape != (1,):
            require_same(z.shape, one_each, "zero points {} do not fit a product of {} and {}", z.shape, a.shape, b.shape)
    k = a.shape[-1]
    sums_a = reduce("add", i32, a.shape[:-1], [k], lambda *i: integer(a, *i))
    sums_b = reduce("add", i32, [*b.shape[:-2], b.shape[-1]], [k], lambda *i: integer(b, *i[:-2], i[-1], i[-2]))
    shift_a, shift_b = row_wise(present(za)), present(zb)
    by_row = (za, lambda i: integer(shift_a, *i), lambda i: integer(sums_a, *i[:-1]))
    by_column = (zb, lambda i: integer(shift_b, *i), lambda i: integer(sums_b, *i[:-2], i[-1]))
    return corrected(y, k, by_row, by_column)


def present(zero_point: Tensor | None) -> Tensor:
    """Return the zero point, or a constant 0 if it is absent."""
    return zero_point if zero_point is not None else constant(np.zeros((), np.int32))


def row_wise(t: Tensor) -> Tensor:
    """Reshape numbers per row so that they broadcast over [..., m, n]: a vector T[m] becomes T[m, 1]."""
    return view(t, [*t.shape, 1], lambda i, _: (i,)) if t.rank == 1 else t


def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    """Compute QLinearMatMul: quantise (a - za) (b - zb) a_scale b_scale to V with y_scale and y_zero_point.

    a: T[*batch, m, k], b: U[*batch, k, n]; scales and zero points: one, or one per row of a and per column of b -> V[*batch, m, n]
    """
    refuse_floats(a, b, y_zero_point)
    if a.rank < 2 or b.rank < 2:
        raise Unsupported(f"QLinearMatMul of {list(a.shape)} and {list(b.shape)}")
    sums = shifted_product(a, b, a_zero_point, b_zero_point)
    for s, one_each in ((a_scale, a.shape[-2:-1]), (b_scale, b.shape[-1:])):
        if s.rank == 1 and s.shape != (1,):
            require_same(s.shape, one_each, "scales {} do not fit a product of {} and {}", s.shape, a.shape, b.shape)
    sa, sb, sy = row_wise(a_scale), b_scale, single(y_scale)

    def factor(i: Sequence[Dim]) -> Expr:
        both = scalar.mul(scalar.cast(at(sa, i), f32), scalar.cast(at(sb, i), f32))
        return scalar.div(both, scalar.cast(at(sy, i), f32))

    return requantised(sums, factor, y_zero_point)


def single(t: Tensor) -> Tensor:
    """Return a tensor of one element as a scalar."""
    return view(t, [], lambda: [0] * t.rank)


def requantised(sums: Tensor, factor: Callable[[Sequence[Dim]], Expr], zero_point: Tensor) -> Tensor:
    """Compute round(sums factor) + zero_point, saturated to the zero point's dtype. sums: i32[*d] -> T[*d]"""
    offset, dtype = single(zero_point), zero_point.dtype
    limits = np.iinfo(dtype.numpy)

    def body(*i: Dim) -> Expr:
        y = scalar.apply("rint", scalar.mul(scalar.cast(at(sums, i), f32), factor(i)))
        y = scalar.add(y, scalar.cast(at(offset, i), f32))
        return scalar.cast(scalar.minimum(scalar.maximum(y, int(limits.min)), int(limits.max)), dtype)

    return compute(dtype, sums.shape, body)


# ---- convolutions ----------------------------------------------------------------------------------------------------------


def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute ConvInteger: the convolution of x - x_zero_point with w - w_zero_point.

    x: T[n, c, *d], w: U[m, c / group, *k], x_zero_point: T[], w_zero_point: U[] or U[m] -> i32[n, m, *o]
    """
    refuse_floats(x, w)
    axis_windows = conv_windows(x, w, group, auto_pad, dilations, kernel_shape, pads, strides)
    return shifted_convolution(x, w, x_zero_point, w_zero_point, axis_windows, group)


def shifted_convolution(
    x: Tensor, w: Tensor, zx: Tensor | None, zw: Tensor | None, axis_windows: Sequence[Window], group: int
) -> Tensor:
    """Convolve x - zx with w - zw. x is padded with zx, which stands for 0. -> i32[n, m, *o]"""
    fill = single(zx) if zx is not None else constant(np.zeros((), x.dtype.numpy))
    lo, hi = [0, 0, *(window.lo for window in axis_windows)], [0, 0, *(window.hi for window in axis_windows)]
    source = pad(x, lo, hi, fill)
    sums = convolve(source, w, axis_windows, group, i32)
    taps = [window.size for window in axis_windows]
    each = w.shape[0] // group

    def window_term(at_channel: Channel, o: Sequence[Dim], r: Sequence[Dim]) -> Expr:
        places = [window.position(i, k) for window, i, k in zip(axis_windows, o, r, strict=True)]
        return integer(source, at_channel[0], at_channel[1], *places)

    windows_of_x = over_channels(
        i32, (x.shape[0], group, w.shape[1], 1), [window.out for window in axis_windows], taps, window_term
    )
    sums_of_w = reduce("add", i32, [w.shape[0]], [*taps, w.shape[1]], lambda m, *r: integer(w, m, r[-1], *r[:-1]))
    of_x = (zx, lambda i: integer(fill), lambda i: integer(windows_of_x, i[0], i[1] // each, *i[2:]))
    shift_w = present(zw)
    if zw is not None and zw.rank == 1 and zw.shape != (1,):
        require_same(zw.shape, w.shape[:1], "zero points {} do not fit weights {}", zw.shape, w.shape)
    of_w = (zw, lambda i: per_channel(shift_w, i[1]), lambda i: integer(sums_of_w, i[1]))
    return corrected(sums, product([*taps, w.shape[1]]), of_x, of_w)


def per_channel(t: Tensor, m: Dim) -> Expr:
    """Return the number of output channel m as i32, from a scalar or from one number per channel. Raises Fail for more axes."""
    if t.rank > 1:
        raise Fail(f"[ShapeInferenceError] numbers per channel must be a vector, not of shape {list(t.shape)}")
    return integer(t, m) if t.rank else integer(t)


def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    b: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Compute QLinearConv: quantise the convolution of x - x_zero_point with w - w_zero_point, plus b, to V.

    x: T[n, c, *d], w: U[m, c / group, *k], w_scale and w_zero_point: one, or one per output channel, b: i32[m] -> V[n, m, *o]
    """
    refuse_floats(x, w, y_zero_point)
    axis_windows = conv_windows(x, w, group, auto_pad, dilations, kernel_shape, pads, strides)
    sums = shifted_convolution(x, w, x_zero_point, w_zero_point, axis_windows, group)
    if b is not None:
        plain = sums
        sums = compute(i32, plain.shape, lambda *i: scalar.add(at(plain, i), at(b, (i[1],))))
    if w_scale.rank > 1:
        raise Fail(f"[ShapeInferenceError] scales of shape {list(w_scale.shape)} do not fit weights {list(w.shape)}")
    sx, sy = single(x_scale), single(y_scale)

    def factor(i: Sequence[Dim]) -> Expr:
        own = at(w_scale, (i[1],) if w_scale.rank else ())
        return scalar.div(scalar.mul(at(sx, i), own), at(sy, i))

    return requantised(sums, factor, y_zero_point)


A, B = integers(2, 3, 5, dtype=np.uint8, lo=0, hi=255), integers(5, 4, dtype=np.int8, lo=-128, hi=127)
X, W = integers(2, 4, 5, 6, dtype=np.uint8, lo=0, hi=255), integers(6, 2, 3, 3, dtype=np.int8, lo=-128, hi=127)
SCALE, SHIFT_U, SHIFT_I = np.array(0.02, np.float32), np.array(128, np.uint8), np.array(-3, np.int8)
COARSE, FINE = np.array(3.5, np.float32), np.array([0.01, 0.02, 0.03, 0.01, 0.005, 0.02], np.float32)
NOTHING = np.array(0, np.int8)

OPS = (
    Op(
        "MatMulInteger",
        since=10,
        lower=matmul_integer,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((A, B)),
            Case((A, B, SHIFT_U, SHIFT_I)),
            Case((A, B, None, integers(4, dtype=np.int8)), name="per_column"),
            Case((A[0, 0], B[:, 1], SHIFT_U), name="vectors"),
            Case((np.zeros((2, 0), np.uint8), np.zeros((0, 3), np.int8), SHIFT_U), name="nothing_to_sum"),
        ),
    ),
    Op(
        "QLinearMatMul",
        since=10,
        lower=qlinear_matmul,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((A, SCALE, SHIFT_U, B, SCALE, SHIFT_I, COARSE, SHIFT_I)),
            Case((A, SCALE, SHIFT_U, B, FINE[:4], integers(4, dtype=np.int8), SCALE, SHIFT_U), name="per_column"),
        ),
    ),
    Op(
        "ConvInteger",
        since=10,
        lower=conv_integer,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((X, W, SHIFT_U), {"group": 2, "pads": [1, 1, 1, 1]}),
            Case((X[:, :2], W, SHIFT_U, integers(6, dtype=np.int8)), {"strides": [2, 1], "pads": [0, 1, 2, 0]}, "per_channel"),
        ),
    ),
    Op(
        "QLinearConv",
        since=10,
        lower=qlinear_conv,
        gradient=Rule.NONE,
        quantised=Rule.NONE,
        cases=(
            Case((X, SCALE, SHIFT_U, W, SCALE, NOTHING, COARSE, SHIFT_U), {"group": 2, "pads": [1, 1, 1, 1]}),
            Case((X[:, :2], SCALE, SHIFT_U, W, FINE, integers(6, dtype=np.int8), COARSE, SHIFT_U, integers(6, dtype=np.int32))),
        ),
    ),
)
