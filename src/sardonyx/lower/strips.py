"""Overlapped row tiling of feature maps: compute a contraction and the windows over it for a few rows at a time, so that the
feature map between them stays in the cache.

    e[n, c, start + y, x]  = f(sum over i of ...)                      a feature map with y < H, inside a border
    d[n, c, h, w]          = g(sum over p, q of e[n, c, m h + p, ..])   overlapping windows
    z[n, o, h, w]          = f'(sum over c of d[n, c, h, w] ...)        if nothing else reads d

becomes a loop over the strips of all images. One strip computes R rows of the last statement, from h0 = R (step mod strips)
on:

    e'[c, start + r, x]    rows base + r of the feature map, r < H', inside the same border: a feature map of less height
    d'[c, r, w]            from rows m (h0 + r) + p - base of e'
    z[n, o, h0 + r, w]     = ...

H' is the number of rows that the windows of R rows reach. `base` is the first such row, clamped to the feature map: at the
edge of the image, the border of e' is the border of e; elsewhere the border is not read. Rows that two strips reach are
computed twice.

The expanding layers of mobile networks profit most: e is several times larger than their input and output.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from msgspec import Struct

from sardonyx.base.symbolic import (
    Dim,
    Symbol,
    ceil_divide,
    maximum,
    minimum,
    product,
    single,
    substitute,
    symbols,
    value,
)
from sardonyx.expr.region import Region, Stacked
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Expr, replace
from sardonyx.lower.chains import Chain, Edge, Link, find_chain
from sardonyx.lower.epilogue import readers_of
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Value, extent, reads_of, transform

LEAST_POINTS = 256
"""Fewest elements of output per channel in a strip: below that, tiles are too low to run at full speed, and barriers come too
often."""
STRIP_SECONDS = 5e-6
"""Seconds that one more strip costs: its kernels start, and the threads meet at barriers."""
LEAST_GAIN = 1.5
"""Strips are used if the time that they save is at least this many times what they cost."""


def make_strips(values: dict[Tensor, Value], kept: Container[Tensor], machine: Machine) -> None:
    """Rewrite the chains of values for which strips pay. kept: tensors that must stay as they are."""
    readers = readers_of(values.values())
    for v in sorted(values.values(), key=lambda v: v.id):
        chain = find_chain(v, values, readers, kept) if v.fn and not v.region and not v.constant and v.place is None else None
        rows = choose(chain, machine) if chain else None
        if chain and rows:
            Rewrite(values, chain, rows).run()


# ---- the choice -----------------------------------------------------------------------------------------------------------


def choose(c: Chain, machine: Machine) -> int | None:
    """Return the rows of output per strip, or None where strips do not pay. Decided from the extents of one image alone."""
    w = c.windows
    row = (
        machine.guess(product(n for a, n in enumerate(c.feature_map.shape) if a not in (w.axis, w.image)))
        * c.feature_map.tensor.dtype.itemsize
    )
    budget = machine.l2 // 2 - sum(weights(u.value, machine) for u in (c.above[0], *c.below))
    if row * c.height <= budget:  # a strip can be a whole image
        large = w.image is not None and row * c.height > machine.l2 // 4
        return c.outputs if large and points(c, c.outputs, machine) >= LEAST_POINTS else None
    most = (budget // row - w.reach) // w.step + 1
    if most < 1 or points(c, most, machine) < LEAST_POINTS:
        return None
    strips = -(-c.outputs // most)
    rows = -(-c.outputs // strips)
    again = strips * c.rows(rows) - c.height
    saved = 3 * row * c.height / machine.bandwidth  # write, the read for ownership before it, and the read
    price = again * operations(c.above[0], machine) / machine.flops + strips * STRIP_SECONDS
    return rows if saved > LEAST_GAIN * price else None


def points(c: Chain, rows: int, machine: Machine) -> int:
    """Count the elements of output in `rows` rows of an image, per channel."""
    w = c.windows
    others = set().union(*(q.symbols for q in reads_of(w.value) if q is not w.read))
    free = [s for s in w.value.variables if s not in others and s not in (w.link.image, w.link.row)]
    return rows * machine.guess(product(map(extent, free)))


def weights(v: Value, machine: Machine) -> int:
    """Estimate the bytes of weights that a sum reads."""
    return sum(machine.guess(product(r.tensor.shape)) * r.dtype.itemsize for r in reads_of(v) if v.fn and r.tensor.data is not None)


def operations(u: Link, machine: Machine) -> int:
    """Estimate the operations for one row of one image."""
    return 2 * machine.guess(product(extent(s) for s in u.value.all_loops if s not in (u.image, u.row)))


# ---- the rewrite ----------------------------------------------------------------------------------------------------------


class Local(Struct, frozen=True):
    """The tensor of one strip that stands for a whole tensor: `image` is the axis that it lacks, `axis` counts rows, `base`
    is its first row."""

    tensor: Tensor
    image: int | None
    axis: int
    base: Dim

    def at(self, indices: Sequence[Dim]) -> tuple[Dim, ...]:
        """Map the indices of an element of the whole tensor to its indices in this strip."""
        moved = [i - self.base if a == self.axis else i for a, i in enumerate(indices)]
        return tuple(i for a, i in enumerate(moved) if a != self.image)


class Rewrite:
    """Replaces the values of a chain by a loop over strips of `rows` rows of output."""

    def __init__(self, values: dict[Tensor, Value], chain: Chain, rows: int) -> None:
        self.values, self.chain, self.rows = values, chain, rows
        self.strips = ceil_divide(chain.outputs, rows)
        last = chain.below[-1]
        self.whole = last.value.into or (last.value.tensor, last.value.axes)
        trip = (extent(last.image) if last.image else 1) * self.strips
        step = Symbol(f"strip{last.value.tensor.id}", trip)
        self.region = Region(step, trip, (), (Stacked(last.value.tensor, self.whole[0]),))
        self.locals: dict[Tensor, Local] = {}

    def run(self) -> None:
        """Create the values of a strip in the loop's body, from the first value of the chain to the last."""
        c, w = self.chain, self.chain.windows
        first = value(self.region.step) % self.strips * self.rows
        if c.outputs % self.rows:
            first = minimum(first, c.outputs - self.rows)
        height = c.rows(self.rows)
        base = maximum(minimum(first * w.step + w.first - c.start, c.height - height), 0)
        for u in c.above:
            inside = self.link(u, height, base)
        self.feature_map(inside, height, base)
        for u in c.below:
            self.link(u, self.rows, first)

    def cut(self, v: Value, image: int | None, axis: int | None, rows: int) -> tuple[Value, dict[Symbol, Dim]]:
        """Create the strip's counterpart of v, with `rows` rows of one image. -> (the new value, {v's loop: its index in
        terms of the new loops})"""
        shape = [rows if a == axis else n for a, n in enumerate(v.shape) if a != image]
        t = Tensor(v.tensor.dtype, shape, v.tensor.name)
        t.id, t.origin = v.tensor.id, v.tensor.origin
        made = self.values[t] = Value(t)
        made.region = (self.region,)
        old = [single(x) for a, x in enumerate(v.axes) if a != image]
        env = {s: new for s, new in zip(old, made.axes, strict=True) if s is not None}
        if image is not None and (s := single(v.axes[image])) is not None:
            env[s] = value(self.region.step) // self.strips
        return made, env

    def link(self, u: Link, rows: int, base: Dim) -> Value:
        """Create u's counterpart for `rows` rows from row `base` on, and retire u."""
        v, (image, axis) = u.value, u.axes
        made, env = self.cut(v, image, axis, rows)
        self.locals[v.tensor] = Local(made.tensor, image, axis, base)
        env[u.row] = env[u.row] + base
        assert v.body is not None
        made.fn, made.loops, made.body = v.fn, v.loops, transform(replace(v.body, env), self.moved)
        target, where = v.into or self.whole
        if v.into or u is self.chain.below[-1]:
            made.into = target, tuple(substitute(i, env) for i in where)
        retire(v)
        return made

    def moved(self, r: Read) -> Expr:
        """Replace a read of a tensor that is computed in strips by a read of the strip's tensor."""
        found = self.locals.get(r.tensor)
        return r if found is None else Read(found.tensor, found.at(r.indices), r.guard)

    def feature_map(self, inside: Value, height: int, base: Dim) -> None:
        """Create the strip's feature map: `height` rows, with the border of the whole one."""
        c, w = self.chain, self.chain.windows
        less = c.height - height
        rows = c.feature_map.shape[w.axis]
        assert isinstance(rows, int)
        assert inside.into is not None
        whole, _ = self.cut(c.feature_map, w.image, w.axis, rows - less)
        local = self.locals[c.feature_map.tensor] = Local(whole.tensor, w.image, w.axis, base)
        inside.into = whole.tensor, local.at(inside.into[1])
        whole.tensor.parts = inside.tensor, *(self.edge(e, whole.tensor, less) for e in c.edges)

    def edge(self, e: Edge, whole: Tensor, less: int) -> Tensor:
        """Create the strip's counterpart of a border part, for a map with `less` fewer rows.

        Parts under the inside move up by this number of rows; parts beside the inside lose as many.
        """
        c, w, v = self.chain, self.chain.windows, e.value
        assert v.into is not None
        assert v.body is not None
        where = v.into[1]
        under = e.start >= c.start + c.height
        beside = not under and e.start + e.height > c.start
        axis = None if e.row is None else v.axes.index(value(e.row))
        image = None if w.image is None else next((a for a, x in enumerate(v.axes) if x == where[w.image] and symbols(x)), None)
        made, env = self.cut(v, image, axis, e.height - less if beside else e.height)
        made.body = replace(v.body, env)
        at = [substitute(i, env) - (less if under and a == w.axis else 0) for a, i in enumerate(where) if a != w.image]
        made.into = whole, tuple(at)
        retire(v)
        return made.tensor


def retire(v: Value) -> None:
    """Mark v as computed elsewhere, or not at all."""
    v.body, v.into, v.fn, v.loops, v.place = None, None, None, (), "WHOLE"
