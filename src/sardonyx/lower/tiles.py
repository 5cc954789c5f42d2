"""Contractions inside a block of rows: a tile for each panel of columns.

for each panel: Tile -> v's own memory                       where v is the plain sums, and whole vectors fit there
for each panel: Tile -> sums; for each row: v's expression   else: its epilogue

Where lower.pack leaves a choice, sums along k stand beside the Tile, for runs with few rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Symbol, ceil_divide, coefficient, minimum, product, substitute, value
from sardonyx.expr.scalar import cast
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.blocks import BLOCK
from sardonyx.loop.nodes import Alloc, Buffer, Expr, For, If, Kind, Op, Step, Stmt, Store, Tile, sequence
from sardonyx.lower.blocked_sums import UNROLLED, reduce_in_blocks
from sardonyx.lower.builder import Builder
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Operands, Value, extent, operands

Target: TypeAlias = tuple[Buffer, Dim, Dim]
"""Where the sums go: buffer, offset, row stride."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A turn of `loop` over the columns of a contraction, `width` of them, of which `lane` counts each."""

    of: Operands
    loop: Symbol
    lane: Symbol
    width: int

    @property
    def columns(self) -> Dim:
        """Of all panels."""
        return extent(self.of.columns[0])

    @property
    def is_whole(self) -> bool:
        """Is no panel short of columns?"""
        return isinstance(self.columns, int) and self.columns % self.width == 0

    @property
    def point(self) -> dict[Symbol, Dim]:
        return {self.of.columns[0]: value(self.loop) * self.width + value(self.lane)}

    @property
    def present(self) -> Dim:
        """The columns of this panel."""
        return self.width if self.is_whole else minimum(self.width, self.columns - value(self.loop) * self.width)


# ---- panels ---------------------------------------------------------------------------------------------------------------


def contraction(v: Value) -> Operands:
    """Of v's tile."""
    o = operands(v.tile) if v.tile else None
    assert o is not None
    return o


def tile_dtype(v: Value) -> DType:
    """What the contraction in v's tile is summed in."""
    assert v.tile is not None
    return v.tile.tensor.dtype


def tile_vectors(v: Value, machine: Machine) -> int:
    """How many lie side by side in a panel."""
    return machine.vectors(extent(contraction(v).columns[0]), tile_dtype(v))


def panel_width(v: Value, machine: Machine) -> int:
    return tile_vectors(v, machine) * machine.lanes_of(tile_dtype(v))


def panel_loop(v: Value, builder: Builder) -> Symbol:
    """The loop over v's panels: a loop around the blocks of rows where B streams by, else one inside the block."""
    name = "panel" if panels_outermost(v, builder) else f"panel{v.id}"
    return Symbol(name, ceil_divide(extent(contraction(v).columns[0]), panel_width(v, builder.machine)))


def panels_outermost(v: Value, builder: Builder) -> bool:
    return builder.nest.panels_outermost and v is builder.nest.root


# ---- tiles ----------------------------------------------------------------------------------------------------------------


def contraction_tiles(v: Value, builder: Builder) -> Stmt:
    """for each panel: the tile, straight to v's memory or through a scratch and v's expression."""
    width = panel_width(v, builder.machine)
    panel = Panel(contraction(v), panel_loop(v, builder), Symbol(f"j{v.id}", width), width)
    builder.set_row(0)
    direct = direct_target(v, panel, builder)
    sums = Buffer(f"sums{v.id}", tile_dtype(v), "scratch", aligned=True)
    body = products(panel, direct or (sums, 0, width), builder)
    if not direct:
        body = Alloc(sums, width * max(builder.blocks.heights), sequence([body, epilogue(v, sums, panel, builder)]))
    builder.set_row(0)
    return body if panels_outermost(v, builder) else For(panel.loop, 0, extent(panel.loop), "serial", body)


def direct_target(v: Value, panel: Panel, builder: Builder) -> Target | None:
    """v's own memory if v is the plain sums and its memory takes whole vectors of columns."""
    assert v.tile is not None
    if not isinstance(v.body, Read) or v.body.tensor is not v.tile.tensor or v.body.indices != v.tile.axes:
        return None
    if not panel.is_whole and v.tensor not in builder.scratch:
        return None
    buffer, offset, step = offset_over(v.tensor, v.axes, panel, builder)
    if coefficient(offset, panel.lane) != 1 or step is None:
        return None
    return buffer, substitute(offset, {panel.lane: 0}), step


def epilogue(v: Value, sums: Buffer, panel: Panel, builder: Builder) -> Stmt:
    """for each row: v's expression over the panel's columns"""
    assert v.tile is not None
    assert v.body is not None
    r = Symbol(f"lr{v.id}", max(builder.blocks.heights))
    builder.sums[v.tile.tensor] = sums, panel.width
    builder.panel_column = value(panel.lane)
    builder.set_row(value(r))
    builder.env |= panel.point
    store = builder.store(v, builder.expression(v.body))
    del builder.sums[v.tile.tensor]
    return For(r, 0, builder.blocks.height, "serial", For(panel.lane, 0, panel.present, "vector", store))


def products(panel: Panel, target: Target, builder: Builder) -> Stmt:
    """The sums of a panel: a tile or, where the rows are few and B has no packed copy, sums along k."""
    choice, tile = panel.of.choice, tile_node(panel, target, builder)
    return tile if choice is None else If(choice.args[0], sums_along_k(panel, choice.args[1], target, builder), tile)


def sums_along_k(panel: Panel, b: Expr, target: Target, builder: Builder) -> Stmt:
    """for each row: for each column of the panel: vector for k: a * b, lanes added up"""
    o, (buffer, offset, step) = panel.of, target
    r = Symbol(f"r{panel.lane.name}", max(builder.blocks.heights))
    builder.set_row(value(r))
    builder.env |= panel.point
    term = builder.expression(Op("mul", cast(o.a, b.dtype), b))
    builder.set_row(0)
    *outer, last = o.k
    along_k: list[tuple[Symbol, Kind]] = [*((k, "serial") for k in outer), (last, "vector")]
    lanes = builder.machine.lanes
    total = reduce_in_blocks("add", along_k, term, BLOCK * lanes, UNROLLED * lanes)
    store = Store(buffer, offset + value(r) * step + value(panel.lane), total)
    return For(r, 0, builder.blocks.height, "serial", For(panel.lane, 0, panel.present, "serial", store))


def tile_node(panel: Panel, target: Target, builder: Builder) -> Tile:
    o, blocks = panel.of, builder.blocks
    a, a_offset, a_row = offset_over(o.a.tensor, o.a.indices, panel, builder)
    b, b_offset, _ = offset_over(o.b.tensor, o.b.indices, panel, builder)
    assert coefficient(b_offset, panel.lane) == 1, f"the columns of {o.b.tensor} don't lie side by side"
    a_rows: tuple[int, ...] = ()
    if a_row is None:
        a_row, a_rows = 0, uneven_rows(o.a, builder)
    zero = dict.fromkeys([*o.k, panel.lane], 0)
    start = substitute(b_offset, zero)
    ahead, lines = prefetched(panel, start, builder)
    steps = tile_steps(o, a_offset, b_offset)
    a_offset = substitute(a_offset, zero)
    height, heights = blocks.height, blocks.heights
    return Tile(height, heights, panel.width, a, a_offset, a_row, b, start, *target, steps, ahead, a_rows, lines)


def tile_steps(o: Operands, a_offset: Dim, b_offset: Dim) -> tuple[Step, ...]:
    """The loops over k, outermost first; neighbours along which both offsets move evenly are one."""
    steps: list[Step] = []
    for k in o.k:
        a, b, count = coefficient(a_offset, k), coefficient(b_offset, k), extent(k)
        assert a is not None
        assert b is not None
        if steps and steps[-1].a == a * count and steps[-1].b == b * count:
            count = steps.pop().extent * count
        steps.append(Step(count, a, b))
    return tuple(steps)


def prefetched(panel: Panel, start: Dim, builder: Builder) -> tuple[Dim | None, int]:
    """Where B streams by, each block of rows fetches its share of the next panel: (from where on, lines for every two turns of k)"""
    blocks, lanes = builder.blocks, builder.machine.lanes
    jump = coefficient(start, panel.loop)
    if not builder.nest.panels_outermost or jump is None:
        return None, 1
    share = product(extent(k) for k in panel.of.k) * panel.width // (blocks.together * lanes) * lanes
    lines = -(-2 * panel.width // (lanes * max(1, builder.machine.guess(blocks.together))))
    return start + jump + blocks.index * share, lines


# ---- offsets --------------------------------------------------------------------------------------------------------------


def offset_over(t: Tensor, indices: tuple[Dim, ...], panel: Panel, builder: Builder) -> tuple[Buffer, Dim, Dim | None]:
    """The buffer of t; the offset at row 0 of the block, and its step per row (None if they don't lie evenly)."""
    r = Symbol("lr", max(builder.blocks.heights))
    builder.set_row(value(r))
    buffer, offset = builder.place_of(t, indices)
    offset = substitute(substitute(offset, panel.point), builder.env)
    builder.set_row(0)
    return buffer, substitute(offset, {r: 0}), coefficient(offset, r)


def uneven_rows(r: Read, builder: Builder) -> tuple[int, ...]:
    """How far each row of a block lies from the first."""
    offsets: list[Dim] = []
    for i in range(max(builder.blocks.heights)):
        builder.set_row(i)
        offsets.append(substitute(builder.place_of(r.tensor, r.indices)[1], builder.env))
    builder.set_row(0)
    distances = [o - offsets[0] for o in offsets]
    assert all(isinstance(d, int) for d in distances)
    return tuple(d for d in distances if isinstance(d, int))
