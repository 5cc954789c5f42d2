"""Pictures made in strips: a sum, and the windows over it, for a few rows at a time, so that what lies between stays in the cache.

    e[n, c, start + y, x]  = f(sum over i of ...)                      a feature map, y < H, inside of a border
    d[n, c, h, w]          = g(sum over p, q of e[n, c, m h + p, ..])   windows that overlap
    z[n, o, h, w]          = f'(sum over c of d[n, c, h, w] ...)        if d is read by nothing else

becomes a repeated body over the strips of all images: R rows of the last statement at a time, from h0 = R (step mod strips),

    e'[c, start + r, x]    the picture's rows base + r, r < H', inside of the same border: a picture of less height
    d'[c, r, w]            from the rows m (h0 + r) + p - base of e'
    z[n, o, h0 + r, w]     = ...

H' rows are as many as the windows of R rows reach; base is where they begin, but never outside of the feature map: the border of e' is then
that of e where a strip is at the picture's edge, and is not read elsewhere. Rows that two strips reach are computed twice.

The widening layers of mobile networks are such: e is several times as large as what goes in and what comes out.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

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
"""Outputs in the rows of a strip: with fewer its sums are too low to run at full speed, and threads wait for each other too often."""
STRIP_SECONDS = 5e-6
"""Seconds that a further strip costs: its kernels start, and the team meets."""
LEAST_GAIN = 1.5
"""How many times the time that strips cost must be saved."""


def make_strips(values: dict[Tensor, Value], kept: Container[Tensor], machine: Machine) -> None:
    """Rewrites the chains for which it pays. kept: what must remain as it is."""
    readers = readers_of(values.values())
    for v in sorted(values.values(), key=lambda v: v.id):
        chain = find_chain(v, values, readers, kept) if v.fn and not v.region and not v.constant and v.place is None else None
        rows = choose(chain, machine) if chain else None
        if chain and rows:
            Rewrite(values, chain, rows).run()


# ---- the choice -----------------------------------------------------------------------------------------------------------


def choose(c: Chain, machine: Machine) -> int | None:
    """The rows of outputs of a strip; None where strips would not pay. From extents alone, for one image."""
    w = c.windows
    row = (
        machine.guess(product(n for a, n in enumerate(c.feature_map.shape) if a not in (w.axis, w.image)))
        * c.feature_map.tensor.dtype.itemsize
    )
    budget = machine.l2 // 2 - sum(weights(u.value, machine) for u in (c.above[0], *c.below))
    if row * c.height <= budget:  # one image at a time
        large = w.image is not None and row * c.height > machine.l2 // 4
        return c.outputs if large and points(c, c.outputs, machine) >= LEAST_POINTS else None
    most = (budget // row - w.reach) // w.step + 1
    if most < 1 or points(c, most, machine) < LEAST_POINTS:
        return None
    strips = -(-c.outputs // most)
    rows = -(-c.outputs // strips)
    again = strips * c.rows(rows) - c.height
    saved = 3 * row * c.height / machine.bandwidth  # written, read before it is written, read
    price = again * operations(c.above[0], machine) / machine.flops + strips * STRIP_SECONDS
    return rows if saved > LEAST_GAIN * price else None


def points(c: Chain, rows: int, machine: Machine) -> int:
    """Outputs of so many rows of an image, in one channel."""
    w = c.windows
    others = set().union(*(q.symbols for q in reads_of(w.value) if q is not w.read))
    free = [s for s in w.value.variables if s not in others and s not in (w.link.image, w.link.row)]
    return rows * machine.guess(product(map(extent, free)))


def weights(v: Value, machine: Machine) -> int:
    """Bytes of weights that a sum reads."""
    return sum(machine.guess(product(r.tensor.shape)) * r.dtype.itemsize for r in reads_of(v) if v.fn and r.tensor.data is not None)


def operations(u: Link, machine: Machine) -> int:
    """For one row of an image."""
    return 2 * machine.guess(product(extent(s) for s in u.value.all_loops if s not in (u.image, u.row)))


# ---- the rewrite ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Local:
    """A tensor of a strip: which axis of the whole one it lacks, which one counts rows, and the row that is its first."""

    tensor: Tensor
    image: int | None
    axis: int
    base: Dim

    def at(self, indices: Sequence[Dim]) -> tuple[Dim, ...]:
        """Where an element of the whole tensor lies."""
        moved = [i - self.base if a == self.axis else i for a, i in enumerate(indices)]
        return tuple(i for a, i in enumerate(moved) if a != self.image)


class Rewrite:
    """Puts a chain in strips of so many rows of outputs."""

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
        """A new value in the body of a strip: v's tensor with so many rows of one image; and v's loops as its own."""
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
        """u's value for so many rows from base on."""
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
        """A read of what is made in strips, where it lies there."""
        found = self.locals.get(r.tensor)
        return r if found is None else Read(found.tensor, found.at(r.indices), r.guard)

    def feature_map(self, inside: Value, height: int, base: Dim) -> None:
        """The picture of a strip, which has the whole one's border around so many rows."""
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
        """A part of the border: what lies under the inside moves up by as many rows as are less, what lies beside it loses them."""
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
    """v's tensor is made elsewhere, or no more."""
    v.body, v.into, v.fn, v.loops, v.place = None, None, None, (), "WHOLE"
