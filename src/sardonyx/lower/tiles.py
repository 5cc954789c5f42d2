"""Contractions inside a block of rows: one tile for each panel of columns.

    for each panel: Tile -> v's own memory                       if v stores the plain sums, and whole vectors fit there
    for each panel: Tile -> sums; for each row: v's expression   otherwise; the expression is the epilogue

If lower.pack has left a choice, the kernel also contains dot products along k, which run instead of the Tile when there are
few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

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
"""Where the sums go: (buffer, offset, row stride), in elements."""


class Panel(Struct, frozen=True):
    """One panel of a contraction's columns: iteration `loop` of the loop over panels, `width` columns wide; `lane` counts the
    columns in it."""

    of: Operands
    loop: Symbol
    lane: Symbol
    width: int

    @property
    def columns(self) -> Dim:
        """The columns of all panels together."""
        return extent(self.of.columns[0])

    @property
    def is_whole(self) -> bool:
        """True if the last panel has `width` columns too."""
        return isinstance(self.columns, int) and self.columns % self.width == 0

    @property
    def point(self) -> dict[Symbol, Dim]:
        """The contraction's column variable in terms of `loop` and `lane`."""
        return {self.of.columns[0]: value(self.loop) * self.width + value(self.lane)}

    @property
    def present(self) -> Dim:
        """The number of columns that this panel has: `width`, or fewer in the last one."""
        return self.width if self.is_whole else minimum(self.width, self.columns - value(self.loop) * self.width)


# ---- panels ---------------------------------------------------------------------------------------------------------------


def contraction(v: Value) -> Operands:
    """Return the contraction in v's tile. v must have one."""
    o = operands(v.tile) if v.tile else None
    assert o is not None
    return o


def tile_dtype(v: Value) -> DType:
    """Return the dtype in which v's tile sums."""
    assert v.tile is not None
    return v.tile.tensor.dtype


def tile_vectors(v: Value, machine: Machine) -> int:
    """Return the number of vectors side by side in a panel."""
    return machine.vectors(extent(contraction(v).columns[0]), tile_dtype(v))


def panel_width(v: Value, machine: Machine) -> int:
    """Return the number of columns in a panel."""
    return tile_vectors(v, machine) * machine.lanes_of(tile_dtype(v))


def panel_loop(v: Value, builder: Builder) -> Symbol:
    """Return the loop over v's panels. If panels are outermost it runs outside the blocks of rows, else inside each block."""
    name = "panel" if panels_outermost(v, builder) else f"panel{v.id}"
    return Symbol(name, ceil_divide(extent(contraction(v).columns[0]), panel_width(v, builder.machine)))


def panels_outermost(v: Value, builder: Builder) -> bool:
    """Tell whether v's panels are the nest's outermost loop: only the root's can be."""
    return builder.nest.panels_outermost and v is builder.nest.root


# ---- tiles ----------------------------------------------------------------------------------------------------------------


def contraction_tiles(v: Value, builder: Builder) -> Stmt:
    """Build, for each panel, the tile and its epilogue. Plain sums go straight into v's memory, others through scratch."""
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
    """Return v's own memory as the tile's target, if v stores the plain sums and its memory can take whole vectors of
    columns; else None."""
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
    """Build the loops that read a panel's sums and store v's expression: for each row, a vector loop over the panel's
    columns."""
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
    """Build the sums of a panel: a tile or, by a condition checked at run time, dot products along k where rows are few and B
    is not packed."""
    choice, tile = panel.of.choice, tile_node(panel, target, builder)
    return tile if choice is None else If(choice.args[0], sums_along_k(panel, choice.args[1], target, builder), tile)


def sums_along_k(panel: Panel, b: Expr, target: Target, builder: Builder) -> Stmt:
    """Build dot products: for each row and each column of the panel, a vector loop over k whose lanes are added up."""
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
    """Build the Tile of a panel: the offsets and strides of its operands, its target, and what it prefetches."""
    o, blocks = panel.of, builder.blocks
    a, a_offset, a_row = offset_over(o.a.tensor, o.a.indices, panel, builder)
    b, b_offset, _ = offset_over(o.b.tensor, o.b.indices, panel, builder)
    group = coefficient(b_offset, panel.lane)
    assert isinstance(group, int), f"the columns of {o.b.tensor} don't lie side by side"
    a_rows: tuple[int, ...] = ()
    if a_row is None:
        a_row, a_rows = 0, uneven_rows(o.a, builder)
    zero = dict.fromkeys([*o.k, panel.lane], 0)
    start = substitute(b_offset, zero)
    ahead, lines = prefetched(panel, start, builder)
    loops = o.k if group == 1 else o.k[:-1]
    steps = tile_steps(loops, a_offset, b_offset)
    if group > 1:
        inner = o.k[-1]
        neighbours = (extent(inner), coefficient(a_offset, inner), coefficient(b_offset, inner))
        assert neighbours == (group, 1, 1), f"the groups of {o.a.tensor} and {o.b.tensor} don't lie side by side"
    a_offset = substitute(a_offset, zero)
    height, heights = blocks.height, blocks.heights
    return Tile(height, heights, panel.width, a, a_offset, a_row, b, start, *target, steps, ahead, a_rows, lines, group)


def tile_steps(loops: Sequence[Symbol], a_offset: Dim, b_offset: Dim) -> tuple[Step, ...]:
    """List these loops over k, outermost first; neighbouring loops along which both offsets move evenly are merged."""
    steps: list[Step] = []
    for k in loops:
        a, b, count = coefficient(a_offset, k), coefficient(b_offset, k), extent(k)
        assert a is not None
        assert b is not None
        if steps and steps[-1].a == a * count and steps[-1].b == b * count:
            count = steps.pop().extent * count
        steps.append(Step(count, a, b))
    return tuple(steps)


def prefetched(panel: Panel, start: Dim, builder: Builder) -> tuple[Dim | None, int]:
    """Return what a tile prefetches if panels are outermost: (offset in B, cache lines for every two iterations of k), else
    (None, 1).

    The blocks of rows that share a panel each prefetch an equal part of the next panel.
    """
    blocks, lanes = builder.blocks, builder.machine.lanes
    jump = coefficient(start, panel.loop)
    if not builder.nest.panels_outermost or jump is None:
        return None, 1
    share = product(extent(k) for k in panel.of.k) * panel.width // (blocks.together * lanes) * lanes
    lines = -(-2 * panel.width // (lanes * max(1, builder.machine.guess(blocks.together))))
    return start + jump + blocks.index * share, lines


# ---- offsets --------------------------------------------------------------------------------------------------------------


def offset_over(t: Tensor, indices: tuple[Dim, ...], panel: Panel, builder: Builder) -> tuple[Buffer, Dim, Dim | None]:
    """Return t's buffer, the offset at row 0 of the block, and the step from row to row, or None for the step if it varies."""
    r = Symbol("lr", max(builder.blocks.heights))
    builder.set_row(value(r))
    buffer, offset = builder.place_of(t, indices)
    offset = substitute(substitute(offset, panel.point), builder.env)
    builder.set_row(0)
    return buffer, substitute(offset, {r: 0}), coefficient(offset, r)


def uneven_rows(r: Read, builder: Builder) -> tuple[int, ...]:
    """Return the distance of each row of a block from the first row, in elements."""
    offsets: list[Dim] = []
    for i in range(max(builder.blocks.heights)):
        builder.set_row(i)
        offsets.append(substitute(builder.place_of(r.tensor, r.indices)[1], builder.env))
    builder.set_row(0)
    distances = [o - offsets[0] for o in offsets]
    assert all(isinstance(d, int) for d in distances)
    return tuple(d for d in distances if isinstance(d, int))
