"""The state of a kernel under construction: the buffers that stand for its tensors, and the point of the band at which they
are accessed.

A tensor is an argument, scratch for a block of rows, or the sums of one panel. `Builder.place_of` returns the buffer and an
element's offset in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from msgspec import Struct

from sardonyx.base.symbolic import Dim, Symbol, substitute, symbols
from sardonyx.expr.pieces import settle
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Buffer, Const, Expr, Load, Store, replace
from sardonyx.lower.machine import Machine
from sardonyx.lower.place import Nest
from sardonyx.lower.values import Value, address, transform

Iteration: TypeAlias = Mapping[Symbol, int]
Forward: TypeAlias = dict[tuple[Tensor, tuple[Dim, ...]], Expr]
EMPTY: Iteration = MappingProxyType({})


class Scratch(Struct, frozen=True):
    """Scratch memory of a ROW for a block of rows. strides: of the tensor's axes; row: the distance between rows; size: of
    the whole block."""

    buffer: Buffer
    strides: tuple[Dim, ...]
    row: Dim
    size: Dim


class Rows(Struct, frozen=True):
    """How a nest counts rows: the loops around them, the loop over rows, its iterations, and the loops merged into it, each
    set to 0.

    group: rows of a tile for each iteration of `loop`, counted by `group_loop` (see rows.pair_rows).
    """

    outer: list[Symbol]
    loop: Symbol | None
    count: Dim
    merged: Mapping[Symbol, Dim]
    group: int = 1
    group_loop: Symbol | None = None


class Blocks(Struct, frozen=True):
    """The partition of rows into blocks (see rows.partition), and the block that `loops` select.

    heights   the numbers of rows that a block may have
    height    the number of rows of this block
    start     its first iteration of the loop over rows
    index     its number among the `together` blocks that use one panel
    """

    rows: Rows
    loops: list[Symbol]
    heights: tuple[int, ...]
    height: Dim
    start: Dim
    index: Dim
    together: Dim

    def point(self, r: Dim) -> dict[Symbol, Dim]:
        """Map the band's loops to their values at row r of this block."""
        env = dict(self.rows.merged)
        if self.rows.loop is not None:
            env[self.rows.loop] = self.start + r // self.rows.group
        if self.rows.group_loop is not None:
            env[self.rows.group_loop] = r % self.rows.group
        return env


ONE_ROW = Blocks(Rows([], None, 1, EMPTY), [], (1,), 1, 0, 0, 1)


class Builder:
    """Builds the loads and stores of one nest's kernel.

    arguments     buffers of tensors outside the kernel
    scratch       memory of ROWs
    sums          for contractions whose panel is being computed: (buffer, columns per row)
    env           values of the band's loops at the present row
    row           the present row of the block
    panel_column  the present column of the panel
    sizes         symbols that this kernel uses for sizes of its own, with their values (see maps.generalised)
    """

    def __init__(self, nest: Nest, values: dict[Tensor, Value], machine: Machine) -> None:
        self.nest, self.values, self.machine = nest, values, machine
        self.arguments: dict[Tensor, Buffer] = {}
        self.scratch: dict[Tensor, Scratch] = {}
        self.sums: dict[Tensor, tuple[Buffer, int]] = {}
        self.blocks = ONE_ROW
        self.env: dict[Symbol, Dim] = {}
        self.row: Dim = 0
        self.panel_column: Dim = 0
        self.sizes: dict[Symbol, Dim] = {}

    def set_row(self, r: Dim) -> None:
        """Set the point at which loads and stores are built to row r of the block."""
        self.row, self.env = r, self.blocks.point(r)

    def buffer(self, t: Tensor) -> Buffer:
        """Return the argument that stands for t; one is added if there is none."""
        if t not in self.arguments:
            writes = {(v.into[0] if v.into else v.tensor) for v in self.nest.statements}
            self.arguments[t] = Buffer(f"b{len(self.arguments)}", t.dtype, readonly=t not in writes)
        return self.arguments[t]

    def place_of(self, t: Tensor, indices: Sequence[Dim]) -> tuple[Buffer, Dim]:
        """Return the buffer that holds t and the offset of the element at these indices."""
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
        """Build the load of a read at the present point."""
        buffer, offset = self.place_of(r.tensor, r.indices)
        return Load(buffer, substitute(offset, self.env), None if r.guard is None else replace(r.guard, self.env))

    def expression(self, body: Expr, forward: Forward | None = None) -> Expr:
        """Build the body with its reads as loads at the present point. forward: expressions of values that need no load."""
        known = forward or {}

        def on_read(r: Read) -> Expr:
            found = known.get((r.tensor, r.indices))
            return self.load(r) if found is None else found

        return replace(transform(body, on_read), self.env)

    def store(self, v: Value, x: Expr, combine: str | None = None, iteration: Iteration = EMPTY) -> Store:
        """Build the store of x as v's element at the present point. iteration: values of v's fully unrolled loops."""
        buffer, offset = self.place_of(v.tensor, v.axes)
        guard = None if v.guard is None else settle(replace(replace(v.guard, iteration), self.env))
        if isinstance(guard, Const) and guard.value:
            guard = None
        return Store(buffer, substitute(substitute(offset, iteration), self.env), x, combine, guard)

    def contractions(self) -> list[Value]:
        """List the statements that have a tile."""
        return [v for v in self.nest.statements if v.tile]

    def scratch_to_be(self) -> set[Tensor]:
        """Collect the tensors that will lie in scratch, one block of rows at a time."""
        return {v.tensor for v in self.nest.members if not v.stored}
