"""Compute convolutions with fewer multiplications by Winograd's minimal filtering F(m x m, 3 x 3), as a rewrite of tensor
expressions.

    y[n, o, h, w] = sum over c, p, q of x[n, c, h + p, w + q] g[o, c, p, q]                    3 x 3 windows, stride 1

becomes, with a = m + 2 and tiles (s, t) of m x m outputs,

    u[i, j, o, c]       = sum over p, q of G[i, p] G[j, q] g[o, c, p, q]                       once, in f64
    v[i, j, n, s, t, c] = sum over y, x of B[i, y] B[j, x] x[n, c, m s + y, m t + x]           the a x a inputs of a tile
    z[i, j, n, s, t, o] = sum over c of v[i, j, n, s, t, c] u[i, j, o, c]                      a^2 contractions
    y[n, o, h, w]       = sum over i, j of A[h % m, i] A[w % m, j] z[i, j, n, h // m, w // m, o]

The transforms u, v, y are piecewise expressions over i, j and h % m, w % m, whose loops lowering fully unrolls. The epilogue
of y (bias, activation, residual, the border of the next convolution) is fused into its last statement, as it would be fused
into a tile.

A, B, G come from m + 1 points and infinity (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The
points of F(4 x 4) are 0, +-sqrt(1/2), +-sqrt(2): its error is 1.2 to 1.9 times that of the direct sum. F(2 x 2), with 0, +-1,
is more accurate than the direct sum. A NaN or an infinity spreads over the tile that contains it.

If v and z of a whole feature map exceed the cache, they are computed in strips: a repeated body over strips of rows of tiles,
all images one after the other, whose last statement writes its part of y.

The choice depends on extents and single-threaded time estimates alone, so that results don't depend on the number of threads.
Where a normalisation divides the result by its own deviation, errors grow from layer to layer: after forty such layers, F(4 x
4) was off by 5e-5 of the largest output, the direct sum and F(2 x 2) by 2e-5. There, only F(2 x 2) is allowed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from sardonyx.base.dtypes import DType, f32, f64
from sardonyx.base.symbolic import Dim, Symbol, ceil_divide, is_below, minimum, product, substitute, symbols, value
from sardonyx.expr.pieces import piecewise
from sardonyx.expr.region import Region, Stacked
from sardonyx.expr.tensor import Read, Tensor, variable
from sardonyx.loop.nodes import Cast, Const, Expr, Index, Op, replace, walk
from sardonyx.lower.epilogue import Readers, epilogue, inline_epilogue, readers_of
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Operands, Value, bound, extent, find_operands

Matrix = npt.NDArray[np.float64]

NEAR = 1e-8  # entries of A, B, G that differ by less are considered equal
TAPS = 3
LEAST_CHANNELS = 16
"""Fewest input and output channels: with fewer, the transforms cost more than the saved products."""
LEAST_SPEEDUP = 1.1
"""Estimated speedup over the direct sum from which a rewrite pays."""
PYRAMID = 128 * 64
"""Assumed pixels along a side times channels where sizes are unknown: networks halve feature maps where they double channels."""


class Variant(Struct, frozen=True):
    """The algorithm F(m x m, 3 x 3). seconds: estimated time to transform one tile of one channel; exact: the error is not
    larger than the direct sum's."""

    m: int
    points: tuple[float, ...]
    seconds: float
    exact: bool = False

    @property
    def taps(self) -> int:
        """The number of inputs of a tile along one axis."""
        return self.m + TAPS - 1


VARIANTS = (
    Variant(4, (0.0, math.sqrt(0.5), -math.sqrt(0.5), math.sqrt(2.0), -math.sqrt(2.0)), 3e-9),
    Variant(2, (0.0, 1.0, -1.0), 1.2e-9, exact=True),
)


class Window(Struct, frozen=True):
    """One spatial axis: its position among a's axes, the loop over outputs, the loop over taps, and the index at which the
    first window begins."""

    axis: int
    output: Symbol
    tap: Symbol
    start: int


class Convolution(Struct, frozen=True):
    """A sum of products with a sliding 3 x 3 window. rows: its loops over rows outside the window; k: its reduced loops
    outside the window."""

    of: Operands
    y: Window
    x: Window
    rows: list[Symbol]
    k: list[Symbol]


def rewrite_convolutions(values: dict[Tensor, Value], kept: Container[Tensor], machine: Machine) -> None:
    """Rewrite the convolutions for which an algorithm pays. kept: tensors that must stay as they are."""
    readers = readers_of(values.values())
    for v in sorted(values.values(), key=lambda v: v.id):
        found = convolution(v, values) if v.fn and v.place is None and v.tensor.dtype is f32 else None
        chosen = choose(found, machine, exact=is_normalised(v, values, readers)) if found else None
        if found and chosen:
            followers = epilogue(v, readers, kept)
            rewrite = Rewrite(values, v, found, chosen, machine, followers[-1][0] if followers else v)
            rewrite.run()
            rewrite.finish(inline_epilogue(v, followers))


def convolution(v: Value, values: Mapping[Tensor, Value]) -> Convolution | None:
    """Match v as a convolution with a constant 3 x 3 kernel and stride 1. None if v is none."""
    o = find_operands(v)
    if o is None or not values[o.b.tensor].constant or o.a.dtype is not f32 or o.b.dtype is not f32:
        return None
    found = [w for axis, i in enumerate(o.a.indices) if (w := window(axis, i, o)) is not None]
    if len(found) != 2:
        return None
    y, x = found
    moving = {y.output, y.tap, x.output, x.tap}
    others = [i for axis, i in enumerate(o.a.indices) if axis not in (y.axis, x.axis)]
    k = [s for s in o.k if s not in moving]
    if not k or len(moving) != 4 or any(moving & symbols(i) for i in others):
        return None
    return Convolution(o, y, x, [s for s in o.rows if s not in moving], k)


def window(axis: int, index: Dim, o: Operands) -> Window | None:
    """Match the index as output + tap + start. None if it has another form."""
    outputs = [s for s in o.rows if s in symbols(index)]
    taps = [s for s in o.k if s in symbols(index)]
    if len(outputs) != 1 or len(taps) != 1 or extent(taps[0]) != TAPS:
        return None
    start = index - value(outputs[0]) - value(taps[0])
    return Window(axis, outputs[0], taps[0], start) if isinstance(start, int) else None


# ---- choosing an algorithm ------------------------------------------------------------------------------------------------


def choose(c: Convolution, machine: Machine, exact: bool = False) -> Variant | None:
    """Return the fastest algorithm if it is faster than the direct sum, else None. exact: consider only those with no larger
    error."""
    channels = machine.guess(product(map(extent, c.k))), machine.guess(product(map(extent, c.of.columns)))
    if not machine.winograd or min(channels) < LEAST_CHANNELS:
        return None
    direct = seconds(c, None, channels, machine)
    times = {f: seconds(c, f, channels, machine) for f in VARIANTS if f.exact or not exact}
    return min((f for f, t in times.items() if t * LEAST_SPEEDUP < direct), key=lambda f: times[f], default=None)


def is_normalised(v: Value, values: Mapping[Tensor, Value], readers: Readers) -> bool:
    """Tell whether a sum of squares (of a deviation or a norm) depends on v by pointwise operations and copies."""
    waiting, seen = [(v, False)], {(v, False)}
    while waiting:
        at, squared = waiting.pop()
        found = [*readers.get(at.tensor, ()), *([values[at.into[0]]] if at.into else [])]
        for t in found:
            known = (t, squared or has_square(t.body))
            if t.fn == "add" and known[1] and find_operands(t) is None:
                return True
            if t.fn is None and known not in seen:
                seen.add(known)
                waiting.append(known)
    return False


def has_square(body: Expr | None) -> bool:
    """Tell whether the body multiplies a value by itself or raises it to the power of two."""
    for n in walk(body) if body is not None else ():
        if isinstance(n, Op) and n.fn == "mul" and n.args[0] is n.args[1]:
            return True
        if isinstance(n, Op) and n.fn == "pow" and isinstance(n.args[1], Const) and n.args[1].value == 2:
            return True
    return False


def seconds(c: Convolution, f: Variant | None, channels: tuple[int, int], machine: Machine) -> float:
    """Estimate the time of the direct sum (f is None) or of a variant: arithmetic or memory, whichever is slower, plus the
    transforms."""
    m = f.m if f else 1
    images = math.prod(n for s in c.rows if isinstance(n := extent(s), int))  # unknown sizes: batches, often 1
    tiles = images * math.prod(machine.guess(ceil_divide(extent(w.output), m)) for w in (c.y, c.x))
    groups = machine.guess(product(map(extent, c.of.batch)))
    points = f.taps**2 if f else TAPS**2
    products, weights = math.prod(channels) * points * groups, math.prod(channels) * points * groups * f32.itemsize
    total = max(2 * tiles * products / machine.flops, weights / machine.bandwidth)
    if f is None:
        return total
    between = tiles * points * sum(channels) * groups * f32.itemsize
    spilled = (
        0.0 if len(c.rows) <= 1 or between <= machine.l2 else 3 * between / machine.bandwidth
    )  # else strips keep it in the cache
    return total + tiles * sum(channels) * groups * f.seconds + spilled


# ---- matrices -------------------------------------------------------------------------------------------------------------


@functools.cache
def matrices(points: tuple[float, ...]) -> tuple[Matrix, Matrix, Matrix]:
    """Return (A, B, G) of F(m, 3) for m + 1 points and infinity: y = A ((G g) * (B x)). A: [m, a], B: [a, a], G: [a, 3]."""
    n, m = len(points) + 1, len(points) - 1
    a, b, g = np.zeros((m, n)), np.zeros((n, n)), np.zeros((n, TAPS))
    for i, p in enumerate(points):
        others = [q for q in points if q != p]
        a[:, i] = p ** np.arange(m)
        g[i] = p ** np.arange(TAPS) / math.prod(p - q for q in others)
        b[i, : n - 1] = np.poly(others)[::-1]
    a[m - 1, n - 1] = g[n - 1, TAPS - 1] = 1
    b[n - 1] = np.poly(points)[::-1]
    return a, b, g


def times(matrix: Matrix, xs: Sequence[Expr], fma: bool) -> list[Expr]:
    """Return the elements of the product of `matrix` and the vector xs as expressions, with few operations.

    Where two columns are equal up to the signs of their elements, they multiply the sum and the difference of their two x: for
    example, a * x + a * y and b * x - b * y take a * (x + y) and b * (x - y). Two rows that are equal up to signs share their
    partial sums.
    """
    columns, terms = matrix.T.copy(), list(xs)
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            if np.count_nonzero(columns[i]) > 1 and near(abs(columns[i]), abs(columns[j])).all():
                same = near(columns[i], columns[j])
                terms[i], terms[j] = Op("add", terms[i], terms[j]), Op("sub", terms[i], terms[j])
                columns[i], columns[j] = np.where(same, columns[i], 0), np.where(same, 0, columns[i])
                break
    rows = columns.T
    out: dict[int, Expr] = {}
    for i, row in enumerate(rows):
        partner = next((j for j in range(i + 1, len(rows)) if j not in out and are_mirrored(row, rows[j])), None)
        if i in out:
            continue
        if partner is None:
            out[i] = dot(row, terms, fma)
            continue
        even = near(row, rows[partner])
        e, o = dot(np.where(even, row, 0), terms, fma), dot(np.where(even, 0, row), terms, fma)
        out[i], out[partner] = Op("add", e, o), Op("sub", e, o)
    return [out[i] for i in range(len(rows))]


def are_mirrored(a: Matrix, b: Matrix) -> bool:
    """Tell whether two rows are equal in some elements and opposite in all others."""
    even = near(a, b)
    return bool(near(abs(a), abs(b)).all() and a[even].any() and a[~even].any())


def near(a: Matrix, b: Matrix) -> npt.NDArray[np.bool_]:
    """Compare a and b element by element, up to rounding."""
    return abs(a - b) <= NEAR + NEAR * abs(b)


def dot(row: Matrix, xs: Sequence[Expr], fma: bool) -> Expr:
    """Build the sum of products of a row with xs. Zeros are skipped; factors 1 and -1 need no product."""
    terms = sorted(((float(c), x) for c, x in zip(row, xs, strict=True) if c), key=lambda term: term[0] != 1)
    (c, total), *rest = terms
    if c != 1:
        total = Op("mul", Const(c, total.dtype), total)
    for c, x in rest:
        if abs(c) == 1:
            total = Op("add" if c == 1 else "sub", total, x)
        elif fma:
            total = Op("fma", Const(c, x.dtype), x, total)
        else:
            total = Op("add", total, Op("mul", Const(c, x.dtype), x))
    return total


# ---- the rewrite ----------------------------------------------------------------------------------------------------------


class Strips(Struct, frozen=True):
    """A partition of all images' rows of tiles into strips of `each`: row = step * each + s. rows: of tiles in one image;
    images: the loop over images, if there is one; count: of all rows of tiles."""

    region: Region
    each: int
    rows: Dim
    images: Symbol | None
    count: Dim

    def row(self, s: Dim) -> Dim:
        """Return the row of tiles that is row s of the strip."""
        return value(self.region.step) * self.each + s

    def within(self, s: Dim) -> Dim:
        """Return the row, clamped to the last row of all."""
        return self.row(s) if self.count % self.each == 0 else minimum(self.row(s), self.count - 1)

    def divided(self, row: Dim) -> tuple[Dim, Dim]:
        """Split a row of tiles into (image, row in that image)."""
        return (row // self.rows, row % self.rows) if self.images else (0, row)


class Rewrite:
    """Adds the tensors of a variant to the values, between v's operands and v. last: the statement that v and its epilogue
    are inlined into."""

    def __init__(self, values: dict[Tensor, Value], v: Value, c: Convolution, f: Variant, machine: Machine, last: Value) -> None:
        self.values, self.v, self.c, self.f, self.machine, self.last = values, v, c, f, machine, last
        self.a, self.b, self.g = matrices(f.points)
        self.tiles = [ceil_divide(extent(w.output), f.m) for w in (c.y, c.x)]
        self.strips = self.find_strips()
        if self.strips:
            self.tiles[0] = self.strips.each
        self.rows = [] if self.strips else c.rows  # loops other than those over tiles

    def weights_stay(self, tiles: Dim) -> bool:
        """Tell whether strips read u at no extra cost: u fits in half of L2, or reading it takes less time than computing
        with it."""
        of = self.c.of
        size = self.machine.guess(product(extent(s) for s in (*of.batch, *self.c.k, *of.columns))) * self.f.taps**2 * f32.itemsize
        side = max(PYRAMID // self.machine.guess(product(map(extent, self.c.k))), 1)
        reading, using = f32.itemsize / self.machine.bandwidth, 2 * self.machine.guess(tiles, side) / self.machine.flops
        return size <= self.machine.l2 // 2 or using > reading

    def find_strips(self) -> Strips | None:
        """Choose strips whose v and z take half of L2. None if everything fits without strips, or if reading u for each strip
        would cost too much."""
        c, (down, across) = self.c, self.tiles
        channels = product(map(extent, c.k)) + product(map(extent, c.of.columns))
        row = self.machine.guess(across * channels * product(map(extent, c.of.batch)) * (self.f.taps**2 * f32.itemsize))
        if self.v.region or len(c.rows) > 1 or row * self.machine.guess(down) <= self.machine.l2:
            return None
        each = max(1, self.machine.l2 // 2 // row)
        if not self.weights_stay(each * across):
            return None
        count = product(map(extent, c.rows)) * down
        step = Symbol(f"strip{self.v.id}", ceil_divide(count, each))
        target = self.last.into[0] if self.last.into else self.last.tensor
        region = Region(step, ceil_divide(count, each), (), (Stacked(self.last.tensor, target),))
        return Strips(region, each, down, c.rows[0] if c.rows else None, count)

    def run(self) -> None:
        """Add the values of transformed weights, transformed inputs and sums, and rewrite v."""
        weights, inputs = self.weights(), self.inputs()
        sums = self.sums(inputs, weights)
        self.outputs(sums)

    def tensor(self, name: str, before: float, dtype: DType, shape: Sequence[Dim]) -> Value:
        """Add a new value at position v.id - before in the program."""
        t = Tensor(dtype, shape, f"{self.v.tensor.name}.{name}")
        t.id, t.origin = self.v.id - before, self.v.tensor.origin
        found = self.values[t] = Value(t)
        found.region = self.v.region
        return found

    def in_strip(self, v: Value) -> Value:
        """Compute v anew for each strip, if there are strips."""
        if self.strips:
            v.region = (*v.region, self.strips.region)
        return v

    def separable(
        self,
        name: str,
        before: float,
        matrix: Matrix,
        loops: Sequence[Symbol],
        read: Callable[[Dim, Dim, Mapping[Symbol, Dim]], Expr],
    ) -> tuple[Value, Value]:
        """Apply the matrix [n, k] to both axes of read(y, x, indices of the loops), y, x < k. -> ([n, k, *loops], [n, n,
        *loops])

        The first value has the matrix applied to one axis, the second to both.
        """
        n, k = matrix.shape
        dtype = read(0, 0, {}).dtype
        shape = [extent(s) for s in loops]
        half, whole = self.tensor(f"{name}1", before, dtype, [n, k, *shape]), self.tensor(name, before - 0.1, dtype, [n, n, *shape])
        i, x, *at = half.axes
        place = dict(zip(loops, at, strict=True))
        half.body = piecewise(i, times(matrix, [read(y, x, place) for y in range(k)], self.machine.fma))
        i, j, *at = whole.axes
        columns: list[Expr] = [Read(half.tensor, (i, x, *at)) for x in range(k)]
        whole.body = piecewise(j, times(matrix, columns, self.machine.fma))
        return half, whole

    def weights(self) -> Tensor:
        """Add the transformed weights u: [i, j, *batch, *k, column]."""
        c = self.c

        def read(p: Dim, q: Dim, place: Mapping[Symbol, Dim]) -> Expr:
            env = {**place, c.y.tap: p, c.x.tap: q}
            return Cast(Read(c.of.b.tensor, tuple(substitute(i, env) for i in c.of.b.indices)), f64)

        half, whole = self.separable("weights", 0.9, self.g, [*c.of.batch, *c.k, *c.of.columns], read)
        narrow = self.tensor("u", 0.7, f32, whole.shape)
        narrow.body = Cast(Read(whole.tensor, narrow.axes), f32)
        half.constant = whole.constant = narrow.constant = True
        return narrow.tensor

    def inputs(self) -> Tensor:
        """Add the transformed inputs v: [i, j, *batch, *rows, s, t, *k]; inputs beyond the last one count as zero."""
        c, m, a = self.c, self.f.m, self.c.of.a
        s, t = (Symbol(f"{w.output.name}.tile", n) for w, n in zip((c.y, c.x), self.tiles, strict=True))

        def read(y: Dim, x: Dim, place: Mapping[Symbol, Dim]) -> Expr:
            image, row = self.tile_row(place.get(s, 0))
            at = [substitute(i, {**place, **image}) for i in a.indices]
            guard = None
            for w, tile, tap in ((c.y, row, y), (c.x, place.get(t, 0), x)):
                at[w.axis] = tile * m + tap + w.start
                sure = (isinstance(tap, int) and tap < TAPS) or extent(w.output) % m == 0
                if not sure:
                    inside = Op("lt", Index(at[w.axis]), Index(a.tensor.shape[w.axis]))
                    guard = inside if guard is None else Op("and", guard, inside)
            return Read(a.tensor, tuple(at), guard)

        half, whole = self.separable("v", 0.5, self.b, [*c.of.batch, *self.rows, s, t, *c.k], read)
        self.in_strip(half)
        return self.in_strip(whole).tensor

    def tile_row(self, s: Dim) -> tuple[dict[Symbol, Dim], Dim]:
        """Return ({loop over images: image}, the row of tiles in it) for row s of v; the mapping is empty if images have a
        loop of their own."""
        q = self.strips
        if q is None:
            return {}, s
        image, row = q.divided(q.within(s))
        return {q.images: image} if q.images else {}, row

    def sums(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Add the contractions z: [i, j, *batch, *rows, s, t, column]."""
        c = self.c
        fixed = [*c.of.batch, *self.rows]
        shape = [self.f.taps, self.f.taps, *map(extent, fixed), *self.tiles, *map(extent, c.of.columns)]
        z = self.in_strip(self.tensor("sums", 0.2, f32, shape))
        over = [variable(f"{z.tensor.name}.{k.name}", extent(k)) for k in c.k]
        i, j, *rest = z.axes
        batch = rest[: len(c.of.batch)]
        z.fn, z.loops = "add", tuple(s for k in over for s in symbols(k))
        z.body = Op("mul", Read(inputs, (i, j, *rest[:-1], *over)), Read(weights, (i, j, *batch, *over, rest[-1])))
        return z.tensor

    def outputs(self, sums: Tensor) -> None:
        """Rewrite v as the transform of the sums."""
        c, m, v = self.c, self.f.m, self.v
        fixed: list[Dim] = [value(s) for s in (*c.of.batch, *self.rows)]
        half = self.in_strip(self.tensor("z1", 0.1, f32, [m, *sums.shape[1:]]))
        i, j, *at = half.axes
        half.body = piecewise(i, times(self.a, [Read(sums, (y, j, *at)) for y in range(self.f.taps)], self.machine.fma))
        y, x = value(c.y.output), value(c.x.output)
        row = y // m
        if (q := self.strips) is not None:
            row = row + (value(q.images) * q.rows if q.images else 0) - q.row(0)
        rest = (*fixed, row, x // m, *map(value, c.of.columns))
        columns: list[Expr] = [Read(half.tensor, (y % m, j, *rest)) for j in range(self.f.taps)]
        v.fn, v.loops = None, ()
        v.body = piecewise(x % m, times(self.a, columns, self.machine.fma))

    def finish(self, places: Mapping[Symbol, Symbol]) -> None:
        """If there are strips, replace the last statement by one that writes a strip's part of y. places: {v's loop: the last
        statement's loop}."""
        q, c, m, last = self.strips, self.c, self.f.m, self.last
        if q is None:
            return
        height, width = places[c.y.output], places[c.x.output]
        image = places[q.images] if q.images else None
        others = [s for s in last.variables if s not in (height, width, image)]
        part = Tensor(last.tensor.dtype, [q.each, m, self.tiles[1], m, *map(extent, others)], last.tensor.name)
        part.origin, part.id = last.tensor.origin, last.tensor.id
        u = self.values[part] = Value(part)
        u.region = last.region
        self.in_strip(u)
        s, r, t, k, *rest = u.axes
        n, down = q.divided(q.row(s))
        env: dict[Symbol, Dim] = {height: down * m + r, width: t * m + k, **dict(zip(others, rest, strict=True))}
        if image is not None:
            env[image] = n
        target, where = last.into or (last.tensor, last.axes)
        assert last.body is not None
        u.body, u.into = replace(last.body, env), (target, tuple(substitute(i, env) for i in where))
        for index, size in ((q.row(s), q.count), (env[height], extent(height)), (env[width], extent(width))):
            if not is_below(index, size):
                bound(u, index, size)
        last.body, last.into, last.place = None, None, "WHOLE"
