"""Decide where each value is computed and where it is stored. Values are visited from the last to the first, so that the
readers of a value are placed before the value itself. The rules ask for extents, strides and readers, never for an
operator's name.

A *statement* is a value that is written to memory or kept in registers. A *use* of v is a pair (statement, read): a placed
statement and one of its reads of v. Values placed VIEW or INLINE disappear: their bodies are inlined into the readers, which
then read what v read. Every statement belongs to one nest. A *nest* has a root, which has a buffer, members, which are
computed inside the root's loops, and a `band`: the outer loops that root and members share, the loop over rows last. Each
value takes the first rule that fits:

    VIEW    a pure index map                               inlined into the readers' addresses, before all other rules
    PART    writes its elements into a larger tensor       a nest of its own
    INLINE  pointwise, cheap to recompute                  Halide's compute_inline: (operations + loads) * (uses - 1) is small
    TILE    a contraction with one pointwise reader        sums stay in registers; the reader is the epilogue
    ROW     all its uses in one nest, at the same outer    Halide's compute_at: a scratch buffer holds a block of rows, if it fits
            loops of that nest's band                      the cache; B of a contraction must fit in L2
    ROOT    everything else                                Halide's compute_root: a buffer, in the order of its first reader's loops

Piecewise values are never inlined. The loops that choose between their cases are fully unrolled where the value is computed,
so these loops never belong to a band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field

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
from sardonyx.loop.nodes import Expr, replace
from sardonyx.lower.layout import Layouts, Use
from sardonyx.lower.machine import Machine
from sardonyx.lower.parallel import LEAST_SHARED_WORK
from sardonyx.lower.values import (
    Operands,
    TooLong,
    Value,
    bound,
    cost,
    extent,
    moves,
    operands,
    quotients,
    reads_of,
    with_inlined,
)

MOST_FULLY_UNROLLED = 8
"""Iterations of a loop that may be fully unrolled: a loop whose index selects the case of a piecewise expression."""


class Nest(Struct, eq=False):
    """The loops that compute one root value and its members; it becomes one kernel.

    band: the outer loops that root and members share, the loop over rows last. tile: the contraction that the root stores, if
    any. panels_outermost: the loop over panels of columns runs outside the loop over blocks of rows, so that each panel of B
    is read once.
    """

    root: Value
    band: list[Symbol] = field(default_factory=list)
    members: list[Value] = field(default_factory=list)
    tile: Value | None = None
    panels_outermost: bool = False

    @property
    def statements(self) -> list[Value]:
        """List members and root in the order in which they are computed."""
        return sorted([*self.members, self.root], key=lambda v: v.id)


Refusal = str | None
"""The reason why a rule may not place a value; None if it has placed it."""
Rule = Callable[[Value, Sequence[Use]], Refusal]
OPTIONAL_RULES = frozenset(("inline", "tile", "row"))
"""Without them every value is a ROOT."""


class Decision(NamedTuple):
    """Where a value was placed, and why not where earlier rules would have placed it: {rule: reason}."""

    value: Value
    place: str
    refused: Mapping[str, str]


class Placing(NamedTuple):
    """What `place` decides: the nests in the order of their roots, and the decisions, last value first."""

    nests: list[Nest]
    decisions: list[Decision]


def place(
    values: dict[Tensor, Value], outputs: Iterable[Tensor], machine: Machine, allowed: Container[str] = OPTIONAL_RULES
) -> Placing:
    """Place every value that an output depends on. allowed: the optional rules that may be used."""
    return Placer(values, set(outputs), machine, allowed).run()


def inline_views(values: dict[Tensor, Value], outputs: Iterable[Tensor], machine: Machine) -> None:
    """Inline each index map into its readers, so that they read the map's source directly. Values in `outputs` keep their
    buffers."""
    placer = Placer(values, set(outputs), machine)
    for v in sorted(values.values(), key=lambda v: v.id):
        check(f"looking at {v.tensor}")
        placer.view(v)


class Placer(Layouts):
    """Places values one by one. The rules (`part`, `inline`, `tile`, `row`, `root`) return None if they have placed the
    value, else the reason why they can't."""

    def __init__(
        self, values: dict[Tensor, Value], outputs: set[Tensor], machine: Machine, allowed: Container[str] = OPTIONAL_RULES
    ) -> None:
        super().__init__(values, outputs, machine)
        self.allowed = allowed
        self.nests: list[Nest] = []
        self.decisions: list[Decision] = []
        calls = dict.fromkeys(t.call for t in values if t.call is not None)
        self.called = {t: min(o.id for o in c.outputs) for c in calls for t in c.inputs}  # when a kernel first reads t
        self.costs: dict[Value, tuple[Expr | None, int]] = {}  # of each value: a body, and its cost

    def run(self) -> Placing:
        """Place all values, the last first, and return the nests in the order of their roots."""
        for v in sorted(self.values.values(), key=lambda v: -v.id):
            check(f"placing {v.tensor}")
            if v.body is None or v.place is not None or not self.needed(v):
                continue
            self.decide(v, self.uses(v))
        for v in self.values.values():
            if v.constant and v.body is None:
                self.layout(v)
        for nest in self.nests:
            nest.members.sort(key=lambda m: m.id)
        return Placing(sorted(self.nests, key=lambda n: n.root.id), self.decisions)

    def decide(self, v: Value, uses: Sequence[Use]) -> None:
        """Place v by the first rule that can."""
        refused: dict[str, str] = {}
        for rule in self.rules(v):
            name = rule.__name__
            reason = rule(v, uses) if name in self.allowed or name not in OPTIONAL_RULES else LEFT_OUT
            if reason is None:
                break
            refused[name] = reason
        self.decisions.append(Decision(v, v.place or "", refused))

    def rules(self, v: Value) -> tuple[Rule, ...]:
        """List the rules that may place v, in the order in which they are tried."""
        decide = deciding(v.body)
        if any(single(d) is None for d in decide):
            return self.part, self.root
        if decide:
            return self.part, self.row, self.root
        return self.part, self.inline, self.tile, self.row, self.root

    def needed(self, v: Value) -> bool:
        """Tell whether v is an output, is read by a placed statement, or is a part of a tensor for which that holds."""
        if v.tensor in self.outputs or self.uses(v):
            return True
        return v.into is not None and (v.into[0] in self.outputs or bool(self.uses(self.values[v.into[0]])))

    def substitute(self, v: Value, readers: Iterable[Value]) -> bool:
        """Inline v's body into each of the readers, or into none if an index would be too long. -> whether it was"""
        try:
            bodies = {reader: with_inlined(reader, v) for reader in dict.fromkeys(readers)}
        except TooLong:
            return False
        for reader, body in bodies.items():
            reader.body = body
            reader.checked |= v.checked
            self.note(reader)
        return True

    # ---- the rules: each places v and returns None, or returns why it can't ------------------------------------------------

    def view(self, v: Value) -> bool:
        """Inline v into its readers if v is a pure index map: one read, without a guard, at indices that do not come from
        data."""
        if v.fn or v.into or v.tensor in self.outputs or not isinstance(v.body, Read) or v.body.guard is not None:
            return False
        if any(r is not v.body for r in reads_of(v)):
            return False  # an index is read from a tensor
        if not self.substitute(v, self.readers.get(v, ())):
            return False
        v.place = "VIEW"
        return True

    def part(self, v: Value, uses: Sequence[Use]) -> Refusal:
        """Give v a nest of its own if it writes into a larger tensor. The next state of a loop is excluded: it may be a ROW."""
        if v.into is None:
            return "it is no part of a whole"
        if v.is_next_state:
            return "it is the next state of a loop"
        return self.root(v, uses)

    def inline(self, v: Value, uses: Sequence[Use]) -> Refusal:
        """Inline v into its readers if computing it again at every use costs little.

        If every use reads each element of v once, the limit is cost * (uses - 1) <= recompute_budget. If some use reads
        elements several times, the limit is cost <= recompute_budget / 2.
        """
        if v.fn:
            return "it is a reduction"
        if v.into:
            return "it is a part of a whole"
        if v.tensor in self.outputs:
            return "its buffer is asked for"
        if any(t.region != v.region for t, _ in uses):
            return "it is read in another repeated body"
        if any(operands(t) and self.is_operand(t, r) for t, r in uses):
            return "a contraction reads it"
        price = self.cost(v)
        once = all(loops_of(r) >= set(t.all_loops) for t, r in uses)
        if not (once and price * (len(uses) - 1) <= self.machine.recompute_budget) and price > (
            0 if once else self.machine.recompute_budget // 2
        ):
            return (
                f"{len(uses)} uses would each compute it, at a cost of {price}"
                if once
                else "a use would compute it again and again"
            )
        if any(price + self.cost(t) > MOST_OPERATIONS for t, _ in uses):
            return "the expression of its reader would be too long"
        if not self.substitute(v, [t for t, _ in uses]):
            return "an index of its reader would be too long"
        v.place = "INLINE"
        return None

    def is_operand(self, contraction: Value, r: Read) -> bool:
        """Tell whether r reads one of the two operands of a contraction."""
        o = operands(contraction)
        return o is not None and (r is o.a or r is o.b)

    def tile(self, v: Value, uses: Sequence[Use]) -> Refusal:
        """Keep the sums of contraction v in registers if one pointwise statement reads v, at its own loops: that statement
        becomes the epilogue."""
        if not operands(v):
            return "it is no contraction"
        if v.tensor in self.outputs:
            return "its buffer is asked for"
        if len(uses) != 1:
            return f"it is read {len(uses)} times"
        ((t, r),) = uses
        if t.fn or t.tile or r.guard is not None or deciding(t.body):
            return "its reader is a reduction, has a tile, reads it under a condition, or is piecewise"
        if t.region != v.region:
            return "it is read in another repeated body"
        if not self.same_point(v, t, r):
            return "its reader needs other elements than the one at its own point"
        nest = t.nest
        assert isinstance(nest, Nest)
        if t is nest.root and not nest.members:
            self.attach(v, nest, r)
            o = self.contraction(v)
            nest.band, nest.tile, nest.panels_outermost = o.batch + o.rows, v, self.b_exceeds_cache(v)
        elif self.fits_rows(v, r, nest):
            self.attach(v, nest, r)
        else:
            return OTHER_ROWS
        v.place, t.tile = "TILE", v
        return None

    def same_point(self, v: Value, t: Value, r: Read) -> bool:
        """Tell whether t reads each element of contraction v once, at t's own loops, with v's columns along a single loop of
        t."""
        column = next(a for a, x in enumerate(v.axes) if single(x) is self.contraction(v).columns[0])
        loops: list[Symbol] = []
        for axis, (a, i) in enumerate(zip(v.axes, r.indices, strict=True)):
            found = covering_loops(i)
            if symbols(a) and (not found or (axis == column and len(found) > 1)):
                return False
            loops += found or []
        return len(loops) == len(t.variables) and set(loops) == set(t.variables)

    def row(self, v: Value, uses: Sequence[Use]) -> Refusal:
        """Compute v inside the first nest that reads it, one block of rows at a time, if all uses there have the same outer
        loops.

        Nothing is then computed twice. The block of rows lies in scratch memory; v gets a buffer instead if later nests read
        it too, if it is an output, or if it is the next state of a loop.
        """
        if not uses:
            return "no statement reads it"
        if any(r.guard is not None for _, r in uses):
            return "it is read under a condition, and might not be computed where that is false"
        nest = min((t.nest for t, _ in uses), key=lambda n: n.root.id)  # type: ignore[attr-defined]
        assert isinstance(nest, Nest)
        inside = [s for s in uses if s[0].nest is nest]
        keep = v.tensor in self.outputs or v.is_next_state or len(inside) < len(uses)
        if (reason := self.may_not_join(v, nest, uses)) or (keep and (reason := self.comes_too_late(v, nest, uses))):
            return reason
        decide = frozenset().union(*map(symbols, deciding(v.body)))
        at = {a: i for a, i in self.mapped(v, inside, nest).items() if decide.isdisjoint(symbols(v.axes[a]))}
        if keep and not covers(v, at):
            return "the nest needs a part of it only, others need all"
        if v.into and any(single(i) is None for i in at.values()):
            return "it is a part of a whole, and read where two loops move together"
        got = set().union(*(symbols(i) for i in at.values()))
        band = [s for s in nest.band if s in got]
        if reason := self.does_not_pay(v, at, nest, band) or self.does_not_fit(v, at, nest, inside[0][1]):
            return reason
        if keep:
            self.layout(v)
            v.stored = True
        nest.band, nest.panels_outermost = band, False
        nest.members.append(v)
        self.attach_axes(v, nest, at)
        if operands(v):
            self.wrap(v)
        v.place = "ROW"
        return None

    def may_not_join(self, v: Value, nest: Nest, uses: Sequence[Use]) -> Refusal:
        """Return why v can't be computed in its readers' nest, wherever it is stored; None if it can."""
        if len(nest.members) >= MOST_MEMBERS or sum(map(self.cost, [nest.root, *nest.members, v])) > MOST_NEST_OPERATIONS:
            return "the nest is long enough"
        if operands(v) and any(deciding(m.body) for m in nest.statements):
            return "its rows would be loops of the nest that are fully unrolled"
        if nest.root.region != v.region or any(t.region != v.region for t, _ in uses):
            return "it is read in another repeated body"
        return None

    def comes_too_late(self, v: Value, nest: Nest, uses: Sequence[Use]) -> Refusal:
        """Return why v, which is also read outside of the nest, can't be stored by it; None if it can."""
        if operands(v):
            return "it is a contraction that others read too"
        if any(t.nest.root.id < nest.root.id for t, _ in uses):  # type: ignore[attr-defined]
            return "an earlier nest reads it too"
        if v.level < nest.root.level or self.called.get(v.tensor, math.inf) < nest.root.id:
            return "an earlier segment or hand-written kernel waits for it"
        return None

    def does_not_pay(self, v: Value, at: dict[int, Dim], nest: Nest, band: Sequence[Symbol]) -> Refusal:
        """Return why the nest should not shrink its band to these loops for v; None if it should."""
        if list(band) != nest.band:
            if nest.tile is not None or any(m.tile for m in nest.members):
                return "it is read across loops that a tile of the nest needs"
            if not band or self.machine.guess(product(extent(s) for s in band)) < PARTS:
                return "it is read across loops without which the nest has too little to share"
        return "one thread would be left with all the work" if self.starves(v, at, nest, band) else None

    def does_not_fit(self, v: Value, at: dict[int, Dim], nest: Nest, r: Read) -> Refusal:
        """Return why the caches don't hold what a block of rows needs; None if they do."""
        if not self.fits(v, at, nest):
            return "scratch for its rows, or the nest's B, does not fit in the cache"
        return OTHER_ROWS if operands(v) and not self.fits_rows(v, r, nest) else None

    def starves(self, v: Value, at: dict[int, Dim], nest: Nest, band: Sequence[Symbol]) -> bool:
        """Tell whether v, as a member of a nest with this band, would leave one thread with work that several threads could
        share.

        Threads share the iterations of a band. Sizes that are known only at run time count as 1 there. Example: a network
        that normalises over groups of channels, run on a batch of one. If the band of a nest over [batch, 64, 64, 32] were
        [batch], one thread would do all its work.
        """
        iterations = product(map(extent, band))
        if self.machine.guess(iterations, 1) >= PARTS:
            return False
        own = [s for a, x in enumerate(v.axes) if a not in at for s in covering_loops(x) or ()]
        rest = [s for s in nest.root.variables if s not in band]
        work = [product(map(extent, [*free, *x.loops])) for x, free in ((v, own), (nest.root, rest)) if free]
        ones: dict[Symbol, Dim] = dict.fromkeys(symbols(iterations), 1)
        return any(self.machine.guess(substitute(n, ones), self.machine.small) >= LEAST_SHARED_WORK for n in work)

    def fits(self, v: Value, at: dict[int, Dim], nest: Nest) -> bool:
        """Tell whether scratch for eight rows of v fits in half of L2, in a nest that does not read B panel by panel.

        Sizes that are known only at run time are guessed small: if scratch turns out larger than the cache, it is no worse
        than a buffer.
        """
        free = product(n for a, n in enumerate(v.shape) if a not in at and not (deciding(v.body) and is_short(n)))
        if self.machine.guess(free, self.machine.small) * 8 * v.tensor.dtype.itemsize > self.machine.l2 // 2:
            return False
        return nest.tile is None or not self.b_exceeds_cache(nest.tile)

    def root(self, v: Value, uses: Sequence[Use]) -> Refusal:
        """Give v a buffer and a nest of its own, whose loops follow the order of the buffer's axes. This rule always applies."""
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
            return None
        store = self.stored_at(v)
        vector = self.vector_loop(v)
        nest.band = sorted((s for s in v.variables if s is not vector), key=lambda s: -self.machine.guess(moves(store, s)))
        return None

    # ---- conditions that the rules check ------------------------------------------------------------------------------------

    def cost(self, v: Value) -> int:
        """Return the cost of v (see `values.cost`). It is computed once for each body that v has: a nest's statements are asked for
        theirs whenever another value may join it."""
        body, known = self.costs.get(v, (None, 0))
        if body is not v.body:
            known = cost(v)
            self.costs[v] = v.body, known
        return known

    def mapped(self, v: Value, uses: Sequence[Use], nest: Nest) -> dict[int, Dim]:
        """Map each axis of v that all uses read at the same index to that index, if it consists of loops of the nest's band.
        -> {axis: index}"""
        out: dict[int, Dim] = {}
        for axis, a in enumerate(v.axes):
            found = {r.indices[axis] for _, r in uses}
            i = found.pop()
            if symbols(a) and not found and symbols(i) and set(covering_loops(i) or (None,)) <= set(nest.band):
                out[axis] = i
        return out

    def attach(self, v: Value, nest: Nest, r: Read) -> None:
        """Make v a member of the nest, its axes replaced by the indices at which r reads it."""
        self.attach_axes(v, nest, {a: i for a, i in enumerate(r.indices) if symbols(v.axes[a])})

    def attach_axes(self, v: Value, nest: Nest, at: dict[int, Dim]) -> None:
        """Replace v's axes by these indices over the nest's loops, in its body and in the place that it is written to."""
        env = {next(iter(symbols(v.axes[a]))): i for a, i in at.items()}
        assert v.body is not None
        v.body = replace(v.body, env)
        v.axes = tuple(substitute(a, env) for a in v.axes)
        v.into = v.into and (v.into[0], tuple(substitute(i, env) for i in v.into[1]))
        v.nest = nest
        self.note(v)

    def wrap(self, v: Value) -> Value:
        """Split contraction v into a TILE, which is returned, and the statement v, which now only reads the tile's sums."""
        sums = Tensor(v.tensor.dtype, v.shape, f"{v.tensor.name}.sums")
        t = self.values[sums] = Value(sums)
        t.axes, t.loops, t.fn, t.body, t.region, t.nest, t.place = v.axes, v.loops, v.fn, v.body, v.region, v.nest, "TILE"
        t.contracts = v.contracts
        v.tile, v.fn, v.loops, v.body = t, None, (), Read(sums, v.axes)
        self.note(t)
        self.note(v)
        return t

    def contraction(self, v: Value) -> Operands:
        """Return the operands of contraction v."""
        o = operands(v)
        assert o is not None
        return o

    def b_exceeds_cache(self, v: Value) -> bool:
        """Tell whether B of contraction v takes more than a quarter of L2, so that it should not be read again for each block
        of rows.

        Sizes that are known only at run time are guessed small.
        """
        o = self.contraction(v)
        size = self.machine.guess(product(extent(s) for s in o.columns + o.k), self.machine.small)
        return size * v.tensor.dtype.itemsize > self.machine.l2 // 4

    def batched_b_exceeds_cache(self, v: Value) -> bool:
        """Tell whether contraction v has a constant B for each of its batches, which together take more than a quarter of L2."""
        o = self.contraction(v)
        batches = product(extent(s) for s in o.batch if s in o.b.symbols)
        whole = product([batches, *(extent(s) for s in o.columns + o.k)])
        return (
            batches != 1
            and self.values[o.b.tensor].constant
            and self.machine.guess(whole) * v.tensor.dtype.itemsize > self.machine.l2 // 4
        )

    def fits_rows(self, v: Value, r: Read, nest: Nest) -> bool:
        """Tell whether contraction v can be computed for a block of rows of this nest: its rows and batches must be exactly
        the nest's band."""
        o = self.contraction(v)
        at = {s: i for a, i in zip(v.axes, r.indices, strict=True) for s in symbols(a)}
        rows = [x for s in o.rows for x in covering_loops(at.get(s, value(s))) or (None,)]
        outer = [x for s in o.batch for x in covering_loops(at.get(s, value(s))) or (None,)]
        return (
            bool(nest.band) and rows[-1:] == nest.band[-1:] and set(rows + outer) == set(nest.band) and not self.b_exceeds_cache(v)
        )

    def refine(self, v: Value) -> Value:
        """Split the loops of v by which its body reads s // d or s % d, until none is left. Return the refined value.

        The new value u has two loops q, r with s = q d + r and writes u[.., q, r, ..] into v's buffer. A loop that d does not
        divide evenly is split only if the cases of a piecewise expression depend on s % d.
        """
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
        """Replace v by a new value in which this axis is split into two of extents ceil(n / d) and d; it writes into v's
        buffer. Return it."""
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


OTHER_ROWS = "its rows are not the nest's rows, or its B does not fit in the cache"
LEFT_OUT = "SARDONYX_STEPS leaves this rule out"
PARTS = 8
"""Iterations that a band must have at least, to give several threads work."""
MOST_OPERATIONS = 100
"""Largest cost of one statement, in units of `cost`: expressions are walked recursively and rebuilt for each value that is
inlined."""
MOST_MEMBERS = 64
"""Largest number of members of a nest. Longer chains become several kernels, so that compile time grows linearly with their
length."""
MOST_NEST_OPERATIONS = 512
"""Largest cost of all statements of a nest, in units of `cost`. Beyond it, writing a buffer between two kernels costs little
compared with their work, and long chains split into many equal nests that share one kernel."""


def covers(v: Value, at: dict[int, Dim]) -> bool:
    """Tell whether these indices reach every element of v's axes in every combination; a diagonal, where two axes share a
    loop, does not."""
    loops = [(covering_loops(i) or [], v.shape[a]) for a, i in at.items()]
    apart = len({s for own, _ in loops for s in own}) == sum(len(own) for own, _ in loops)
    return apart and all(product(map(extent, own)) == n for own, n in loops)


def loops_of(r: Read) -> set[Symbol]:
    """Collect the symbols in the indices of r."""
    return set().union(*(symbols(i) for i in r.indices))


def is_short(n: Dim) -> bool:
    """Tell whether a loop of this extent may be fully unrolled."""
    return isinstance(n, int) and n <= MOST_FULLY_UNROLLED
