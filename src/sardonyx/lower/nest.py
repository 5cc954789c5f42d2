"""Build the kernel of one nest in the loop IR.

    parallel for t over the outer loops and the blocks of rows (and, outside them, the panels if those are outermost)
      partition the rows into blocks of equal height, at most a tile's                              rows
      for each statement in order:
        a contraction    for each panel: Tile -> memory, or -> sums and then the statement's        tiles
                         expression over the panel's rows
        other statements for each row: one vector loop, shared by neighbours with equal loops       sweeps

A nest of a single pointwise statement has a simpler form (maps). Memory and the present point of the band are kept by
builder.
"""

from __future__ import annotations

from sardonyx.base.symbolic import Dim, Symbol, round_up, symbols
from sardonyx.expr.tensor import Tensor
from sardonyx.loop.nodes import Alloc, Buffer, Kernel, Stmt, sequence
from sardonyx.lower.builder import Builder, Scratch
from sardonyx.lower.machine import Machine
from sardonyx.lower.maps import is_map, map_kernel
from sardonyx.lower.parallel import ensure_parallel_loop, parallel
from sardonyx.lower.place import Nest
from sardonyx.lower.rows import fold_rows, pair_rows, partition, tallest_block
from sardonyx.lower.sweeps import sweep_rows, window_chunks
from sardonyx.lower.tiles import contraction_tiles, panel_width
from sardonyx.lower.uses import free_symbols, written_buffers
from sardonyx.lower.values import Value, extent


def build(nest: Nest, values: dict[Tensor, Value], machine: Machine, name: str) -> tuple[Kernel, list[Tensor], dict[Symbol, Dim]]:
    """Build the nest's kernel. -> (kernel, the tensors that its buffers stand for, in order, the values of sizes that are its
    own)"""
    builder = Builder(nest, values, machine)
    body = ensure_parallel_loop(map_kernel(builder) if is_map(nest) else block_kernel(builder))
    arguments = list(builder.arguments)
    buffers = tuple(builder.arguments.values())
    origins = tuple(dict.fromkeys(v.tensor.origin for v in nest.statements))
    return Kernel(name, buffers, tuple(sorted(free_symbols(body))), body, origins), arguments, builder.sizes


def block_kernel(builder: Builder) -> Stmt:
    """Build the parallel loop over blocks of rows, with the members inside."""
    if 0 in map(extent, builder.nest.band):
        return sequence([])
    rows = pair_rows(fold_rows(builder), builder)
    height = tallest_block(rows, builder)
    give_scratch(height * rows.group, builder)
    builder.blocks = partition(rows, height, builder)
    builder.set_row(0)
    body, chunks = window_chunks(members(builder), builder)
    used = written_buffers(body)
    for s in reversed([s for s in builder.scratch.values() if s.buffer in used]):
        body = Alloc(s.buffer, s.size, body)
    return parallel([*chunks, *builder.blocks.loops], body)


def members(builder: Builder) -> Stmt:
    """Build the statements of a block: each contraction by itself, the statements between two contractions together."""
    statements: list[Stmt] = []
    waiting: list[Value] = []
    for v in builder.nest.statements:
        if v.tile is None:
            waiting.append(v)
            continue
        statements += sweep_rows(waiting, builder)
        waiting = []
        statements.append(contraction_tiles(v, builder))
    return sequence([*statements, *sweep_rows(waiting, builder)])


def give_scratch(height: int, builder: Builder) -> None:
    """Allocate scratch of `height` rows to each ROW that no later nest reads; the last axis is rounded up to whole vectors."""
    band = set(builder.nest.band)
    for v in builder.nest.members:
        if v.stored:
            continue
        step: Dim = 1
        steps: list[Dim] = [0] * len(v.axes)
        for a in reversed(range(len(v.axes))):
            if symbols(v.axes[a]) and not symbols(v.axes[a]) <= band:
                steps[a] = step
                whole = panel_width(v, builder.machine) if v.tile else builder.machine.lanes
                step = step * (round_up(v.shape[a], whole) if step == 1 else v.shape[a])
        buffer = Buffer(f"s{len(builder.scratch)}", v.tensor.dtype, "scratch", aligned=True)
        builder.scratch[v.tensor] = Scratch(buffer, tuple(steps), step, step * height)
