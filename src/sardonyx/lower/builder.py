"""A kernel while it is built: what its tensors are in it, and the point of the band at which they are read and written.

A tensor is an argument, scratch for a block of rows, or the sums of one panel; `Builder.place_of` says which, and where an element lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

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


@dataclass(frozen=True, slots=True)
class Scratch:
    """A ROW's memory for a block of rows: strides of its own axes, and of the row."""

    buffer: Buffer
    strides: tuple[Dim, ...]
    row: Dim
    size: Dim


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a band: the loops around them, the loop that counts them, how many, and the loops merged away, each at 0.

    group: rows of a tile for each turn of the loop, which `group_loop` counts (see rows.pair_rows).
    """

    outer: list[Symbol]
    loop: Symbol | None
    count: Dim
    merged: Mapping[Symbol, Dim]
    group: int = 1
    group_loop: Symbol | None = None


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows in blocks (see rows.partition), inside `loops`.

    heights   numbers of tile rows that a block may have
    height    of this block
    start     its first turn of the rows' loop
    index     which it is among the `together` that meet one panel
    """

    rows: Rows
    loops: list[Symbol]
    heights: tuple[int, ...]
    height: Dim
    start: Dim
    index: Dim
    together: Dim

    def point(self, r: Dim) -> dict[Symbol, Dim]:
        """The band's loops at row r of the block."""
        env = dict(self.rows.merged)
        if self.rows.loop is not None:
            env[self.rows.loop] = self.start + r // self.rows.group
        if self.rows.group_loop is not None:
            env[self.rows.group_loop] = r % self.rows.group
        return env


ONE_ROW = Blocks(Rows([], None, 1, EMPTY), [], (1,), 1, 0, 0, 1)


class Builder:
    def __init__(self, nest: Nest, values: dict[Tensor, Value], machine: Machine) -> None:
        self.nest, self.values, self.machine = nest, values, machine
        self.arguments: dict[Tensor, Buffer] = {}
        self.scratch: dict[Tensor, Scratch] = {}
        self.sums: dict[Tensor, tuple[Buffer, int]] = {}  # a contraction's sums of one panel: buffer, columns
        self.blocks = ONE_ROW
        self.env: dict[Symbol, Dim] = {}  # of the band's loops, inside a block
        self.row: Dim = 0  # of the block
        self.panel_column: Dim = 0
        self.sizes: dict[Symbol, Dim] = {}  # that the kernel has names of its own for (see maps.generalised)

    def set_row(self, r: Dim) -> None:
        """Puts the band's point at row r of the block."""
        self.row, self.env = r, self.blocks.point(r)

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

    def store(self, v: Value, x: Expr, combine: str | None = None, iteration: Iteration = EMPTY) -> Store:
        """turn: of v's loops that are written out."""
        buffer, offset = self.place_of(v.tensor, v.axes)
        guard = None if v.guard is None else settle(replace(replace(v.guard, iteration), self.env))
        if isinstance(guard, Const) and guard.value:
            guard = None
        return Store(buffer, substitute(substitute(offset, iteration), self.env), x, combine, guard)

    def contractions(self) -> list[Value]:
        """The statements that have a tile."""
        return [v for v in self.nest.statements if v.tile]

    def scratch_to_be(self) -> set[Tensor]:
        """What will lie in scratch, row by row of a block."""
        return {v.tensor for v in self.nest.members if not v.stored}
