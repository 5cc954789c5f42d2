"""Resize and Upsample: each axis is resized separately, each output being a weighted sum of a few neighbouring inputs.

For an axis of n inputs and m outputs, `COORDINATES` gives the coordinate of output i in the input. From it follow two small tensors
of shape [m, taps]: the neighbours' indices and their weights. Mode "nearest" has one neighbour and no weight; for an integer scale
it is a plain index map.
Coordinates are computed in f32, as the scales are, but in f64 where the data are f64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from sardonyx.base.dtypes import DType, f32, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, ceil_divide, maximum, minimum
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.known import elements, known, listed
from sardonyx.expr.tensor import Tensor, compute, constant
from sardonyx.loop.nodes import Const, Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.pointwise import along, cast, div, normal_axes, reduce, view
from sardonyx.ops.record import Case, Op
from sardonyx.ops.reference import images


class ResizedAxis(Struct, frozen=True):
    """How one axis is resized from n to m elements.

    factor: the scale in f32, as given, or m / n if sizes are given (by_size). exact: the scale, if it is known now.
    region: start and end of the region of interest, as fractions of the axis. dtype: that of coordinates.
    """

    axis: int
    n: Dim
    m: Dim
    factor: Expr
    exact: float | None
    region: tuple[Expr, Expr]  # start and end of the region of interest, as fractions of the axis
    by_size: bool = False
    dtype: DType = f32

    def number(self, n: Dim) -> Expr:
        return number(n, self.dtype)

    @property
    def scale(self) -> Expr:
        if self.by_size and self.dtype is not f32:
            return scalar.div(self.number(self.m), self.number(self.n))
        return scalar.cast(self.factor, self.dtype)

    @property
    def start(self) -> Expr:
        return scalar.cast(self.region[0], self.dtype)

    @property
    def end(self) -> Expr:
        return scalar.cast(self.region[1], self.dtype)

    @property
    def inputs(self) -> Expr:
        return self.number(self.n)

    @property
    def outputs(self) -> Expr:
        """Return the output length: m if sizes are given, else n scale before it is rounded down."""
        return self.number(self.m) if self.by_size else scalar.mul(self.scale, self.inputs)

    @property
    def unchanged(self) -> bool:
        return self.n == self.m and self.exact == 1


def number(n: Dim, dtype: DType = f32) -> Expr:
    """Convert a size to a float."""
    return scalar.cast(scalar.index(n), dtype)


# ---- coordinates -----------------------------------------------------------------------------------------------------------


def half_pixel(i: Expr, w: ResizedAxis) -> Expr:
    """Compute (i + 0.5) / scale - 0.5."""
    return scalar.sub(scalar.div(scalar.add(i, 0.5), w.scale), 0.5)


def half_pixel_symmetric(i: Expr, w: ResizedAxis) -> Expr:
    """Compute half_pixel, shifted so that the centres of input and output coincide although m was rounded down from n scale."""
    adjustment = scalar.div(w.number(w.m), w.outputs)
    offset = scalar.mul(scalar.mul(w.inputs, 0.5), scalar.sub(1, adjustment))
    return scalar.add(offset, half_pixel(i, w))


def pytorch_half_pixel(i: Expr, w: ResizedAxis) -> Expr:
    """Compute half_pixel, or 0 if there is one output."""
    return scalar.select(scalar.apply("gt", w.number(w.m), 1), half_pixel(i, w), 0)


def asymmetric(i: Expr, w: ResizedAxis) -> Expr:
    """Compute i / scale."""
    return scalar.div(i, w.scale)


def align_corners(i: Expr, w: ResizedAxis) -> Expr:
    """Compute i (n - 1) / (length - 1), so that the last output lies on the last input, as in PyTorch and onnxruntime.

    length is m, or n scale without rounding if the scale is less than 1: ONNX's own test cases demand that. It gives 0 for length
    1.
    """
    length = scalar.select(scalar.apply("lt", w.scale, 1), w.outputs, w.number(w.m))
    x = scalar.div(scalar.mul(i, w.number(w.n - 1)), scalar.sub(length, 1))
    return scalar.select(scalar.apply("eq", length, 1), 0, x)


def tf_half_pixel_for_nn(i: Expr, w: ResizedAxis) -> Expr:
    """Compute (i + 0.5) / scale. The standard has this mode in opsets 11 and 12; exporters also write it in later ones."""
    return scalar.div(scalar.add(i, 0.5), w.scale)


def tf_crop_and_resize(i: Expr, w: ResizedAxis) -> Expr:
    """Compute start (n - 1) + i (end - start) (n - 1) / (m - 1), or the middle of the region if there is one output."""
    last, room = w.number(w.n - 1), scalar.sub(w.end, w.start)
    x = scalar.div(scalar.mul(scalar.mul(i, room), last), scalar.sub(w.number(w.m), 1))
    middle = scalar.mul(scalar.mul(room, last), 0.5)
    return scalar.add(scalar.select(scalar.apply("eq", w.number(w.m), 1), middle, x), scalar.mul(w.start, last))


COORDINATES: Mapping[str, Callable[[Expr, ResizedAxis], Expr]] = {
    "half_pixel": half_pixel,
    "half_pixel_symmetric": half_pixel_symmetric,
    "pytorch_half_pixel": pytorch_half_pixel,
    "asymmetric": asymmetric,
    "align_corners": align_corners,
    "tf_half_pixel_for_nn": tf_half_pixel_for_nn,
    "tf_crop_and_resize": tf_crop_and_resize,
}
"""Coordinate of output i in the input axis, by coordinate_transformation_mode."""

NEAREST: Mapping[str, Callable[[Expr], Expr]] = {
    "round_prefer_floor": lambda x: scalar.apply("ceil", scalar.sub(x, 0.5)),
    "round_prefer_ceil": lambda x: scalar.apply("floor", scalar.add(x, 0.5)),
    "floor": lambda x: scalar.apply("floor", x),
    "ceil": lambda x: scalar.apply("ceil", x),
}
"""Rounding of a coordinate to the index of an input, by nearest_mode."""

Ratio: TypeAlias = tuple[Dim, Dim]

EXACT: Mapping[str, Callable[[Dim, Dim, Dim], Ratio]] = {
    "half_pixel": lambda i, n, m: ((2 * i + 1) * n - m, 2 * m),
    "half_pixel_symmetric": lambda i, n, m: ((2 * i + 1) * n - m, 2 * m),
    "pytorch_half_pixel": lambda i, n, m: (((2 * i + 1) * n - m) * minimum(m - 1, 1), 2 * m),
    "asymmetric": lambda i, n, m: (i * n, m),
    "align_corners": lambda i, n, m: (i * (n - 1), maximum(m - 1, 1)),
    "tf_half_pixel_for_nn": lambda i, n, m: ((2 * i + 1) * n, 2 * m),
}
"""Coordinate of output i as an exact fraction (numerator, denominator), from i, n and m. In f32 a rounding error could move a
coordinate across a tie or an integer.
"""

EXACTLY: Mapping[str, Callable[[Dim, Dim], Ratio]] = {
    "round_prefer_floor": lambda a, b: (2 * a + b - 1, 2 * b),
    "round_prefer_ceil": lambda a, b: (2 * a + b, 2 * b),
    "floor": lambda a, b: (a, b),
    "ceil": lambda a, b: (a + b - 1, b),
}
"""Fraction (numerator, denominator) whose quotient, rounded down, is a / b rounded by nearest_mode."""


# ---- kernels of interpolation ----------------------------------------------------------------------------------------------


def triangle(t: Expr) -> Expr:
    """Compute max(0, 1 - |t|), the weight of linear interpolation."""
    return scalar.maximum(scalar.sub(1, scalar.apply("abs", t)), 0)


def cubic(a: float) -> Callable[[Expr], Expr]:
    """Return the cubic convolution kernel with parameter a (R. Keys, Cubic convolution interpolation, 1981, equation 4)."""

    def kernel(t: Expr) -> Expr:
        t = scalar.apply("abs", t)
        near = polynomial(t, (a + 2, -(a + 3), 0, 1))
        far = polynomial(t, (a, -5 * a, 8 * a, -4 * a))
        return scalar.select(scalar.apply("le", t, 1), near, scalar.select(scalar.apply("lt", t, 2), far, 0))

    return kernel


def polynomial(t: Expr, coefficients: Sequence[float]) -> Expr:
    """Evaluate a polynomial by Horner's rule. coefficients: that of the highest power first"""
    out: Expr = Const(coefficients[0], t.dtype)
    for c in coefficients[1:]:
        out = scalar.add(scalar.mul(out, t), c)
    return out


class Filter(Struct, frozen=True):
    """An interpolation kernel that is zero outside (-reach, reach). With antialias it is stretched by 1 / scale if the axis becomes
    shorter (scale < 1).

    exclude_outside: neighbours outside the axis get weight 0, and the other weights are rescaled to sum 1.
    """

    kernel: Callable[[Expr], Expr]
    reach: int
    antialias: bool
    exclude_outside: bool

    def taps(self, w: ResizedAxis) -> Dim:
        """Return the number of neighbours of each output."""
        if not self.antialias:
            return 2 * self.reach
        return 2 * maximum(ceil_divide(w.n * self.reach, maximum(w.m, 1)), self.reach)


def tables(w: ResizedAxis, coordinate: Callable[[Expr, ResizedAxis], Expr], f: Filter) -> tuple[Tensor, Tensor]:
    """Return the neighbours of each output, clamped to the axis, and their weights, which add up to 1: i64[m, taps], w.dtype[m,
    taps]
    """
    taps = f.taps(w)
    x = coordinates(w, coordinate)
    stretch = scalar.minimum(w.scale, 1) if f.antialias else None

    def place(i: Dim, k: Dim) -> Expr:
        """Return the index of neighbour k, counted from floor(x) + 1 - taps / 2."""
        own = scalar.cast(scalar.apply("floor", at(x, (i,))), i64)
        return scalar.add(own, scalar.index(k + 1 - taps // 2))

    def weight(i: Dim, k: Dim) -> Expr:
        t = scalar.sub(scalar.cast(place(i, k), w.dtype), at(x, (i,)))
        value = f.kernel(t if stretch is None else scalar.mul(t, stretch))
        if not f.exclude_outside:
            return value
        outside = scalar.apply("or", scalar.apply("lt", place(i, k), 0), scalar.apply("ge", place(i, k), scalar.index(w.n)))
        return scalar.select(outside, 0, value)

    neighbours = compute(i64, [w.m, taps], lambda i, k: limited(place(i, k), w.n))
    weights = compute(w.dtype, [w.m, taps], weight)
    if f.antialias or f.exclude_outside:
        weights = div(weights, along("add", weights, [1]))
    return neighbours, weights


def coordinates(w: ResizedAxis, coordinate: Callable[[Expr, ResizedAxis], Expr]) -> Tensor:
    """Return the coordinate of each output in the input: w.dtype[m]"""
    return compute(w.dtype, [w.m], lambda i: coordinate(w.number(i), w))


def limited(i: Expr, n: Dim) -> Expr:
    """Clamp an index to [0, n - 1]."""
    return scalar.minimum(scalar.maximum(i, 0), scalar.index(n - 1))


def interpolated(x: Tensor, w: ResizedAxis, coordinate: Callable[[Expr, ResizedAxis], Expr], f: Filter) -> Tensor:
    """Resize x along one axis by interpolation. x: T[.., n, ..] -> T[.., m, ..]"""
    neighbours, weights = tables(w, coordinate, f)

    def term(i: Sequence[Dim], k: Dim) -> Expr:
        own = i[w.axis]
        place = element(at(neighbours, (own, k)), w.n)
        return scalar.mul(at(x, [*i[: w.axis], place, *i[w.axis + 1 :]]), scalar.cast(at(weights, (own, k)), x.dtype))

    def total(*i: Dim) -> Expr:
        out = term(i, 0)
        for k in range(1, 2 * f.reach):
            out = scalar.add(out, term(i, k))
        return out

    shape = [*x.shape[: w.axis], w.m, *x.shape[w.axis + 1 :]]
    if f.antialias:
        return reduce("add", x.dtype, shape, [f.taps(w)], lambda *i: term(i[:-1], i[-1]))
    return compute(x.dtype, shape, total)


def nearest(x: Tensor, w: ResizedAxis, transformation: str, mode: str) -> Tensor:
    """Resize x along one axis by nearest neighbours. x: T[.., n, ..] -> T[.., m, ..]"""
    shape = [*x.shape[: w.axis], w.m, *x.shape[w.axis + 1 :]]
    if (times := whole_repeats(w, transformation, mode)) is not None:
        return view(x, shape, lambda *i: [*i[: w.axis], i[w.axis] // times, *i[w.axis + 1 :]])
    if w.by_size and transformation in EXACT:
        chosen = compute(i64, [w.m], lambda i: exact_place(i, w, transformation, mode))
    else:
        place, where = NEAREST[mode], coordinates(w, COORDINATES[transformation])
        chosen = compute(i64, [w.m], lambda i: limited(scalar.cast(place(at(where, (i,))), i64), w.n))
    return view(x, shape, lambda *i: [*i[: w.axis], element(at(chosen, (i[w.axis],)), w.n), *i[w.axis + 1 :]])


def exact_place(i: Dim, w: ResizedAxis, transformation: str, mode: str) -> Expr:
    """Return the index of the input nearest to output i, in integer arithmetic. Numerators below 0 become 0: such coordinates
    belong to the first input.
    """
    a, b = EXACTLY[mode](*EXACT[transformation](i, w.n, w.m))
    return limited(scalar.div(scalar.maximum(scalar.index(a), 0), scalar.index(b)), w.n)


def whole_repeats(w: ResizedAxis, transformation: str, mode: str) -> int | None:
    """Return the scale s if it is an integer and output i is a copy of input i // s, else None."""
    if w.exact is None or w.exact != int(w.exact) or w.exact < 1:
        return None
    plain = (transformation, mode) == ("asymmetric", "floor")
    centred = transformation == "half_pixel" and mode.startswith("round")
    return int(w.exact) if plain or centred else None


# ---- sizes and scales ------------------------------------------------------------------------------------------------------


def axes_by_scales(x: Tensor, axes: Sequence[int], scales: Tensor, roi: Sequence[Expr]) -> list[ResizedAxis]:
    """Return how to resize each axis by scales: f32[len(axes)], where m = floor(n scale). Raises Fail if their number is wrong."""
    if scales.shape != (len(axes),):
        raise Fail(f"[ShapeInferenceError] scales of shape {list(scales.shape)} do not fit {len(axes)} axes")
    numbers = known(scales)
    resized_axes = []
    for k, a in enumerate(axes):
        exact = numbers[k] if numbers is not None and isinstance(numbers[k], float) else None
        if exact is not None and not 0 < exact < math.inf:
            raise Fail(f"Resize of axis {a} by a scale of {exact}, which is not above zero and finite")
        scale = at(scales, (k,)) if exact is None else Const(exact, f32)
        resized_axes.append(
            ResizedAxis(a, x.shape[a], scaled(x.shape[a], scale, exact), scale, exact, (roi[k], roi[len(axes) + k]))
        )
    return resized_axes


def scaled(n: Dim, scale: Expr, exact: float | None) -> Dim:
    """Return floor(n scale): a number, a formula if the scale is a simple fraction, or a number that only the run computes."""
    if exact is not None and isinstance(n, int):
        return int(np.float32(n) * np.float32(exact))
    if exact is not None:
        simple = Fraction(exact).limit_denominator(64)
        if np.float32(simple.numerator / simple.denominator) == np.float32(exact):
            return n * simple.numerator // simple.denominator
    return at_run_time(scalar.mul(number(n), scale))


def at_run_time(size: Expr) -> Dim:
    """Return floor(size) as a size that the run computes."""
    found: Dim = elements(compute(i64, [1], lambda _: scalar.cast(scalar.apply("floor", size), i64)))[0]
    return found


def axes_by_sizes(x: Tensor, axes: Sequence[int], sizes: Tensor, roi: Sequence[Expr], policy: str) -> list[ResizedAxis]:
    """Return how to resize each axis to sizes: i64[len(axes)]. Raises Fail if their number is wrong."""
    if sizes.shape != (len(axes),):
        raise Fail(f"[ShapeInferenceError] sizes of shape {list(sizes.shape)} do not fit {len(axes)} axes")
    asked = listed(sizes, "sizes")
    scales = [scalar.div(number(m), number(x.shape[a])) for m, a in zip(asked, axes, strict=True)]
    if policy != "stretch":
        return axes_in_proportion(x, axes, asked, roi, policy)
    resized_axes = []
    for k, (a, m) in enumerate(zip(axes, asked, strict=True)):
        resized_axes.append(
            ResizedAxis(a, x.shape[a], m, scales[k], ratio(m, x.shape[a]), (roi[k], roi[len(axes) + k]), by_size=True)
        )
    return resized_axes


def ratio(m: Dim, n: Dim) -> float | None:
    """Return m / n if it is known now, else None."""
    if isinstance(m, int) and isinstance(n, int):
        return m / n if n else None
    return 1.0 if m == n else None


def axes_in_proportion(x: Tensor, axes: Sequence[int], asked: Sequence[Dim], roi: Sequence[Expr], policy: str) -> list[ResizedAxis]:
    """Return how to resize all axes by one scale, the least ("not_larger") or greatest ("not_smaller") of those that the sizes
    imply; m = round(n scale). Raises Fail for another policy.
    """
    if policy not in ("not_larger", "not_smaller"):
        raise Fail(f"keep_aspect_ratio_policy must be stretch, not_larger or not_smaller, not {policy}")
    choose = "min" if policy == "not_larger" else "max"
    scale = scalar.div(number(asked[0]), number(x.shape[axes[0]]))
    for m, a in zip(asked[1:], axes[1:], strict=True):
        scale = scalar.apply(choose, scale, scalar.div(number(m), number(x.shape[a])))
    ratios = [ratio(m, x.shape[a]) for m, a in zip(asked, axes, strict=True)]
    numbers = [r for r in ratios if r is not None]
    exact = (min if policy == "not_larger" else max)(numbers) if len(numbers) == len(axes) else None
    resized_axes = []
    for k, a in enumerate(axes):
        n = x.shape[a]
        if exact is not None and isinstance(n, int):
            out: Dim = int(exact * n + 0.5)
        else:
            out = at_run_time(scalar.add(scalar.mul(number(n), scale), 0.5))
        resized_axes.append(ResizedAxis(a, n, out, scale, exact, (roi[k], roi[len(axes) + k])))
    return resized_axes


def region_of_interest(roi: Tensor | None, count: int) -> list[Expr]:
    """Return starts and ends of the region of interest, as fractions of the axes, in f32; by default 0 and 1. Raises Fail if their
    number is wrong.
    """
    if roi is None or roi.shape == (0,):
        return [*[Const(0.0, f32)] * count, *[Const(1.0, f32)] * count]
    if roi.shape != (2 * count,):
        raise Fail(f"[ShapeInferenceError] roi of shape {list(roi.shape)} does not fit {count} axes")
    return [scalar.cast(at(roi, (k,)), f32) for k in range(2 * count)]


# ---- the operators ---------------------------------------------------------------------------------------------------------


def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Compute Resize. x: T[*d] -> T[*m], where m are the sizes, or floor(d scales)

    Raises Fail for an unknown mode, or if neither scales nor sizes are given.
    """
    if coordinate_transformation_mode not in COORDINATES or nearest_mode not in NEAREST:
        raise Fail(f"Resize with the unknown mode {coordinate_transformation_mode} or {nearest_mode}")
    over = normal_axes(axes, x.rank) if axes is not None else list(range(x.rank))
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    region = region_of_interest(roi if crops else None, len(over))
    if scales is not None and scales.shape != (0,):
        resized_axes = axes_by_scales(x, over, cast(scales, f32), region)
    elif sizes is not None:
        resized_axes = axes_by_sizes(x, over, sizes, region, keep_aspect_ratio_policy)
    else:
        raise Fail("[ShapeInferenceError] Resize needs scales or sizes")
    resized_axes = [w for w in resized_axes if crops or not w.unchanged]
    if mode == "nearest":
        y = x
        for w in resized_axes:
            y = nearest(y, w, coordinate_transformation_mode, nearest_mode)
    else:
        f = interpolation(mode, cubic_coeff_a, bool(antialias), bool(exclude_outside))
        y = interpolate(x, resized_axes, COORDINATES[coordinate_transformation_mode], f)
    return extrapolated(y, resized_axes, extrapolation_value) if crops else y


def interpolation(mode: str, a: float, antialias: bool, exclude_outside: bool) -> Filter:
    """Return the filter of mode linear or cubic. a: parameter of the cubic kernel. Raises Fail for another mode."""
    if mode == "linear":
        return Filter(triangle, 1, antialias, exclude_outside)
    if mode == "cubic":
        return Filter(cubic(a), 2, antialias, exclude_outside)
    raise Fail(f"Resize: mode must be nearest, linear or cubic, not {mode}")


def interpolate(
    x: Tensor, resized_axes: Sequence[ResizedAxis], coordinate: Callable[[Expr, ResizedAxis], Expr], f: Filter
) -> Tensor:
    """Resize all axes, one after the other, in f32 (f64 for f64). Integers are rounded at the end."""
    y = cast(x, wide(x.dtype))
    for w in resized_axes:
        y = interpolated(y, replace(w, dtype=y.dtype), coordinate, f)
    return rounded(y, x.dtype)


def wide(dtype: DType) -> DType:
    return scalar.wide(dtype) if dtype.is_float else f32


def rounded(y: Tensor, dtype: DType) -> Tensor:
    if dtype.is_float:
        return cast(y, dtype)
    return compute(dtype, y.shape, lambda *i: scalar.cast(scalar.apply("rint", at(y, i)), dtype))


def extrapolated(y: Tensor, resized_axes: Sequence[ResizedAxis], number_outside: float) -> Tensor:
    """Replace outputs whose coordinate lies outside an axis by the given number."""
    places = [(w, coordinates(w, tf_crop_and_resize)) for w in resized_axes]

    def body(*i: Dim) -> Expr:
        out = at(y, i)
        for w, where in places:
            x = at(where, (i[w.axis],))
            outside = scalar.apply("or", scalar.apply("lt", x, 0), scalar.apply("gt", x, w.number(w.n - 1)))
            out = scalar.select(outside, number_outside, out)
        return out

    return compute(y.dtype, y.shape, body)


def upsample(x: Tensor, scales: Tensor, mode: str = "nearest") -> Tensor:
    """Upsample before opset 11, and Resize of opset 10: coordinate i / scale, rounded down for nearest. x: T[*d], scales: f32[rank]
    -> T[*floor(d scales)]
    """
    return resize(
        x,
        scales=scales,
        coordinate_transformation_mode="asymmetric",
        mode="linear" if mode == "bilinear" else mode,
        nearest_mode="floor",
    )


def upsample_7(x: Tensor, scales: list[float], mode: str = "nearest") -> Tensor:
    """Upsample before opset 9, where the scales are an attribute."""
    return upsample(x, constant(np.array(scales, np.float32)), mode)


IMAGE = reals(1, 2, 4, 5)
TWICE = np.array([1, 1, 2, 2], np.float32)
ODD = np.array([1, 1, 0.6, 1.7], np.float32)
SIZES = np.array([1, 2, 7, 3], np.int64)

CASES = (
    *(
        Case((IMAGE, None, s), {"mode": m, "coordinate_transformation_mode": c})
        for s in (TWICE, ODD)
        for m in ("nearest", "linear", "cubic")
        for c in ("half_pixel", "asymmetric", "half_pixel_symmetric", "pytorch_half_pixel")
    ),
    *(Case((IMAGE, None, TWICE), {"mode": m, "coordinate_transformation_mode": "align_corners"}) for m in ("nearest", "cubic")),
    *(Case((IMAGE, None, ODD), {"nearest_mode": m}) for m in ("floor", "ceil", "round_prefer_ceil")),
    *(
        Case((IMAGE, None, ODD[[0, 1, 3, 3]]), {"mode": m, "coordinate_transformation_mode": "align_corners"})
        for m in ("linear", "cubic")
    ),
    *(Case((IMAGE, None, None, SIZES), {"mode": m, "antialias": 1}) for m in ("linear", "cubic")),
    Case((IMAGE, None, None, SIZES), {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}),
    Case((IMAGE, None, None, SIZES[2:]), {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}),
    Case((IMAGE, None, None, SIZES[2:]), {"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller", "mode": "linear"}),
    Case(
        (IMAGE, np.array([0, 0, 0.4, -0.2, 1, 1, 1.1, 0.8], np.float32), None, SIZES),
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 10.0},
    ),
)

OPS = (
    Op("Resize", since=11, lower=resize, cases=CASES, tolerance=1e-5),
    Op("Resize", since=10, lower=upsample, reference=images.resize_10),
    Op("Upsample", since=9, lower=upsample, reference=images.resize_10),
    Op("Upsample", since=7, lower=upsample_7, reference=images.upsample_7),
)
