"""One nest as a kernel of the loop IR.

    parallel for t over the outer loops x blocks of rows (the panels outermost, where B streams by)
      a block is as many rows as M allows evenly, at most the tile's                               rows
      the members in order:
        a contraction    for each panel: Tile -> memory, or -> sums, then the statement's          tiles
                         expression over the panel's rows
        other statements for each row: one vector loop, shared by neighbours over equal loops      sweeps

A nest of one pointwise statement is simpler (maps). Memory and the present point of the band: builder.
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
    """The kernel, the tensors its buffers stand for, in order, and those of its sizes that are the kernel's own."""
    builder = Builder(nest, values, machine)
    body = ensure_parallel_loop(map_kernel(builder) if is_map(nest) else block_kernel(builder))
    arguments = list(builder.arguments)
    buffers = tuple(builder.arguments.values())
    origins = tuple(dict.fromkeys(v.tensor.origin for v in nest.statements))
    return Kernel(name, buffers, tuple(sorted(free_symbols(body))), body, origins), arguments, builder.sizes


def block_kernel(builder: Builder) -> Stmt:
    """parallel for t: the row block of this t: the members"""
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
    """The statements of a block: each with a tile alone, those between two of them together."""
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
    """To every ROW that no later nest reads: its part of `height` rows, whole vectors of the last axis."""
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
