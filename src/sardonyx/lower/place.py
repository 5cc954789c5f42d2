"""place(): where each value is computed and where it is kept. Consumers first; rules in order; no rule asks for an operator's name.

A *statement* is a value that is materialised; a *site* of v is (statement, read): one that reads v, and where. Values placed VIEW or
INLINE vanish into their readers' expressions, and what they read becomes read by the readers. Every statement is in one nest. A
*nest* has a root, which has a buffer, and a `band`: the loops outside, the row last. Its members are computed inside the band.

    VIEW    an index map and nothing else                              taken up by the readers' addresses; first of all
    PART    writes through a view into a whole                         a nest of its own
    INLINE  pointwise; each site reads every element once, and (operations + loads) x (uses - 1) is small
    TILE    a contraction, read once, at a statement's own point       sums in registers, the statement is the epilogue
    ROW     all uses at the same loops of one nest's band, scratch fits, a contraction's B fits in L2
    ROOT    else: a buffer, in the order of its first reader's loops

Piecewise values are never inlined: the loops that decide between their arms are written out where they are computed, so these never
belong to the band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sardonyx.base.budget import check
from sardonyx.base.symbolic import (
    Dim,
    Symbol,
    ceil_divide,
    covering_loops,
    product,
    single,
    substitute,
    symbols,
    value,
)
from sardonyx.expr.pieces import deciding
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import replace
from sardonyx.lower.layout import Layouts, Use
from sardonyx.lower.machine import Machine
from sardonyx.lower.parallel import LEAST_SHARED_WORK
from sardonyx.lower.values import (
    Operands,
    Value,
    bound,
    cost,
    extent,
    inline_into,
    moves,
    operands,
    quotients,
    reads_of,
)

MOST_FULLY_UNROLLED = 8
"""Turns of a loop that is written out because arms depend on it, or stands beside one that is."""


@dataclass(eq=False)
class Nest:
    """One root, the loops around its members (the row last), and the members, in order.

    stream: a column loop around the blocks of rows, inside the loops that B has."""

    root: Value
    band: list[Symbol] = field(default_factory=list)
    members: list[Value] = field(default_factory=list)
    tile: Value | None = None
    panels_outermost: bool = False

    @property
    def statements(self) -> list[Value]:
        return sorted([*self.members, self.root], key=lambda v: v.id)


Rule = Callable[[Value, Sequence[Use]], bool]


def place(values: dict[Tensor, Value], outputs: Iterable[Tensor], machine: Machine) -> list[Nest]:
    """Places every value that an output needs and returns the nests in the order of their roots."""
    return Placer(values, set(outputs), machine).run()


def inline_views(values: dict[Tensor, Value], outputs: Iterable[Tensor], machine: Machine) -> None:
    """Lets every reader of an index map read what it maps to; outputs stay."""
    placer = Placer(values, set(outputs), machine)
    for v in sorted(values.values(), key=lambda v: v.id):
        check(f"looking at {v.tensor}")
        placer.view(v)


class Placer(Layouts):
    def __init__(self, values: dict[Tensor, Value], outputs: set[Tensor], machine: Machine) -> None:
        super().__init__(values, outputs, machine)
        self.nests: list[Nest] = []
        calls = dict.fromkeys(t.call for t in values if t.call is not None)
        self.called = {t: min(o.id for o in c.outputs) for c in calls for t in c.inputs}  # when hand-written kernels read

    def run(self) -> list[Nest]:
        for v in sorted(self.values.values(), key=lambda v: -v.id):
            check(f"placing {v.tensor}")
            if v.body is None or v.place is not None or not self.needed(v):
                continue
            uses = self.uses(v)
            any(rule(v, uses) for rule in self.rules(v, uses))  # the first that can
        for v in self.values.values():
            if v.constant and v.body is None:
                self.layout(v)
        for nest in self.nests:
            nest.members.sort(key=lambda m: m.id)
        return sorted(self.nests, key=lambda n: n.root.id)

    def rules(self, v: Value, uses: Sequence[Use]) -> tuple[Rule, ...]:
        """The rules that may place v, in their order."""
        decide = deciding(v.body)
        if any(single(d) is None for d in decide):
            return self.part, self.root
        if decide:
            return self.part, self.row, self.root
        return self.part, self.inline, self.tile, self.row, self.root

    def needed(self, v: Value) -> bool:
        if v.tensor in self.outputs or self.uses(v):
            return True
        return v.into is not None and (v.into[0] in self.outputs or bool(self.uses(self.values[v.into[0]])))

    def substitute(self, v: Value, readers: Iterable[Value]) -> None:
        """The readers take up v's body."""
        for reader in dict.fromkeys(readers):
            inline_into(reader, v)
            self.note(reader)

    # ---- the rules: each returns whether it placed v ------------------------------------------------------------------------

    def view(self, v: Value) -> bool:
        """An index map and nothing else: the readers' addresses take it up."""
        if v.fn or v.into or v.tensor in self.outputs or not isinstance(v.body, Read) or v.body.guard is not None:
            return False
        if any(r is not v.body for r in reads_of(v)):
            return False  # an index that is data
        self.substitute(v, self.readers.get(v, ()))
        v.place = "VIEW"
        return True

    def part(self, v: Value, uses: Sequence[Use]) -> bool:
        return v.into is not None and not v.is_next_state and self.root(v, uses)

    def inline(self, v: Value, uses: Sequence[Use]) -> bool:
        if v.fn or v.into or v.tensor in self.outputs or any(t.region != v.region for t, _ in uses):
            return False
        if any(operands(t) and self.is_operand(t, r) for t, r in uses):
            return False
        price = cost(v)
        once = all(loops_of(r) >= set(t.all_loops) for t, r in uses)
        if not (once and price * (len(uses) - 1) <= self.machine.recompute_budget) and price > (
            0 if once else self.machine.recompute_budget // 2
        ):
            return False
        if any(price + cost(t) > MOST_OPERATIONS for t, _ in uses):
            return False
        self.substitute(v, [t for t, _ in uses])
        v.place = "INLINE"
        return True

    def is_operand(self, contraction: Value, r: Read) -> bool:
        o = operands(contraction)
        return o is not None and (r is o.a or r is o.b)

    def tile(self, v: Value, uses: Sequence[Use]) -> bool:
        """A contraction read at one point of one pointwise statement: that statement is its epilogue, the sums stay in the tile."""
        if len(uses) != 1 or v.tensor in self.outputs or not operands(v):
            return False
        ((t, r),) = uses
        if t.fn or t.tile or t.region != v.region or r.guard is not None or deciding(t.body):
            return False
        if not self.same_point(v, t, r):
            return False
        nest = t.nest
        assert isinstance(nest, Nest)
        if t is nest.root and not nest.members:
            self.attach(v, nest, r)
            o = self.contraction(v)
            nest.band, nest.tile, nest.panels_outermost = o.batch + o.rows, v, self.b_exceeds_cache(v)
        elif self.fits_rows(v, r, nest):
            self.attach(v, nest, r)
        else:
            return False
        v.place, t.tile = "TILE", v
        return True

    def same_point(self, v: Value, t: Value, r: Read) -> bool:
        """Does t read each element of contraction v once, at its own point, and its columns along one loop?"""
        column = next(a for a, x in enumerate(v.axes) if single(x) is self.contraction(v).columns[0])
        loops: list[Symbol] = []
        for axis, (a, i) in enumerate(zip(v.axes, r.indices, strict=True)):
            found = covering_loops(i)
            if symbols(a) and (not found or (axis == column and len(found) > 1)):
                return False
            loops += found or []
        return len(loops) == len(t.variables) and set(loops) == set(t.variables)

    def row(self, v: Value, uses: Sequence[Use]) -> bool:
        """Read in one nest at the same outer loops and row: nothing is computed twice. Scratch for a block of rows; if later
        nests read it too, a buffer instead."""
        if not uses or any(r.guard is not None for _, r in uses):
            return False  # computed at all of the band's turns, it would be where the guard forbids it
        nest = min((t.nest for t, _ in uses), key=lambda n: n.root.id)  # type: ignore[attr-defined]
        assert isinstance(nest, Nest)
        if len(nest.members) >= MOST_MEMBERS or sum(map(cost, [*nest.statements, v])) > MOST_NEST_OPERATIONS:
            return False
        inside = [s for s in uses if s[0].nest is nest]
        keep = v.tensor in self.outputs or v.is_next_state or len(inside) < len(uses)
        if operands(v) and any(deciding(m.body) for m in nest.statements):
            return False  # its rows would be the loops that are to be written out
        if nest.root.region != v.region or any(t.region != v.region for t, _ in uses):
            return False
        if keep and (operands(v) or any(t.nest.root.id < nest.root.id for t, _ in uses)):  # type: ignore[attr-defined]
            return False
        if keep and (v.level < nest.root.level or self.called.get(v.tensor, math.inf) < nest.root.id):
            return False  # somebody waits for it
        decide = frozenset().union(*map(symbols, deciding(v.body)))
        at = {a: i for a, i in self.mapped(v, inside, nest).items() if decide.isdisjoint(symbols(v.axes[a]))}
        if keep and not covers(v, at):
            return False  # this nest needs a part of it only
        if v.into and any(single(i) is None for i in at.values()):
            return False  # who reads a part finds it by the loops of its axes
        got = set().union(*(symbols(i) for i in at.values()))
        band = [s for s in nest.band if s in got]
        if band != nest.band:
            rigid = nest.tile is not None or any(m.tile for m in nest.members)
            if rigid or not band or self.machine.guess(product(extent(s) for s in band)) < PARTS:
                return False
        if self.starves(v, at, nest, band):
            return False
        if not self.fits(v, at, nest) or (operands(v) and not self.fits_rows(v, inside[0][1], nest)):
            return False
        if keep:
            self.layout(v)
            v.stored = True
        nest.band, nest.panels_outermost = band, False
        nest.members.append(v)
        self.attach_axes(v, nest, at)
        if operands(v):
            self.wrap(v)
        v.place = "ROW"
        return True

    def starves(self, v: Value, at: dict[int, Dim], nest: Nest, band: Sequence[Symbol]) -> bool:
        """Would v as a member of a nest with this band leave one thread with work that several could share?

        Threads share the turns of a band. A size that only the run knows counts as 1 there. Example: a network that normalises over groups
        of channels, run on a batch of one. With [batch] as the band of a nest over [batch, 64, 64, 32], all its work is one thread's.
        """
        turns = product(map(extent, band))
        if self.machine.guess(turns, 1) >= PARTS:
            return False
        own = [s for a, x in enumerate(v.axes) if a not in at for s in covering_loops(x) or ()]
        rest = [s for s in nest.root.variables if s not in band]
        work = [product(map(extent, [*free, *x.loops])) for x, free in ((v, own), (nest.root, rest)) if free]
        ones: dict[Symbol, Dim] = dict.fromkeys(symbols(turns), 1)
        return any(self.machine.guess(substitute(n, ones), self.machine.small) >= LEAST_SHARED_WORK for n in work)

    def fits(self, v: Value, at: dict[int, Dim], nest: Nest) -> bool:
        free = product(n for a, n in enumerate(v.shape) if a not in at and not (deciding(v.body) and is_short(n)))
        if self.machine.guess(free, self.machine.small) * 8 * v.tensor.dtype.itemsize > self.machine.l2 // 2:
            return (
                False  # of a size that is not known a small one is thought: scratch too large for a cache is no worse than a buffer
            )
        return nest.tile is None or not self.b_exceeds_cache(nest.tile)

    def root(self, v: Value, uses: Sequence[Use]) -> bool:
        """A buffer, and a nest of its own, its loops in the order of the buffer's axes."""
        if not operands(v):
            v = self.refine(v)
        self.layout(v)
        v.place = "ROOT"
        nest = v.nest = Nest(v)
        self.nests.append(nest)
        if o := operands(v):
            nest.band = o.batch + o.rows
            nest.tile = self.wrap(v)
            nest.panels_outermost = self.b_exceeds_cache(nest.tile) or self.batched_b_exceeds_cache(nest.tile)
            return True
        store = self.stored_at(v)
        vector = self.vector_loop(v)
        nest.band = sorted((s for s in v.variables if s is not vector), key=lambda s: -self.machine.guess(moves(store, s)))
        return True

    # ---- what the rules ask -------------------------------------------------------------------------------------------------

    def mapped(self, v: Value, uses: Sequence[Use], nest: Nest) -> dict[int, Dim]:
        """The axes of v that every site reads at one and the same loops of the band."""
        out: dict[int, Dim] = {}
        for axis, a in enumerate(v.axes):
            found = {r.indices[axis] for _, r in uses}
            i = found.pop()
            if symbols(a) and not found and symbols(i) and set(covering_loops(i) or (None,)) <= set(nest.band):
                out[axis] = i
        return out

    def attach(self, v: Value, nest: Nest, r: Read) -> None:
        self.attach_axes(v, nest, {a: i for a, i in enumerate(r.indices) if symbols(v.axes[a])})

    def attach_axes(self, v: Value, nest: Nest, at: dict[int, Dim]) -> None:
        """v's axes become indices over the nest's loops."""
        env = {next(iter(symbols(v.axes[a]))): i for a, i in at.items()}
        assert v.body is not None
        v.body = replace(v.body, env)
        v.axes = tuple(substitute(a, env) for a in v.axes)
        v.into = v.into and (v.into[0], tuple(substitute(i, env) for i in v.into[1]))
        v.nest = nest
        self.note(v)

    def wrap(self, v: Value) -> Value:
        """A contraction lives in a tile always: v becomes the statement (the identity) that takes its sums."""
        sums = Tensor(v.tensor.dtype, v.shape, f"{v.tensor.name}.sums")
        t = self.values[sums] = Value(sums)
        t.axes, t.loops, t.fn, t.body, t.region, t.nest, t.place = v.axes, v.loops, v.fn, v.body, v.region, v.nest, "TILE"
        t.contracts = v.contracts
        v.tile, v.fn, v.loops, v.body = t, None, (), Read(sums, v.axes)
        self.note(t)
        self.note(v)
        return t

    def contraction(self, v: Value) -> Operands:
        o = operands(v)
        assert o is not None
        return o

    def b_exceeds_cache(self, v: Value) -> bool:
        """Is B of contraction v too large to be read again for each block of rows? Not for what is known of it, if its size is not."""
        o = self.contraction(v)
        size = self.machine.guess(product(extent(s) for s in o.columns + o.k), self.machine.small)
        return size * v.tensor.dtype.itemsize > self.machine.l2 // 4

    def batched_b_exceeds_cache(self, v: Value) -> bool:
        """Has contraction v a B for each of its batches, all of them together too large for a cache?"""
        o = self.contraction(v)
        batches = product(extent(s) for s in o.batch if s in o.b.symbols)
        whole = product([batches, *(extent(s) for s in o.columns + o.k)])
        return (
            batches != 1
            and self.values[o.b.tensor].constant
            and self.machine.guess(whole) * v.tensor.dtype.itemsize > self.machine.l2 // 4
        )

    def fits_rows(self, v: Value, r: Read, nest: Nest) -> bool:
        """May contraction v be computed for a block of rows of this nest?"""
        o = self.contraction(v)
        at = {s: i for a, i in zip(v.axes, r.indices, strict=True) for s in symbols(a)}
        rows = [x for s in o.rows for x in covering_loops(at.get(s, value(s))) or (None,)]
        outer = [x for s in o.batch for x in covering_loops(at.get(s, value(s))) or (None,)]
        return (
            bool(nest.band) and rows[-1:] == nest.band[-1:] and set(rows + outer) == set(nest.band) and not self.b_exceeds_cache(v)
        )

    def refine(self, v: Value) -> Value:
        """Where v's body asks for s // d and s % d of one of its loops, v gets two loops for it, and is written through the view
        back: u[.., q, r, ..] with s = q d + r. Not where they don't divide it evenly, unless arms depend on s % d."""
        decide = deciding(v.body)
        for atom in quotients(v):
            s, d = single(atom.left), atom.right
            if s is None or s not in v.variables or not isinstance(d, int):
                continue
            if extent(s) % d != 0 and not any(s in symbols(i) for i in decide):
                continue
            axis = next(a for a, x in enumerate(v.axes) if single(x) is s)
            u = self.split_axis(v, axis, d)
            return self.refine(u)
        return v

    def split_axis(self, v: Value, axis: int, d: int) -> Value:
        target, where = v.into or (v.tensor, v.axes)
        n = v.shape[axis]
        shape = [*v.shape[:axis], ceil_divide(n, d), d, *v.shape[axis + 1 :]]
        part = Tensor(v.tensor.dtype, shape, v.tensor.name)
        part.origin = v.tensor.origin
        part.id = v.tensor.id
        u = self.values[part] = Value(part)
        own = [*list(u.axes[:axis]), u.axes[axis] * d + u.axes[axis + 1], *list(u.axes[axis + 2 :])]
        env = {s: i for a, i in zip(v.axes, own, strict=True) if (s := single(a)) is not None}
        assert v.body is not None
        u.body, u.fn, u.loops, u.region, u.is_next_state = replace(v.body, env), v.fn, v.loops, v.region, v.is_next_state
        u.guard = None if v.guard is None else replace(v.guard, env)
        if n % d != 0:
            bound(u, own[axis], n)
        u.level = v.level
        u.into = target, tuple(substitute(i, env) for i in where)
        v.body, v.into, v.place = None, None, "WHOLE"
        self.note(u)
        return u


PARTS = 8
"""Turns of a band, at the least, for work that is worth sharing."""
MOST_OPERATIONS = 100
"""Of one statement, in units of `cost`: the expression is walked recursively, and rebuilt for each value that it takes up."""
MOST_MEMBERS = 64
"""Of one nest: longer chains become several kernels, so that the time to compile them grows with their length and not its square."""
MOST_NEST_OPERATIONS = 512
"""Of all statements of a nest, in units of `cost`: past it, what a buffer between two kernels takes is little beside what they do, and long
chains become many nests that are alike and share one kernel."""


def covers(v: Value, at: dict[int, Dim]) -> bool:
    """Do these axes of v run through all of their elements, each beside all of the others? Not along a diagonal, where two move together."""
    loops = [(covering_loops(i) or [], v.shape[a]) for a, i in at.items()]
    apart = len({s for own, _ in loops for s in own}) == sum(len(own) for own, _ in loops)
    return apart and all(product(map(extent, own)) == n for own, n in loops)


def loops_of(r: Read) -> set[Symbol]:
    return set().union(*(symbols(i) for i in r.indices))


def is_short(n: Dim) -> bool:
    """May a loop of this extent be written out?"""
    return isinstance(n, int) and n <= MOST_FULLY_UNROLLED
