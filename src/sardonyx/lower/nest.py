"""One nest as a kernel of the loop IR.

    parallel for t over the outer loops x blocks of rows (the panels outermost, where B streams by)
      a block is as many rows as M allows evenly, at most the tile's
      the members in order:
        a contraction    for each panel: Tile -> memory, or -> sums, then the statement's expression over the panel's rows
        other statements for each row: one vector loop, shared by neighbours over equal loops

A nest of one pointwise statement is simpler (`map_kernel`): its loops are folded where memory allows it, the innermost is the vector's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from sardonyx.base.dtypes import DType, f32, f64
from sardonyx.base.symbolic import (
    Dim,
    Symbol,
    alias,
    ceil_divide,
    coefficient,
    maximum,
    minimum,
    product,
    quotient_and_remainder,
    round_up,
    substitute,
    symbols,
    value,
)
from sardonyx.expr.pieces import at_turn, deciding, settle
from sardonyx.expr.tensor import Read, Tensor, variable
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Op,
    Reduce,
    Seq,
    Step,
    Stmt,
    Store,
    Tile,
    While,
    replace,
    sequence,
    walk,
)
from sardonyx.lower.free import free_symbols, written
from sardonyx.lower.machine import WAY, Machine
from sardonyx.lower.place import Nest, extent, is_short
from sardonyx.lower.values import Operands, Value, address, operands, reads_of, transform

MOST_UNROLLED = 32
"""Terms of a reduction over a fixed window that are written out."""
Turn: TypeAlias = Mapping[Symbol, int]
Forward: TypeAlias = dict[tuple[Tensor, tuple[Dim, ...]], Expr]
EMPTY: Turn = MappingProxyType({})
MOST_ROWS_UNROLLED = 8
"""Rows of such windows that are computed side by side."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A ROW's memory for a block of rows: strides of its own axes, and of the row."""

    buffer: Buffer
    strides: tuple[Dim, ...]
    row: Dim
    size: Dim


def build(nest: Nest, values: dict[Tensor, Value], machine: Machine, name: str) -> tuple[Kernel, list[Tensor]]:
    """The kernel and the tensors its buffers stand for, in order."""
    builder = NestBuilder(nest, values, machine)
    body = dealt(builder.map_kernel() if builder.is_map() else builder.block_kernel())
    arguments = list(builder.arguments)
    buffers = tuple(builder.arguments.values())
    origins = tuple(dict.fromkeys(v.tensor.origin for v in nest.statements))
    return Kernel(name, buffers, tuple(sorted(free_symbols(body))), body, origins), arguments


class NestBuilder:
    def __init__(self, nest: Nest, values: dict[Tensor, Value], machine: Machine) -> None:
        self.nest, self.values, self.machine = nest, values, machine
        self.arguments: dict[Tensor, Buffer] = {}
        self.scratch: dict[Tensor, Scratch] = {}
        self.sums: dict[Tensor, tuple[Buffer, int]] = {}  # a contraction's sums of one panel: buffer, columns
        self.env: dict[Symbol, Dim] = {}  # of the band's loops, inside a block
        self.row: Dim = 0  # of the block
        self.panel_column: Dim = 0
        self.group = 1  # rows of a tile for each turn of the row loop
        self.group_symbol: Symbol | None = None  # the loop over them

    # ---- memory -----------------------------------------------------------------------------------------------------------

    def buffer(self, t: Tensor) -> Buffer:
        if t not in self.arguments:
            writes = {(v.into[0] if v.into else v.tensor) for v in self.nest.statements}
            self.arguments[t] = Buffer(f"b{len(self.arguments)}", t.dtype, readonly=t not in writes)
        return self.arguments[t]

    def place_of(self, t: Tensor, indices: Sequence[Dim]) -> tuple[Buffer, Dim]:
        """The buffer that holds t and the offset of an element."""
        v = self.values[t]
        if t in self.scratch:
            s = self.scratch[t]
            return s.buffer, address(indices, s.strides) + self.row * s.row
        if t in self.sums:
            buffer, columns = self.sums[t]
            return buffer, self.row * columns + self.panel_column
        if v.into:
            own = {s: i for a, i in zip(v.axes, indices, strict=True) for s in symbols(a)}
            t, indices = v.into[0], [substitute(i, own) for i in v.into[1]]
        return self.buffer(t), address(indices, self.values[t].strides)

    def load(self, r: Read) -> Expr:
        buffer, offset = self.place_of(r.tensor, r.indices)
        return Load(buffer, substitute(offset, self.env), None if r.guard is None else replace(r.guard, self.env))

    def expression(self, body: Expr, forward: Forward | None = None) -> Expr:
        """body with its reads as loads, at the band's present point; `forward` gives values that are at hand."""
        known = forward or {}

        def on_read(r: Read) -> Expr:
            found = known.get((r.tensor, r.indices))
            return self.load(r) if found is None else found

        return replace(transform(body, on_read), self.env)

    def store(self, v: Value, x: Expr, combine: str | None = None, turn: Turn = EMPTY) -> Store:
        """turn: of v's loops that are written out."""
        buffer, offset = self.place_of(v.tensor, v.axes)
        guard = None if v.guard is None else settle(replace(replace(v.guard, turn), self.env))
        if isinstance(guard, Const) and guard.value:
            guard = None
        return Store(buffer, substitute(substitute(offset, turn), self.env), x, combine, guard)

    # ---- one pointwise statement -------------------------------------------------------------------------------------------

    def is_map(self) -> bool:
        return not self.nest.members and self.nest.root.fn is None and self.nest.root.tile is None

    def map_kernel(self) -> Stmt:
        """for the outer loops, in parallel: for the inner ones: for the vector's: one store"""
        v = self.nest.root
        assert v.body is not None
        if 0 in map(extent, v.variables):
            return sequence([])
        store = self.store(v, self.expression(v.body))
        order = sorted(v.variables, key=lambda s: -self.machine.guess(coefficient(store.offset, s)))
        loops, store = fold(order, store)
        if not loops:
            return store
        vector = self.vector_loop(loops, store)
        outer = [s for s in loops if s is not vector]
        ahead = 0
        while ahead < len(outer) and self.machine.guess(product(extent(s) for s in outer[:ahead])) < 64:
            ahead += 1
        body: Stmt = store
        length = extent(vector)
        chunk = self.machine.chunk
        chunks: list[Symbol] = []
        if self.machine.guess(product(extent(s) for s in outer)) < 8 and self.machine.guess(length) > chunk // 4:
            c = Symbol(f"{vector.name}.chunk", ceil_divide(length, chunk))
            chunks = [c]
            body = For(vector, value(c) * chunk, minimum(length, value(c) * chunk + chunk), "vector", body)
        else:
            body = For(vector, 0, length, "vector", body)
        for s in reversed(outer[ahead:]):
            body = For(s, 0, extent(s), "serial", body)
        return parallel([*outer[:ahead], *chunks], body)

    def vector_loop(self, loops: Sequence[Symbol], store: Store) -> Symbol:
        spots = [store.offset] + [n.offset for n in walk(store.value) if isinstance(n, Load)]

        def score(s: Symbol) -> tuple[bool, bool, int]:
            long = self.machine.guess(extent(s)) >= min(self.machine.lanes, 8)
            return long, coefficient(store.offset, s) == 1, sum(coefficient(o, s) == 1 for o in spots)

        return max(reversed(list(loops)), key=score)

    # ---- blocks of rows -----------------------------------------------------------------------------------------------------

    def block_kernel(self) -> Stmt:
        """parallel for t: the row block of this t: the members"""
        nest = self.nest
        if 0 in map(extent, nest.band):
            return sequence([])
        outer, row, m, merged = self.fold_rows()
        row, m = self.pair_rows(outer, row, m)
        height = self.height(m)
        self.give_scratch(height * self.group)
        loops = self.deal(outer, m, height)
        self.merged, self.row_symbol = merged, row
        self.set_row(0)
        statements: list[Stmt] = []
        waiting: list[Value] = []
        for v in nest.statements:
            if v.tile is None:
                waiting.append(v)
                continue
            statements += self.sweep_rows(waiting)
            waiting = []
            statements.append(self.contraction_tiles(v))
        statements += self.sweep_rows(waiting)
        body = sequence(statements)
        used = written(body)
        for s in reversed([s for s in self.scratch.values() if s.buffer in used]):
            body = Alloc(s.buffer, s.size, body)
        return parallel(loops, body)

    def deal(self, outer: Sequence[Symbol], m: Dim, height: int) -> list[Symbol]:
        """The loops around a block of rows, which they define: blocks as equal as can be, of `height` at the most.

        Where B streams by, all blocks of a chunk of rows meet one panel before the next, and a chunk is what a cache holds.
        """
        count = ceil_divide(m, height)
        loops = list(outer)
        panels = [self.panels(self.nest.root)] if self.nest.stream else []
        chunks = self.chunks(m, count) if panels and height > 1 else 1  # from two rows on, so many equal blocks all have one
        chunks, together = alias(chunks), alias(ceil_divide(count, chunks))
        chunk, inner = variable("chunk", chunks), variable("block", together)
        own = self.contraction(self.nest.root).b.symbols if panels else frozenset()
        at = sum(s in own for s in loops)
        loops[at:at] = [*symbols(chunk), *panels]
        count, block = chunks * together, chunk * together + inner
        low, rest = (alias(quotient) for quotient in quotient_and_remainder(m, maximum(count, 1)))
        if isinstance(low, int) and isinstance(rest, int):
            blocks: tuple[int, ...] = (low, low + 1) if rest else (low,)
        else:
            blocks = tuple(range(1, height + 1))
        self.heights = tuple(h * self.group for h in blocks if h > 0)
        self.block_rows = (low + minimum(maximum(rest - block, 0), 1)) * self.group
        self.start, self.block, self.block_count = block * low + minimum(block, rest), inner, together
        return [*loops, *symbols(inner)]

    def chunks(self, m: Dim, blocks: Dim) -> Dim:
        """In how many parts the rows go past B, so that a part of A stays in half the cache."""
        o = self.contraction(self.nest.root)
        alone = [s for s in o.k if any(symbols(i) == {s} for i in o.a.indices)]
        row = product(extent(s) for s in alone) * self.group * o.a.tensor.dtype.itemsize
        return maximum(minimum(blocks, ceil_divide(m * row, self.machine.l2 // 2)), 1)

    def set_row(self, r: Dim) -> None:
        """Puts the band's point at row r of the block."""
        self.row = r
        self.env = dict(self.merged)
        if self.row_symbol is not None:
            self.env[self.row_symbol] = self.start + r // self.group
        if self.group_symbol is not None:
            self.env[self.group_symbol] = r % self.group

    def pair_rows(self, outer: list[Symbol], row: Symbol | None, m: Dim) -> tuple[Symbol | None, Dim]:
        """(the row loop, rows) where the rows are so few that a tile takes several turns of the loop around them: 7 x 7 pictures.

        Then a row is the outer loop's, and stands for `group` rows of the tile. The rows of each A must lie at fixed distances, and
        all have the same B.
        """
        contractions = self.contractions()
        tallest = min((self.machine.tallest(self.contraction_vectors(v)) for v in contractions), default=0)
        if not outer or row is None or not isinstance(m, int) or 2 * m > tallest:
            return row, m
        around = outer[-1]
        for v in contractions:
            a, b = self.contraction(v).a, self.contraction(v).b
            if around in b.symbols:
                return row, m
            if a.tensor in self.scratch_to_be():
                continue
            steps = [coefficient(self.place_of(a.tensor, a.indices)[1], s) for s in (row, around)]
            if not all(isinstance(s, int) for s in steps):
                return row, m
        self.group, self.group_symbol = m, row
        return outer.pop(), extent(around)

    def scratch_to_be(self) -> set[Tensor]:
        """What will lie in scratch, row by row of a block."""
        return {v.tensor for v in self.nest.members if not v.stored}

    def fold_rows(self) -> tuple[list[Symbol], Symbol | None, Dim, dict[Symbol, Dim]]:
        """(outer loops, the row loop, rows M, {loop merged away: 0}): outer loops join the rows where every address allows it.

        A contraction without rows (one query for each key of its own) is of one row, whatever the band's last loop.
        """
        band = list(self.nest.band)
        if not band or any(not self.contraction(v).rows for v in self.nest.statements if v.tile):
            return band, None, 1, {}
        outer, row, m = band[:-1], band[-1], extent(band[-1])
        inside = {v.tensor for v in self.nest.members if not v.stored} | {v.tile.tensor for v in self.nest.statements if v.tile}
        spots: list[Dim] = []
        indices: list[Dim] = []
        for v in [*self.nest.statements, *(v.tile for v in self.nest.statements if v.tile)]:
            for n in walk(v.body) if v.body is not None else ():
                if not isinstance(n, Read):
                    indices += n.dims
                elif n.tensor not in inside:
                    spots.append(self.place_of(n.tensor, n.indices)[1])
            if v.tensor not in inside:
                spots.append(self.place_of(v.tensor, v.axes)[1])
        merged: dict[Symbol, Dim] = {}
        while outer:
            o = outer[-1]
            steps = [(coefficient(a, o), coefficient(a, row)) for a in spots]
            if any(x is None or y is None or x != y * m for x, y in steps) or any({o, row} & symbols(i) for i in indices):
                break
            merged[outer.pop()] = 0
            m = m * extent(o)
            spots = [substitute(a, {o: 0}) for a in spots]
        return outer, row, m, merged

    def height(self, m: Dim) -> int:
        heights = [
            self.machine.heights(m, self.contraction_vectors(v), self.group, self.rows_clash(v)) for v in self.contractions()
        ]
        return min(heights, default=min(8, m) if isinstance(m, int) and m else 8)

    def contractions(self) -> list[Value]:
        """The statements that have a tile."""
        return [v for v in self.nest.statements if v.tile]

    def rows_clash(self, v: Value) -> bool:
        """Do the rows of A that a tile reads side by side share a place in the cache?"""
        a = self.contraction(v).a
        if a.tensor in self.scratch_to_be() or not self.nest.band:
            return False
        step = coefficient(self.place_of(a.tensor, a.indices)[1], self.nest.band[-1])
        return isinstance(step, int) and step != 0 and step * a.tensor.dtype.itemsize % WAY == 0

    def contraction_vectors(self, v: Value) -> int:
        o = self.contraction(v)
        return self.machine.vectors(extent(o.columns[0]), tile_dtype(v))

    def contraction(self, v: Value) -> Operands:
        o = operands(v.tile) if v.tile else None
        assert o is not None
        return o

    def panel_width(self, v: Value) -> int:
        return self.contraction_vectors(v) * self.machine.lanes_of(tile_dtype(v))

    def panels(self, v: Value) -> Symbol:
        return Symbol("panel", ceil_divide(extent(self.contraction(v).columns[0]), self.panel_width(v)))

    def give_scratch(self, height: int) -> None:
        band = set(self.nest.band)
        for v in self.nest.members:
            if v.stored:
                continue
            step: Dim = 1
            steps: list[Dim] = [0] * len(v.axes)
            for a in reversed(range(len(v.axes))):
                if symbols(v.axes[a]) and not symbols(v.axes[a]) <= band:
                    steps[a] = step
                    whole = self.panel_width(v) if v.tile else self.machine.lanes
                    step = step * (round_up(v.shape[a], whole) if step == 1 else v.shape[a])
            buffer = Buffer(f"s{len(self.scratch)}", v.tensor.dtype, "scratch", aligned=True)
            self.scratch[v.tensor] = Scratch(buffer, tuple(steps), step, step * height)

    # ---- contractions -------------------------------------------------------------------------------------------------------

    def contraction_tiles(self, v: Value) -> Stmt:
        """for each panel: the tile, straight to v's memory or through a scratch and v's expression."""
        assert v.tile is not None
        o = self.contraction(v)
        column, w = o.columns[0], self.panel_width(v)
        n = extent(column)
        streaming = self.nest.stream and v is self.nest.root
        panel = self.panels(v) if streaming else Symbol(f"panel{v.id}", ceil_divide(n, w))
        lane = Symbol(f"j{v.id}", w)
        whole = isinstance(n, int) and n % w == 0
        self.set_row(0)
        at = {column: value(panel) * w + value(lane)}
        direct = self.direct_target(v, at, lane, whole)
        sums = Buffer(f"sums{v.id}", v.tile.tensor.dtype, "scratch", aligned=True)
        target = direct or (sums, 0, w)
        tile = self.tile_node(o, at, panel, lane, w, target)
        if direct:
            body: Stmt = tile
        else:
            body = Alloc(sums, w * max(self.heights), sequence([tile, self.epilogue(v, sums, at, lane, w, n, panel, whole)]))
        self.set_row(0)
        return body if streaming else For(panel, 0, extent(panel), "serial", body)

    def direct_target(self, v: Value, at: dict[Symbol, Dim], lane: Symbol, whole: bool) -> tuple[Buffer, Dim, Dim] | None:
        """(buffer, offset, row stride) if v is the plain sums and its memory takes whole vectors of columns."""
        assert v.tile is not None
        if not isinstance(v.body, Read) or v.body.tensor is not v.tile.tensor or v.body.indices != v.tile.axes:
            return None
        if not whole and v.tensor not in self.scratch:
            return None
        offset = self.offset_over(v.tensor, v.axes, at)[1]
        if coefficient(offset[0], lane) != 1 or offset[1] is None:
            return None
        return self.offset_over(v.tensor, v.axes, at)[0], substitute(offset[0], {lane: 0}), offset[1]

    def uneven_rows(self, r: Read) -> tuple[int, ...]:
        """How far each row of a block lies from the first."""
        offsets: list[Dim] = []
        for i in range(max(self.heights)):
            self.set_row(i)
            offsets.append(substitute(self.place_of(r.tensor, r.indices)[1], self.env))
        self.set_row(0)
        distances = [o - offsets[0] for o in offsets]
        assert all(isinstance(d, int) for d in distances)
        return tuple(d for d in distances if isinstance(d, int))

    def offset_over(self, t: Tensor, indices: Sequence[Dim], at: dict[Symbol, Dim]) -> tuple[Buffer, tuple[Dim, Dim | None]]:
        """The buffer of t; the offset at row 0 of the block, and its step per row (None if they don't lie evenly)."""
        r = Symbol("lr", max(self.heights))
        self.set_row(value(r))
        buffer, offset = self.place_of(t, indices)
        offset = substitute(substitute(offset, at), self.env)
        self.set_row(0)
        return buffer, (substitute(offset, {r: 0}), coefficient(offset, r))

    def tile_node(
        self, o: Operands, at: dict[Symbol, Dim], panel: Symbol, lane: Symbol, w: int, target: tuple[Buffer, Dim, Dim]
    ) -> Tile:
        a, (a_offset, a_row) = self.offset_over(o.a.tensor, o.a.indices, at)
        b, (b_offset, _) = self.offset_over(o.b.tensor, o.b.indices, at)
        a_rows: tuple[int, ...] = ()
        if a_row is None:
            a_row, a_rows = 0, self.uneven_rows(o.a)
        zero = dict.fromkeys([*o.k, lane], 0)
        steps: list[Step] = []
        for k in o.k:
            step_a, step_b, count = coefficient(a_offset, k), coefficient(b_offset, k), extent(k)
            assert step_a is not None
            assert step_b is not None
            if steps and steps[-1].a == step_a * count and steps[-1].b == step_b * count:
                count = steps.pop().extent * count
            steps.append(Step(count, step_a, step_b))
        start = substitute(b_offset, zero)
        jump = coefficient(start, panel)
        ahead, lines = None, 1
        if self.nest.stream and jump is not None:  # each block of rows fetches its share of the next panel
            share = product(extent(k) for k in o.k) * w // (self.block_count * self.machine.lanes) * self.machine.lanes
            ahead = start + jump + self.block * share
            lines = -(-2 * w // (self.machine.lanes * max(1, self.machine.guess(self.block_count))))
        c, c_offset, c_row = target
        a_start = substitute(a_offset, zero)
        heights = self.heights
        return Tile(
            self.block_rows, heights, w, a, a_start, a_row, b, start, c, c_offset, c_row, tuple(steps), ahead, a_rows, lines
        )

    def epilogue(
        self, v: Value, sums: Buffer, at: dict[Symbol, Dim], lane: Symbol, w: int, n: Dim, panel: Symbol, whole: bool
    ) -> Stmt:
        """for each row: v's expression over the panel's columns"""
        assert v.tile is not None
        assert v.body is not None
        r = Symbol(f"lr{v.id}", max(self.heights))
        self.sums[v.tile.tensor] = sums, w
        self.panel_column = value(lane)
        self.set_row(value(r))
        self.env |= at
        store = self.store(v, self.expression(v.body))
        del self.sums[v.tile.tensor]
        last: Dim = w if whole else minimum(w, n - value(panel) * w)
        return For(r, 0, self.block_rows, "serial", For(lane, 0, last, "vector", store))

    # ---- sweeps -------------------------------------------------------------------------------------------------------------

    def free(self, v: Value) -> list[Symbol]:
        """v's loops inside the band, those it reduces over too."""
        return [s for s in v.all_loops if s not in self.nest.band]

    def sweep_rows(self, statements: list[Value]) -> list[Stmt]:
        """for each row of the block: the statements, neighbours over equal loops in one vector loop"""
        out: list[Stmt] = []
        for group in self.groups(statements):
            rows = self.block_rows
            r = Symbol(f"lr{group[0].id}", max(self.heights))
            self.set_row(value(r))
            if isinstance(rows, int) and rows <= MOST_ROWS_UNROLLED and self.has_window(group):
                out.append(self.sweep(group, lambda body, r=r, n=rows: For(r, 0, n, "unrolled", body)))  # type: ignore[misc]
            else:
                out.append(For(r, 0, rows, "serial", self.sweep(group)))
            self.set_row(0)
        return out

    def has_window(self, group: list[Value]) -> bool:
        """Is it one vector loop around short fixed reductions? Rows side by side then share what their windows read."""
        plain = all(not v.fn or self.reduces_inside(v) for v in group)
        return plain and any(v.fn and self.is_short(v) for v in group) and len(self.outer_free(group[0])) == 1

    def groups(self, statements: list[Value]) -> list[list[Value]]:
        out: list[list[Value]] = []
        for v in statements:
            if out and self.joins(v, out[-1]):
                rename(v, self.sweep_loop(v), value(self.sweep_loop(out[-1][0])))
                out[-1].append(v)
            else:
                out.append([v])
        return out

    def reduces_inside(self, v: Value) -> bool:
        """Is v's reduction a serial one in each lane, the vectors along another loop?"""
        return v.fn is not None and self.best_vector([v], self.free(v)) not in v.loops

    def written_out(self, v: Value) -> list[Symbol]:
        """The short loops of a piecewise statement: each turn has an arm of its own."""
        return [s for s in self.free(v) if is_short(extent(s))] if deciding(v.body) and not v.fn else []

    def turns(self, v: Value) -> Iterator[Turn]:
        """The loops that are written out, at each of their turns."""
        loops = self.written_out(v)
        for at in itertools.product(*(range(self.machine.guess(extent(s))) for s in loops)):
            yield dict(zip(loops, at, strict=True))

    def outer_free(self, v: Value) -> list[Symbol]:
        """The loops around v's store or around its reduction's lanes."""
        out = self.written_out(v)
        free = [s for s in self.free(v) if s not in out]
        return [s for s in free if s not in v.loops] if not v.fn or self.reduces_inside(v) else free

    def sweep_loop(self, v: Value) -> Symbol:
        return self.outer_free(v)[0]

    def joins(self, v: Value, group: list[Value]) -> bool:
        """Does v run over the group's one loop, reading of its members only what is at hand?"""
        own, shared = self.outer_free(v), self.outer_free(group[0])
        if len(own) != 1 or len(shared) != 1 or extent(own[0]) != extent(shared[0]):
            return False
        members = {m.tensor: m for m in group}
        for read in reads_of(v):
            m = members.get(read.tensor)
            if m is None:
                continue
            out = {*self.written_out(m)}
            at = [substitute(i, {own[0]: value(shared[0])}) for i in read.indices]
            here = all(i == a or symbols(a) & out for i, a in zip(at, m.axes, strict=True))
            if (m.fn is not None and not self.reduces_inside(m)) or not here:
                return False
        return True

    def sweep(self, group: list[Value], rows: Callable[[Stmt], Stmt] | None = None) -> Stmt:
        """One row of the group; `rows` puts a loop of rows around what is inside the vector loop."""
        if len(group) == 1 and group[0].fn and not self.reduces_inside(group[0]):
            return self.lane_reduction(group[0])
        free = self.outer_free(group[0])
        vector = self.best_vector(group, free)
        before: list[Stmt] = []
        inside: list[Stmt] = []
        forward: Forward = {}
        for v, turn in [(m, turn) for m in group for turn in self.turns(m)]:
            assert v.body is not None
            x = self.expression(at_turn(v.body, turn), forward)
            if v.fn and not self.reduces_inside(v):
                before.append(self.store(v, neutral(v.fn, x)))
                inside.append(self.store(v, x, v.fn))
                continue
            if v.fn and v.loops:
                x = self.reduced(v, x)
            forward[v.tensor, tuple(substitute(a, turn) for a in v.axes)] = x
            if self.read_outside(v, group):
                inside.append(self.store(v, x, turn=turn))
        body = sequence(inside) if rows is None else rows(sequence(inside))
        return sequence([*before, self.around([s for s in free if s is not vector], vector, body)])

    def reduced(self, v: Value, x: Expr) -> Expr:
        """x reduced over v's loops, in each lane. A short sum of products is written out: a product, then multiply-adds."""
        assert v.fn is not None
        short = self.is_short(v)
        if (
            not short
            or v.fn != "add"
            or not isinstance(x, Op)
            or x.fn != "mul"
            or x.dtype not in (f32, f64)
            or not self.machine.fma
        ):
            return Reduce(v.fn, tuple((s, "unrolled" if short else "serial") for s in v.loops), x)
        counts = [n for s in v.loops if isinstance(n := extent(s), int)]
        first, *terms = (replace(x, dict(zip(v.loops, at, strict=True))) for at in itertools.product(*map(range, counts)))
        for t in terms:
            first = Op("fma", *t.args, first)
        return first

    def read_outside(self, v: Value, group: list[Value]) -> bool:
        """Must v be in memory? Not if only its own group reads it."""
        if v is self.nest.root or v.stored:
            return True
        others = [q for s in self.nest.statements for q in (s, s.tile) if q and s not in group]
        return any(r.tensor is v.tensor for q in others for r in reads_of(q))

    def around(self, loops: Sequence[Symbol], vector: Symbol | None, body: Stmt) -> Stmt:
        if vector is not None:
            body = For(vector, 0, extent(vector), "vector", body)
        for s in reversed(loops):
            body = For(s, 0, extent(s), "serial", body)
        return body

    def best_vector(self, group: list[Value], free: Sequence[Symbol]) -> Symbol | None:
        spots: list[Dim] = []
        for v in group:
            spots += [self.place_of(r.tensor, r.indices)[1] for r in reads_of(v)] + [self.place_of(v.tensor, v.axes)[1]]

        def score(s: Symbol) -> tuple[bool, int]:
            long = self.machine.guess(extent(s)) >= min(self.machine.lanes, 8)
            return long, sum(coefficient(a, s) == 1 for a in spots)

        return max(reversed(list(free)), key=score, default=None)

    def is_short(self, v: Value) -> bool:
        extents = [extent(s) for s in v.loops]
        return all(isinstance(n, int) for n in extents) and self.machine.guess(product(extents)) <= MOST_UNROLLED

    def lane_reduction(self, v: Value) -> Stmt:
        """Vectors along the reduced loop: partial sums in lanes."""
        assert v.fn is not None
        assert v.body is not None
        free = self.free(v)
        vector = self.best_vector([v], free)
        x = self.expression(v.body)
        around = [s for s in free if s not in v.loops]
        inner = [s for s in v.loops if s is not vector]
        start = self.store(v, neutral(v.fn, x))
        return self.around(around, None, sequence([start, self.around(inner, vector, self.store(v, x, v.fn))]))


def rename(v: Value, own: Symbol, to: Dim) -> None:
    """v with its loop called otherwise."""
    assert v.body is not None
    env: dict[Symbol, Dim] = {own: to}
    (shared,) = symbols(to)
    v.body, v.axes = replace(v.body, env), tuple(substitute(a, env) for a in v.axes)
    v.loops = tuple(shared if s is own else s for s in v.loops)
    v.into = v.into and (v.into[0], tuple(substitute(i, env) for i in v.into[1]))


def tile_dtype(v: Value) -> DType:
    """What the contraction in v's tile is summed in."""
    assert v.tile is not None
    return v.tile.tensor.dtype


def neutral(fn: str, like: Expr) -> Expr:
    """What fn leaves unchanged, in like's dtype."""
    dtype = like.dtype
    if fn in ("min", "max"):
        if dtype.is_float:
            return Const(math.inf if fn == "min" else -math.inf, dtype)
        if dtype.kind == "bool":
            return Const(fn == "min", dtype)
        lo, hi = (0, (1 << dtype.bits) - 1) if dtype.kind == "uint" else (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1)
        return Const(hi if fn == "min" else lo, dtype)
    if dtype.kind == "bool":
        return Const(fn == "and", dtype)
    return Const({"add": 0, "mul": 1, "or": 0, "xor": 0, "and": -1 if dtype.kind == "int" else (1 << dtype.bits) - 1}[fn], dtype)


def dealt(body: Stmt) -> Stmt:
    """body, by one thread alone if it deals nothing out: every thread of the team runs a kernel."""
    return body if deals(body) else For(Symbol("once", 1), 0, 1, "parallel", body)


def deals(s: Stmt) -> bool:
    """Does it hold a parallel loop?"""
    if isinstance(s, Seq):
        return any(map(deals, s.body))
    if isinstance(s, If):
        return deals(s.then) or (s.otherwise is not None and deals(s.otherwise))
    return isinstance(s, (Alloc, For, While)) and ((isinstance(s, For) and s.kind == "parallel") or deals(s.body))


def parallel(loops: Sequence[Symbol], body: Stmt) -> Stmt:
    """One parallel loop over all combinations of the loops, outermost first; each of them is bound by a loop of one turn inside."""
    if not loops:
        return body
    if len(loops) == 1:
        return For(loops[0], 0, extent(loops[0]), "parallel", body)
    total = product(extent(s) for s in loops)
    flat = Symbol(".".join(s.name for s in loops), total)
    rest: Dim = value(flat)
    for s in reversed(loops[1:]):
        body = For(s, rest % extent(s), rest % extent(s) + 1, "serial", body)
        rest = rest // extent(s)
    body = For(loops[0], rest, rest + 1, "serial", body)
    return For(flat, 0, total, "parallel", body)


def fold(loops: list[Symbol], store: Store) -> tuple[list[Symbol], Store]:
    """Merges neighbouring loops, outermost first, wherever every address allows it: i, j of extents m, n as one of m n."""
    out: list[Symbol] = []
    for s in loops:
        if out and (merged := merge(out[-1], s, store)) is not None:
            out[-1], store = merged
        else:
            out.append(s)
    return out, store


def merge(outer: Symbol, inner: Symbol, store: Store) -> tuple[Symbol, Store] | None:
    n = extent(inner)
    pair = {outer, inner}
    if store.guard is not None and pair & store.guard.symbols:
        return None
    for node in walk(store.value):
        if isinstance(node, Load):
            if not folds(node.offset, outer, inner, n):
                return None
        elif any(pair & symbols(d) for d in node.dims) or (isinstance(node, Reduce) and pair & node.symbols):
            return None
    if not folds(store.offset, outer, inner, n):
        return None
    both = Symbol(f"{outer.name}.{inner.name}", extent(outer) * n)
    env: dict[Symbol, Dim] = {outer: 0, inner: value(both)}
    return both, Store(store.buffer, substitute(store.offset, env), replace(store.value, env), guard=store.guard)


def folds(offset: Dim, outer: Symbol, inner: Symbol, n: Dim) -> bool:
    x, y = coefficient(offset, outer), coefficient(offset, inner)
    return x is not None and y is not None and x == y * n
