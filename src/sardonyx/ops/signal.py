"""Fourier transforms (DFT, STFT), window functions, MelWeightMatrix.

A complex number is an axis of size 2 (real, imaginary) at the end. A transform of N points is a product with a constant matrix. If
N is known and N = N1 N2, it is computed in two steps of N1 and N2 points (Cooley and Tukey), each again divided in the same way:

    n = n1 N2 + n2,  k = k1 + N1 k2:   X[k] = sum over n2 of (w^(n2 k1) sum over n1 of x[n] w1^(n1 k1)) w2^(n2 k2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sardonyx.base.dtypes import DType, f64, i64, of_code
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, minimum
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.known import known, only
from sardonyx.expr.require import require_equal, require_nonnegative
from sardonyx.expr.tensor import Read, Tensor, compute, constant
from sardonyx.loop.nodes import Const, Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.pointwise import normal_axis, reduce, view
from sardonyx.ops.ranks import require_ranks
from sardonyx.ops.record import Case, Op, Rule

SMALL = 32
"""Transforms of at most this many points are one matrix product."""
LARGEST_TABLE = 1 << 22
"""Largest number of elements of a table that is computed when the model is loaded. Elements of larger tables are computed where
they are read.
"""
MOST_DIVISORS = 1 << 20
"""Largest number of divisors that are tried, so that a model which merely claims a huge length is loaded in bounded time."""


# ---- transforms of the axis before the last ----------------------------------------------------------------------------------


def transform(x: Tensor, sign: int) -> Tensor:
    """Compute sum over n of x[n] exp(sign 2 pi i n k / N) along the axis before the last. x: T[*d, N, 1 or 2] (real or complex) ->
    T[*d, N, 2]
    """
    n, parts = x.shape[-2:]
    if not isinstance(n, int) or not isinstance(parts, int):
        return multiplied(x, symbolic_matrix(n, parts, sign, x.dtype))
    first = factor(n)
    if n <= SMALL or first == n:
        small = 2 * parts * n * n <= LARGEST_TABLE
        return multiplied(x, constant(matrix(n, parts, sign, x.dtype)) if small else symbolic_matrix(n, parts, sign, x.dtype))
    return cooley_tukey(x, first, n // first, sign)


def factor(n: int) -> int:
    """Return the least divisor of n that is at least its square root: n itself for a prime. For huge n it may be a greater divisor."""
    return next(n // d for d in range(min(math.isqrt(max(n, 1)), MOST_DIVISORS), 0, -1) if n % d == 0) if n else n


def multiplied(x: Tensor, f: Tensor) -> Tensor:
    """Multiply by a transform's matrix. x: T[*d, n, c], f: T[n, c, k, o] -> T[*d, k, o]"""
    n, parts, k, o = f.shape
    outer = x.rank - 2
    compute_dtype = scalar.wide(x.dtype)

    def term(*i: Dim) -> Expr:
        own, (to, part, point, c) = i[:outer], i[outer:]
        return scalar.mul(
            scalar.cast(at(x, (*own, point, c)), compute_dtype), scalar.cast(at(f, (point, c, to, part)), compute_dtype)
        )

    return reduce("add", x.dtype, [*x.shape[:-2], k, o], [n, parts], term)


def matrix(n: int, parts: int, sign: int, dtype: DType) -> np.ndarray:
    """Return exp(sign 2 pi i n k / N) as a real matrix from (n, part) to (k, part). -> [n, parts, n, 2]"""
    k = np.arange(n)
    angle = np.outer(k, k) % n * (2 * math.pi / n)
    cos, sin = np.cos(angle), sign * np.sin(angle)
    rows = [np.stack([cos, sin], -1), np.stack([-sin, cos], -1)]
    return np.stack(rows if parts == 2 else rows[:1], 1).astype(dtype.numpy)


def symbolic_matrix(n: Dim, parts: Dim, sign: int, dtype: DType) -> Tensor:
    """Return what `matrix` returns, as a tensor whose elements are computed where they are read: for n that only the run knows."""

    def body(point: Dim, c: Dim, k: Dim, part: Dim) -> Expr:
        angle = angle_of(point * k % n, n)
        cos, sin = scalar.apply("cos", angle), scalar.mul(scalar.apply("sin", angle), sign)
        same = scalar.apply("eq", scalar.index(c), scalar.index(part))
        off = scalar.select(scalar.apply("eq", scalar.index(c), 0), sin, scalar.negate(sin))
        return scalar.cast(scalar.select(same, cos, off), dtype)

    return compute(dtype, [n, parts, n, 2], body)


def angle_of(k: Dim, n: Dim) -> Expr:
    """Return 2 pi k / n in f64."""
    share = scalar.div(scalar.cast(scalar.index(k), f64), scalar.cast(scalar.index(n), f64))
    return scalar.mul(share, 2 * math.pi)


def cooley_tukey(x: Tensor, n1: int, n2: int, sign: int) -> Tensor:
    """Compute a transform of n1 n2 points: DFTs of n1 points, twiddle factors, DFTs of n2 points. x: T[*d, n1 n2, c] -> T[*d, n1
    n2, 2]
    """
    outer, parts = list(x.shape[:-2]), x.shape[-1]
    split = view(x, [*outer, n2, n1, parts], lambda *i: (*i[:-3], i[-2] * n2 + i[-3], i[-1]))
    a = transform(split, sign)  # [*d, n2, k1, 2]
    twiddle = twiddles(n1, n2, sign, x.dtype)

    def twisted(*i: Dim) -> Expr:
        """Return an element of a w^(n2 k1), in the order [*d, k1, n2, part]."""
        own, (k, point, part) = i[:-3], i[-3:]
        real, imaginary = at(a, (*own, point, k, 0)), at(a, (*own, point, k, 1))
        cos, sin = at(twiddle, (point, k, 0)), at(twiddle, (point, k, 1))
        re = scalar.sub(scalar.mul(real, cos), scalar.mul(imaginary, sin))
        im = scalar.add(scalar.mul(real, sin), scalar.mul(imaginary, cos))
        return scalar.select(scalar.apply("eq", scalar.index(part), 0), re, im)

    y = transform(compute(x.dtype, [*outer, n1, n2, 2], twisted), sign)  # [*d, k1, k2, 2]
    return view(y, [*outer, n1 * n2, 2], lambda *i: (*i[:-2], i[-2] % n1, i[-2] // n1, i[-1]))


def twiddles(n1: int, n2: int, sign: int, dtype: DType) -> Tensor:
    """Return the twiddle factors exp(sign 2 pi i n k / (n1 n2)). -> T[n2, n1, 2]"""
    if 2 * n1 * n2 <= LARGEST_TABLE:
        angle = np.outer(np.arange(n2), np.arange(n1)) * (2 * math.pi / (n1 * n2))
        return constant(np.stack([np.cos(angle), sign * np.sin(angle)], -1).astype(dtype.numpy))

    def body(point: Dim, k: Dim, part: Dim) -> Expr:
        angle = angle_of(point * k, n1 * n2)
        cos, sin = scalar.apply("cos", angle), scalar.mul(scalar.apply("sin", angle), sign)
        return scalar.cast(scalar.select(scalar.apply("eq", scalar.index(part), 0), cos, sin), dtype)

    return compute(dtype, [n2, n1, 2], body)


# ---- DFT -------------------------------------------------------------------------------------------------------------------


def dft(x: Tensor, dft_length: Tensor | None = None, axis: Tensor | None = None, inverse: int = 0, onesided: int = 0) -> Tensor:
    """Compute DFT: the Fourier transform along an axis (by default the one before the last), truncated or zero-padded to
    dft_length. x: T[*d, 1 or 2] -> T[*d', 2]

    onesided: the first half of the spectrum of a real x; with inverse the real signal T[*d', 1] of half a spectrum.
    Raises Unsupported if only the run knows the axis, Fail for impossible axes and lengths.
    """
    where = -2
    if axis is not None:
        numbers = known(axis)
        if numbers is None:
            raise Unsupported("DFT along an axis that is not known before the run")
        where = int(only(axis, "the axis of DFT"))  # type: ignore[arg-type]
    return dft_17(x, dft_length, where, inverse, onesided)


def dft_17(x: Tensor, dft_length: Tensor | None = None, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Tensor:
    """DFT before opset 20, where the axis is an attribute."""
    along = normal_axis(axis, x.rank)
    if along == x.rank - 1:
        raise Fail("DFT along the axis of real and imaginary parts")
    if x.shape[along] == 0:
        raise Fail(f"DFT along an empty axis of {x}")
    spectrum = moved_to_end(x, along)
    length = scalar_size(dft_length) if dft_length is not None else default_length(spectrum.shape[-2], bool(inverse and onesided))
    require_parts(x)
    require_nonnegative(length - 1, "DFT of length {} of {}; the length must be positive", length, x.shape)
    y = one_axis(spectrum, length, bool(inverse), bool(onesided))
    return moved_back(y, along)


def scalar_size(t: Tensor) -> Dim:
    """Return the size that a tensor of one element holds."""
    return only(t, "a length")


def require_parts(x: Tensor) -> None:
    """Require that the last axis holds a real part, or a real and an imaginary part."""
    n = x.shape[-1]
    require_equal((n - 1) * (n - 2), 0, "the last axis of {} must have 1 or 2 parts", x.shape)


def default_length(n: Dim, from_half: bool) -> Dim:
    """Return the length of the signal: n, or 2 (n - 1) if x is half a spectrum."""
    return 2 * (n - 1) if from_half else n


def one_axis(x: Tensor, length: Dim, inverse: bool, onesided: bool) -> Tensor:
    """Transform x along the axis before the last. x: T[*d, n, 1 or 2] -> T[*d, length or length // 2 + 1, 1 or 2]"""
    if not inverse:
        y = transform(resized(x, length), -1)
        return view(y, [*y.shape[:-2], length // 2 + 1, 2], lambda *i: i) if onesided else y
    source = mirrored(resized(x, length // 2 + 1), length) if onesided else resized(x, length)
    y = transform(source, 1)
    count = scalar.cast(scalar.index(length), scalar.wide(x.dtype))
    shape = [*y.shape[:-1], 1] if onesided else y.shape
    return compute(x.dtype, shape, lambda *i: scalar.div(at(y, i), scalar.cast(count, x.dtype)))


def resized(x: Tensor, length: Dim) -> Tensor:
    """Truncate or zero-pad x to `length` points. T[*d, n, c] -> T[*d, length, c]"""
    n = x.shape[-2]
    if n == length:
        return x
    shape = [*x.shape[:-2], length, x.shape[-1]]
    if isinstance(n, int) and isinstance(length, int) and length < n:
        return view(x, shape, lambda *i: i)
    return compute(x.dtype, shape, lambda *i: Read(x, i, scalar.apply("lt", scalar.index(i[-2]), scalar.index(n))))


def mirrored(x: Tensor, length: Dim) -> Tensor:
    """Complete the spectrum of a real signal from its first half: X[length - k] is the conjugate of X[k]. -> T[*d, length, 2]"""

    def body(*i: Dim) -> Expr:
        k, part = i[-2:]
        e = at(x, (*i[:-2], minimum(k, length - k), part))
        beyond = scalar.apply("gt", scalar.index(2 * k), scalar.index(length))
        flipped = scalar.logical_and(beyond, scalar.apply("eq", scalar.index(part), 1))
        return scalar.select(flipped, scalar.negate(e), e)

    return compute(x.dtype, [*x.shape[:-2], length, 2], body)


def moved_to_end(x: Tensor, axis: int) -> Tensor:
    """Move the axis to the place before the last axis."""
    shape = [n for a, n in enumerate(x.shape) if a != axis]
    shape.insert(x.rank - 2, x.shape[axis])
    return view(x, shape, lambda *i: (*i[:axis], i[-2], *i[axis:-2], i[-1]))


def moved_back(y: Tensor, axis: int) -> Tensor:
    """Move the axis before the last back to its place `axis`."""
    shape = [*y.shape[:-2], y.shape[-1]]
    shape.insert(axis, y.shape[-2])
    return view(y, shape, lambda *i: (*i[:axis], *i[axis + 1 : -1], i[axis], i[-1]))


def stft(
    signal: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None, onesided: int = 1
) -> Tensor:
    """Compute STFT: the transform of each frame times the window. signal: T[b, n, 1 or 2] or T[b, n], window: T[l] -> T[b, frames,
    l or l // 2 + 1, 2]

    Frame f begins at f frame_step. Raises Fail for lengths that don't fit.
    """
    if signal.rank == 2:
        signal = view(signal, [*signal.shape, 1], lambda b, n, _: (b, n))
    require_ranks("STFT of a signal of shape {} by a window of shape {}", (signal, 3), (window, 1))
    require_parts(signal)
    length: Dim = signal.shape[1]
    if window is not None:
        length = window.shape[0]
    if frame_length is not None:
        given = scalar_size(frame_length)
        if window is not None:
            require_equal(given, length, "frame_length {} differs from the window's length {}", given, length)
        length = given
    require_nonnegative(length - 1, "STFT by frames of length {}, which must be positive", length)
    step = scalar_size(frame_step)
    require_nonnegative(step - 1, "STFT with a step of {}, which must be positive", step)
    frames = (signal.shape[1] - length) // step + 1

    def framed(b: Dim, f: Dim, n: Dim, c: Dim) -> Expr:
        e = at(signal, (b, f * step + n, c))
        return e if window is None else scalar.mul(e, at(window, (n,)))

    x = compute(signal.dtype, [signal.shape[0], frames, length, signal.shape[2]], framed)
    return one_axis(x, length, inverse=False, onesided=bool(onesided))


# ---- windows and mel weights -------------------------------------------------------------------------------------------------


def cosine_window(weights: Sequence[float]) -> Callable[..., Tensor]:
    """Return the operator of a window function: sum over j of weights[j] cos(2 pi j n / N). size: i64[] -> T[size]

    N is the size, or size - 1 if the window is not periodic.
    """

    def window(size: Tensor, periodic: int = 1, output_datatype: int = 1) -> Tensor:
        n = scalar_size(size)
        dtype = of_code(output_datatype)

        def body(i: Dim) -> Expr:
            out: Expr = Const(weights[0], f64)
            for j, w in enumerate(weights[1:], 1):
                out = scalar.add(out, scalar.mul(scalar.apply("cos", angle_of(j * i, n if periodic else n - 1)), w))
            return scalar.cast(out, dtype)

        return compute(dtype, [n], body)

    return window


def mel_weight_matrix(
    num_mel_bins: Tensor,
    dft_length: Tensor,
    sample_rate: Tensor,
    lower_edge_hertz: Tensor,
    upper_edge_hertz: Tensor,
    output_datatype: int = 1,
) -> Tensor:
    """Compute MelWeightMatrix: triangular filters over the bins of a spectrum, evenly spaced on the mel scale. -> T[dft_length // 2
    + 1, num_mel_bins]
    """
    bands, length, rate = (scalar_size(t) for t in (num_mel_bins, dft_length, sample_rate))
    low, high = (mel(scalar.cast(at(t, ()), f64)) for t in (lower_edge_hertz, upper_edge_hertz))
    step = scalar.div(scalar.sub(high, low), scalar.cast(scalar.index(bands + 2), f64))

    def corner(k: Dim) -> Expr:
        """Return the bin of the frequency at corner k of the triangles."""
        place = scalar.add(scalar.mul(scalar.cast(scalar.index(k), f64), step), low)
        hertz = scalar.mul(scalar.apply("expm1", scalar.mul(place, math.log(10) / 2595)), 700)
        share = scalar.div(scalar.mul(hertz, scalar.cast(scalar.index(length + 1), f64)), scalar.cast(scalar.index(rate), f64))
        return scalar.cast(scalar.apply("floor", share), i64)

    corners = compute(i64, [bands + 2], corner)
    dtype = of_code(output_datatype)

    def weight(j: Dim, band: Dim) -> Expr:
        left, centre, right = (at(corners, (band + k,)) for k in range(3))
        here = scalar.index(j)
        up = scalar.select(scalar.apply("ge", here, left), share_of(here, left, centre, left), 0)
        down = scalar.select(scalar.apply("lt", here, right), share_of(right, here, right, centre), 0)
        slope = scalar.select(scalar.apply("lt", here, centre), up, down)
        return scalar.cast(scalar.select(scalar.apply("eq", here, centre), 1, slope), dtype)

    return compute(dtype, [length // 2 + 1, bands], weight)


def mel(hertz: Expr) -> Expr:
    """Convert a frequency to mel: 2595 log10(1 + f / 700)."""
    return scalar.mul(scalar.apply("log1p", scalar.div(hertz, 700)), 2595 / math.log(10))


def share_of(a: Expr, b: Expr, c: Expr, d: Expr) -> Expr:
    """Compute (a - b) / (c - d) of integers, in f64."""
    return scalar.div(scalar.cast(scalar.sub(a, b), f64), scalar.cast(scalar.sub(c, d), f64))


def whole(n: int) -> np.ndarray:
    return np.array(n, np.int64)


def window_cases() -> tuple[Case, ...]:
    return Case((whole(10),)), Case((whole(9),), {"periodic": 0}), Case((whole(8),), {"output_datatype": 11})


OPS = (
    Op(
        "DFT",
        since=20,
        lower=dft,
        tolerance=1e-4,
        cases=(
            Case((reals(2, 5, 1),)),
            Case((reals(2, 60, 2), None, whole(1)), {"inverse": 1}, "steps"),
            Case((reals(2, 96, 1),), {"onesided": 1}, "half"),
            Case((reals(2, 5, 2),), {"inverse": 1, "onesided": 1}, "from_half"),
            Case((reals(7, 3, 2), whole(9), whole(0)), name="filled"),
            Case((reals(7, 3, 2), whole(4), whole(-3)), name="cut"),
        ),
    ),
    Op("DFT", since=17, lower=dft_17, tolerance=1e-4, cases=(Case((reals(2, 6, 2),)), Case((reals(2, 6, 1),), {"onesided": 1}))),
    Op(
        "STFT",
        since=17,
        lower=stft,
        tolerance=1e-4,
        cases=(
            Case((reals(2, 40, 1), whole(8), reals(16))),
            Case((reals(2, 40, 2), whole(6), None, whole(10)), {"onesided": 0}),
            Case((reals(2, 40), whole(7), reals(16)), name="real"),
        ),
    ),
    Op("HannWindow", since=17, lower=cosine_window((0.5, -0.5)), gradient=Rule.NONE, cases=window_cases()),
    Op("HammingWindow", since=17, lower=cosine_window((25 / 46, -21 / 46)), gradient=Rule.NONE, cases=window_cases()),
    Op("BlackmanWindow", since=17, lower=cosine_window((0.42, -0.5, 0.08)), gradient=Rule.NONE, cases=window_cases()),
    Op(
        "MelWeightMatrix",
        since=17,
        lower=mel_weight_matrix,
        gradient=Rule.NONE,
        cases=(Case((whole(8), whole(64), whole(8192), np.array(50, np.float32), np.array(4000, np.float32))),),
    ),
)
