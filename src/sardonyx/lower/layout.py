"""Choose how buffers are laid out: axes in the order in which the first reader's loops run, the axis of most vector accesses
contiguous."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sardonyx.base.symbolic import Dim, Symbol, product, single, strides, symbols
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.lower.machine import Machine
from sardonyx.lower.values import Panels, Value, address, extent, has_remainder, moves, operands, reads_of

MOST_ASKED = 16
"""Values to visit while looking for the contraction that a value carries."""

LONG = 4
"""Vectors of terms from which on a reduction is vectorised along its terms even if its results are then not stored
contiguously."""
DEPTH = 3
"""Length of the chains of operands that are followed to predict how a value will be laid out."""

Use = tuple[Value, Read]


class Layouts:
    """The values, their readers, and the layouts of buffers, kept up to date while values are placed one by one."""

    def __init__(self, values: dict[Tensor, Value], outputs: set[Tensor], machine: Machine) -> None:
        self.values, self.outputs, self.machine = values, outputs, machine
        self.readers: dict[Value, dict[Value, None]] = {}
        for v in list(values.values()):
            self.note(v)

    def note(self, statement: Value) -> None:
        """Record the statement as a reader of everything that it reads."""
        for r in reads_of(statement):
            self.readers.setdefault(self.values[r.tensor], {})[statement] = None

    def uses(self, v: Value) -> list[Use]:
        """List the placed statements that read v, each with one of its reads of v."""
        out = []
        for reader in self.readers.get(v, ()):
            if reader.body is not None and reader.place not in (None, "VIEW", "INLINE"):
                out += [(reader, r) for r in reads_of(reader) if r.tensor is v.tensor]
        return out

    def stored_at(self, v: Value) -> Dim:
        """Return the offset of v's element in its buffer, over v's loops."""
        target, where = v.into or (v.tensor, v.axes)
        return address(where, self.values[target].strides)

    def vector_loop(self, v: Value) -> Symbol | None:
        """Choose the loop to vectorise: a long one along which most of v's accesses, its own store included, are contiguous."""
        spots = self.likely_spots(v, DEPTH)
        loops = v.all_loops
        if v.place == "ROW":
            loops = [s for s in loops if s not in v.nest.band]  # type: ignore[attr-defined]
        if (v.place != "ROW" or v.stored) and not self.reduces_rows(v):
            spots.append(self.stored_at(v))

        def score(s: Symbol) -> tuple[bool, int, bool]:
            long = self.machine.guess(extent(s)) >= min(self.machine.lanes, 8)
            return long, sum(moves(a, s) == 1 for a in spots), s in v.variables

        return max(reversed(loops), key=score, default=None)

    def reduces_rows(self, v: Value) -> bool:
        """Tell whether v reduces so many terms per result that only its reads matter, not its stores."""
        return v.fn is not None and self.machine.guess(product(map(extent, v.loops))) >= LONG * self.machine.lanes

    def likely_spots(self, v: Value, depth: int) -> list[Dim]:
        """Return the offsets that v reads at, for operands whose layout is known or can be predicted."""
        reads = reads_of(v)
        steps = {t: self.likely_strides(self.values[t], depth) for t in dict.fromkeys(r.tensor for r in reads)}
        return [address(r.indices, known) for r in reads if (known := steps[r.tensor]) is not None]

    def likely_strides(self, v: Value, depth: int) -> list[Dim] | None:
        """Return the strides of v's buffer, or predict them if it has no layout yet. None if v will follow its reader."""
        if v.has_layout or v.is_next_state or (v.body is None and not v.constant and not v.tensor.parts):
            return v.strides
        tensors = v.tensor.parts or (v.tensor,)
        written = [self.values[t] for t in tensors if t in self.values]  # without parts computed at load
        last = next((a for w in written if (a := self.natural_axis(w, depth)) is not None), None)
        return None if last is None else strides(v.shape, [*(a for a in range(len(v.shape)) if a != last), last])

    def natural_axis(self, w: Value, depth: int) -> int | None:
        """Return the axis of w's buffer that w is best computed along: its contraction's columns, else the axis of most
        contiguous reads."""
        column = self.column_axis(w)
        if column is not None or w.constant or w.body is None or not depth:
            return column
        spots = self.likely_spots(w, depth - 1)
        votes = {
            s: sum(moves(a, s) == 1 for a in spots) for s in w.variables if self.machine.guess(extent(s)) >= self.machine.lanes
        }
        best = max(votes, key=lambda s: votes[s], default=None)
        if best is None or not votes[best]:
            return None
        return next((a for a, i in enumerate(w.into[1] if w.into else w.axes) if single(i) is best), None)

    def column_axis(self, w: Value) -> int | None:
        """Return the axis, in the buffer that w writes, of the columns of w's contraction; None if it has none."""
        column = self.columns(w)
        if column is None:
            return None
        where = w.into[1] if w.into else w.axes
        return next(a for a, i in enumerate(where) if symbols(w.axes[column]) <= symbols(i))

    def columns(self, v: Value) -> int | None:
        """Return the axis of v that is the columns of the contraction that v has as its tile, or will have; None if there is
        none."""
        seen, waiting = {v}, deque([v])
        while waiting and len(seen) <= MOST_ASKED:
            u = waiting.popleft()
            if o := operands(u.tile or u):
                return next((a for a, x in enumerate(u.axes) if single(x) is o.columns[0]), None)
            if u.fn or u.body is None:
                continue
            for r in reads_of(u):
                source = self.values[r.tensor]
                if r.tensor.shape == u.shape and r.indices == u.axes and source not in seen:
                    seen.add(source)
                    waiting.append(source)
        return None

    def layout(self, w: Value) -> None:
        """Choose the strides of the buffer that w writes, once.

        Axes follow the order of the first reader's loops: batch, rows, k, columns for an operand of a contraction; for other
        readers the order of their own buffer, reduced loops last. `last_axis` is moved to the end. Rows of a contraction's A
        are padded so that the rows that a tile reads together lie in different sets of the cache. Outputs and results of
        hand-written kernels are dense.
        """
        v = self.values[w.into[0]] if w.into else w
        if v.has_layout:
            return
        v.has_layout = True
        dense = v.tensor in self.outputs or v.tensor.call is not None
        uses = [] if dense else self.uses(v)
        if not uses:
            v.strides = strides(v.shape)
            return
        t, r = uses[0]
        order = sorted(range(len(v.shape)), key=self.reading_order(t, r))
        last = self.last_axis(w, uses)
        if last is not None:
            order.remove(last)
            order.append(last)
        shape = list(v.shape)
        if not v.constant and order and any((o := operands(t)) is not None and r is o.a for t, r in uses):
            shape[order[-1]] = self.machine.spaced(shape[order[-1]], v.tensor.dtype)
        v.strides, v.allocated = strides(shape, order), product(shape)

    def last_axis(self, w: Value, uses: Sequence[Use]) -> int | None:
        """Choose the axis of w's buffer to store contiguously, or None to keep the reader's order.

        If a contraction reads the buffer as B without packing, its last axis. If w has a contraction, its columns. For a
        constant, the loop that its reader is vectorised along.
        """
        if any((o := operands(t)) is not None and r is o.b for t, r in uses) and not isinstance(uses[0][1].tensor, Panels):
            return uses[0][1].tensor.rank - 1  # see pack.lies_well
        t, r = uses[0]
        column = self.column_axis(w)
        if column is not None or operands(t):
            return column
        if w.constant:
            vector = self.vector_loop(t)
            return next((a for a, i in enumerate(r.indices) if vector is not None and single(i) == vector), None)
        natural = self.natural_axis(w, DEPTH) if t.fn else None  # a reduction over other axes can be vectorised along this one
        return natural if natural is not None and symbols(r.indices[natural]).isdisjoint(t.loops) else None

    def reading_order(self, t: Value, r: Read):  # type: ignore[no-untyped-def]
        """Return the sort key that orders the axes of r as the loops of its reader t run."""
        o = operands(t)
        if o is not None and (r is o.a or r is o.b):
            loops, inner = o.batch + o.rows + o.k + o.columns, frozenset[Symbol]()
        else:
            store = self.stored_at(t.nest.root) if t.nest is not None else self.stored_at(t)  # type: ignore[attr-defined]
            own = sorted(t.variables, key=lambda s: -self.machine.guess(moves(store, s)))
            loops, inner = own + list(t.loops), frozenset(t.loops)
        depth = {s: i for i, s in enumerate(loops)}

        def key(axis: int) -> tuple[int, bool]:
            i = r.indices[axis]
            moving = (symbols(i) - inner) or symbols(i)  # an index of a window moves with the outer loop, not with the reduction
            return max((depth.get(s, -1) for s in moving), default=-1), has_remainder(i)

        return key
