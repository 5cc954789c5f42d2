"""The rows of a nest: which loops of the band count them, and how they are partitioned into blocks, each at most as tall as a
tile."""

from __future__ import annotations

from msgspec.structs import replace

from sardonyx.base.symbolic import (
    Dim,
    Int,
    Symbol,
    alias,
    ceil_divide,
    coefficient,
    maximum,
    minimum,
    primitive,
    product,
    quotient_and_remainder,
    substitute,
    symbols,
)
from sardonyx.expr.tensor import Read, variable
from sardonyx.loop.nodes import walk
from sardonyx.lower.builder import Blocks, Builder, Rows
from sardonyx.lower.parallel import LEAST_SHARED_WORK
from sardonyx.lower.tiles import contraction, panel_loop, tile_vectors
from sardonyx.lower.values import Value, extent

# ---- which loops ----------------------------------------------------------------------------------------------------------


def fold_rows(builder: Builder) -> Rows:
    """Choose the band's last loop as the loop over rows, and merge the loops around it into it where all addresses allow
    that.

    If a contraction has no rows (a query with keys of its own, say), the whole nest counts as having one row.
    """
    band = list(builder.nest.band)
    if not band or any(not contraction(v).rows for v in builder.contractions()):
        return Rows(band, None, 1, {})
    outer, row, m = band[:-1], band[-1], extent(band[-1])
    spots, indices = addresses(builder)
    merged: dict[Symbol, Dim] = {}
    while outer:
        o = outer[-1]
        steps = [(coefficient(a, o), coefficient(a, row)) for a in spots]
        if any(x is None or y is None or x != y * m for x, y in steps) or any({o, row} & symbols(i) for i in indices):
            break
        merged[outer.pop()] = 0
        m = m * extent(o)
        spots = [substitute(a, {o: 0}) for a in spots]
    return Rows(outer, row, m, merged)


def addresses(builder: Builder) -> tuple[list[Dim], list[Dim]]:
    """Collect the offsets at which the nest's statements read and write buffers, and the indices that they use as numbers. ->
    (offsets, indices)"""
    tiles = [v.tile for v in builder.nest.statements if v.tile]
    inside = builder.scratch_to_be() | {t.tensor for t in tiles}
    spots: list[Dim] = []
    indices: list[Dim] = []
    for v in [*builder.nest.statements, *tiles]:
        for n in walk(v.body) if v.body is not None else ():
            if not isinstance(n, Read):
                indices += n.dims
            elif n.tensor not in inside:
                spots.append(builder.place_of(n.tensor, n.indices)[1])
        if v.tensor not in inside:
            spots.append(builder.place_of(v.tensor, v.axes)[1])
    return spots, indices


def pair_rows(rows: Rows, builder: Builder) -> Rows:
    """Let one tile take the rows of several iterations of the loop around them, where there are few rows (images of 7 x 7,
    say).

    That outer loop then becomes the loop over rows, and each of its iterations stands for `group` rows of the tile. The rows
    of every A must lie at constant distances, and all of them must have the same B.
    """
    contractions, m = builder.contractions(), rows.count
    tallest = min((builder.machine.tallest(tile_vectors(v, builder.machine)) for v in contractions), default=0)
    if not rows.outer or rows.loop is None or not isinstance(m, int) or 2 * m > tallest:
        return rows
    around = rows.outer[-1]
    for v in contractions:
        a, b = contraction(v).a, contraction(v).b
        if around in b.symbols:
            return rows
        if a.tensor in builder.scratch_to_be():
            continue
        offset = builder.place_of(a.tensor, a.indices)[1]
        if not all(isinstance(coefficient(offset, s), int) for s in (rows.loop, around)):
            return rows
    return replace(rows, outer=rows.outer[:-1], loop=around, count=extent(around), group=m, group_loop=rows.loop)


# ---- blocks ---------------------------------------------------------------------------------------------------------------


def tallest_block(rows: Rows, builder: Builder) -> int:
    """Return the most iterations of the loop over rows that every tile of the nest can take at once; 8 or fewer in a nest
    without tiles."""
    machine, m = builder.machine, rows.count
    heights = [machine.heights(m, tile_vectors(v, machine), rows.group, rows_clash(v, builder)) for v in builder.contractions()]
    return min(heights, default=min(8, m) if isinstance(m, int) and m else 8)


def rows_clash(v: Value, builder: Builder) -> bool:
    """Tell whether the rows of A that a tile reads together map to the same set of L1."""
    a = contraction(v).a
    if a.tensor in builder.scratch_to_be() or not builder.nest.band:
        return False
    step = coefficient(builder.place_of(a.tensor, a.indices)[1], builder.nest.band[-1])
    return isinstance(step, int) and step != 0 and step * a.tensor.dtype.itemsize % builder.machine.way == 0


LEAST_BLOCKS = 8
"""Blocks to make at least in nests without a tile, where there is much work or the number of rows is known only at run time."""


def partition(rows: Rows, height: int, builder: Builder) -> Blocks:
    """Partition the rows into blocks of nearly equal height, at most `height` iterations each; return the blocks and the
    loops that count them.

    If panels are outermost, rows are first grouped into chunks that fit the cache: all blocks of a chunk use one panel before
    the next.
    """
    nest, machine, m, group = builder.nest, builder.machine, rows.count, rows.group
    count = ceil_divide(m, height)
    if not builder.contractions() and (not isinstance(m, int) or machine.guess(nest.root.work) >= LEAST_SHARED_WORK):
        count = maximum(count, minimum(m, LEAST_BLOCKS))
    loops = list(rows.outer)
    panels = [panel_loop(nest.root, builder)] if nest.panels_outermost else []
    chunks = chunks_of(rows, count, builder) if panels and height > 1 else 1  # with height > 1 no block is empty
    chunks, together = alias(chunks), alias(ceil_divide(count, chunks))
    chunk, inner = variable("chunk", chunks), variable("block", together)
    own = contraction(nest.root).b.symbols if panels else frozenset()
    at = sum(s in own for s in loops)
    loops[at:at] = [*symbols(chunk), *panels]
    count, block = chunks * together, chunk * together + inner
    low, rest = (alias(quotient) for quotient in quotient_and_remainder(m, maximum(count, 1)))
    if isinstance(low, int) and isinstance(rest, int):
        lengths: tuple[int, ...] = (low, low + 1) if rest else (low,)
    else:
        lengths = tuple(range(least_rows(m, height, chunks), height + 1))
    heights = tuple(n * group for n in lengths if n > 0)
    own_height = (low + minimum(maximum(rest - block, 0), 1)) * group
    return Blocks(rows, [*loops, *symbols(inner)], heights, own_height, block * low + minimum(block, rest), inner, together)


def least_rows(m: Dim, height: int, chunks: Dim) -> int:
    """Return a lower bound on the rows of a block, where m > 0 rows are partitioned evenly into blocks of at most `height`
    rows.

    If m is a formula with constant factor f, m is at least f. c = ceil(m / height) blocks are one block of all m rows or, as
    m > (c - 1) height, several blocks of more than height (c - 1) / c rows each, hence at least height / 2. Partitioned into
    at most c chunks, there are up to 2 c - 1 blocks of more than height (c - 1) / (2 c - 1) rows each, hence at least height
    / 3.
    """
    factor = primitive(m)[0] if isinstance(m, Int) else 1
    return max(min(factor, height // (2 if chunks == 1 else 3)), 1)


def chunks_of(rows: Rows, blocks: Dim, builder: Builder) -> Dim:
    """Return the number of chunks into which to group the rows, so that the part of A that a chunk reads fits in half of L2."""
    o = contraction(builder.nest.root)
    single_symbols = [s for s in o.k if any(symbols(i) == {s} for i in o.a.indices)]
    row = product(extent(s) for s in single_symbols) * rows.group * o.a.tensor.dtype.itemsize
    return maximum(minimum(blocks, ceil_divide(rows.count * row, builder.machine.l2 // 2)), 1)
