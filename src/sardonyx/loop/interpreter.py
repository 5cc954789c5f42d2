"""Execute the loop IR in numpy. This defines what kernels mean; code generators are tested against it.

    failure = run(kernel, {"x": x, "y": y}, {"n": 3})        y is written in place

Every access is checked; an index out of bounds raises IndexError. Functions (exp, ...) are evaluated by their expansion, so a
kernel without reductions gives exactly the bits of compiled code. Reductions combine their terms in order.

Where a guard is false, memory is not accessed and the indices in the offset are not checked. Vector loops, and the innermost
loops of reductions, evaluate all iterations at once, statement by statement. With `strict`, loops run one iteration at a
time, and conflicting accesses of two iterations of a vector or parallel loop raise Conflict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from msgspec import Struct, field

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Atom, Derived, Dim, Symbol, symbols, terms
from sardonyx.loop import nodes, semantics
from sardonyx.loop.functions import expand
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
    Check,
    Element,
    Expr,
    For,
    If,
    Index,
    Kernel,
    Load,
    Reduce,
    Seq,
    Stmt,
    Store,
    Tile,
    While,
)
from sardonyx.loop.semantics import Array

Integer: TypeAlias = int | Array

CHUNK = 4096  # iterations of a reduction that are evaluated at once


class Conflict(RuntimeError):
    """Two iterations that may run concurrently access the same element, and at least one of them writes it."""


class Failure(Struct, frozen=True):
    """The first Check or Element that failed: its code and details."""

    code: int
    details: tuple[int, ...]


class Shared(Struct):
    """State that the threads of a run share: the first failure, and the expansions of expressions."""

    failure: Failure | None = None
    expanded: dict[Expr, Expr] = field(default_factory=dict)

    def record(self, code: int, details: tuple[int, ...]) -> None:
        self.failure = self.failure or Failure(code, details)


def run(
    kernel: Kernel, arrays: Mapping[str, Array], sizes: Mapping[str, int], threads: int = 1, strict: bool = False
) -> Failure | None:
    """Run a kernel on its arguments by name: C-contiguous arrays of any shape, changed in place. Returns the first failed
    Check, or None.

    threads: how many threads to simulate, one after the other. strict: detect conflicts, within one thread only, so use one.
    Raises IndexError for an access outside a buffer, Conflict, and TypeError for an array of a wrong dtype.
    """
    memory = {b: flat(b, arrays[b.name]) for b in kernel.buffers}
    known: dict[Symbol, Integer] = {s: sizes[s.name] for s in kernel.sizes}
    shared = Shared()
    team = [Thread(kernel.name, dict(memory), dict(known), shared, (t, threads), strict) for t in range(threads)]
    for thread in team:
        thread.statement(kernel.body)
    return shared.failure


def flat(buffer: Buffer, array: Array) -> Array:
    """Return the array as one axis. Raises TypeError if its dtype or layout does not match the buffer."""
    if array.dtype != buffer.dtype.numpy or not array.flags.c_contiguous:
        raise TypeError(f"{buffer} wants a contiguous array of {buffer.dtype}, not {array.dtype}")
    return array.reshape(-1)


def undefined(size: int, dtype: DType) -> Array:
    """Return memory filled with values that reveal wrong use: NaN for dtypes that have one."""
    if dtype.kind == "bool" or dtype.bits < 8:
        return np.ones(size, dtype.numpy)
    return np.full(size * dtype.itemsize, 0xFF if dtype.is_float else 0xA5, np.uint8).view(dtype.numpy)


class Iterations(Struct):
    """The accesses of a loop that is checked for conflicts: (array, offset) -> {read, write or combine: the iteration, or -1
    for several}."""

    vector: bool
    current: int = 0
    touched: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)
    alive: dict[int, Array] = field(default_factory=dict)

    def touch(self, array: Array, offset: int, how: str) -> bool:
        """Record an access; return True if no other iteration conflicts with it."""
        self.alive[id(array)] = array
        seen = self.touched.setdefault((id(array), offset), {})
        others = {h for h, iteration in seen.items() if iteration != self.current}
        harmless = {"read": {"read"}, "write": set(), "combine": {"combine"} if self.vector else set()}[how]
        seen[how] = self.current if seen.get(how, self.current) == self.current else -1
        return others <= harmless


class Thread:
    """Executes a kernel as one thread. Inside a vector loop, `lanes` is the shape of the iterations evaluated at once;
    symbols are arrays."""

    def __init__(
        self,
        name: str,
        memory: dict[Buffer, Array],
        known: dict[Symbol, Integer],
        shared: Shared,
        place: tuple[int, int],
        strict: bool,
    ) -> None:
        self.name, self.memory, self.symbols, self.shared, self.strict = name, memory, known, shared, strict
        self.thread, self.threads = place
        self.lanes: tuple[int, ...] = ()
        self.on = np.asarray(True)  # where the enclosing guards are true
        self.loops: list[Iterations] = []

    @contextmanager
    def bound(self, symbol: Symbol, value: Integer) -> Iterator[None]:
        """Bind the symbol to a value inside the block."""
        before = self.symbols.get(symbol)
        self.symbols[symbol] = value
        yield
        if before is None:
            del self.symbols[symbol]
        else:
            self.symbols[symbol] = before

    @contextmanager
    def at_once(self, symbol: Symbol, lo: int, hi: int) -> Iterator[None]:
        """Bind the symbol to all of range(lo, hi), along a new first axis."""
        outer = self.lanes
        self.lanes = (hi - lo, *outer)
        with self.bound(symbol, np.arange(lo, hi).reshape(-1, *[1] * len(outer))):
            yield
        self.lanes = outer

    @contextmanager
    def only(self, guard: Array) -> Iterator[None]:
        """Limit checks to the lanes in which the guard is true."""
        outer = self.on
        self.on = np.asarray(outer & guard)
        yield
        self.on = outer

    # ---- statements -------------------------------------------------------------------------------------------------------

    def statement(self, s: Stmt) -> None:
        """Execute a statement."""
        match s:
            case Seq():
                for part in s.body:
                    self.statement(part)
            case Store():
                self.store(s)
            case For():
                self.loop(s)
            case While():
                while self.value(s.condition):
                    self.statement(s.body)
            case If():
                if self.value(s.condition):
                    self.statement(s.then)
                elif s.otherwise is not None:
                    self.statement(s.otherwise)
            case Alloc():
                self.memory[s.buffer] = undefined(self.number(s.size), s.buffer.dtype)
                self.statement(s.body)
                del self.memory[s.buffer]
            case Check():
                self.check(np.asarray(self.value(s.condition)), s.code, [self.value(d) for d in s.details])
            case Tile():
                self.tile(s)

    def loop(self, s: For) -> None:
        """Execute a loop: this thread's range of a parallel loop, all iterations of a vector loop at once, others in order."""
        lo, hi = self.number(s.lo), self.number(s.hi)
        if s.kind == "parallel":
            lo, hi = lo + max(hi - lo, 0) * self.thread // self.threads, lo + max(hi - lo, 0) * (self.thread + 1) // self.threads
            with self.bound(nodes.first(s.variable), lo):
                self.in_turn(s, lo, hi)
        elif s.kind == "vector" and not self.strict and not bounds_depend(s.body, s.variable):
            if lo < hi:
                with self.at_once(s.variable, lo, hi):
                    self.statement(s.body)
        else:
            self.in_turn(s, lo, hi)

    def in_turn(self, s: For, lo: int, hi: int) -> None:
        """Execute the iterations one after the other, recording accesses if conflicts are to be found."""
        watched = self.strict and s.kind in ("vector", "parallel")
        if watched:
            self.loops.append(Iterations(s.kind == "vector"))
        for i in range(lo, hi):
            if watched:
                self.loops[-1].current = i
            with self.bound(s.variable, i):
                self.statement(s.body)
        if watched:
            self.loops.pop()

    def store(self, s: Store) -> None:
        """Execute a store in all lanes. Raises Conflict if two lanes store to one element without combining."""
        value, guard = self.value(s.value), np.asarray(True if s.guard is None else self.value(s.guard))
        if s.buffer.readonly:
            raise TypeError(f"{self.name}: a store to {s.buffer}, which is readonly")
        with self.only(guard):
            offsets = np.broadcast_to(self.integer(s.offset), self.lanes)
        on = np.broadcast_to(guard, self.lanes)
        where, values = offsets[on], np.broadcast_to(value, self.lanes)[on]
        array = self.within(s.buffer, where)
        self.touch(s.buffer, where, "write" if s.combine is None else "combine")
        if len(np.unique(where)) == len(where):
            array[where] = values if s.combine is None else semantics.apply(s.combine, array[where], values)
        elif s.combine is None:
            raise Conflict(f"{self.name}: iterations of a vector loop store to the same element of {s.buffer}")
        else:
            for i, v in zip(where, values, strict=True):
                array[i] = semantics.apply(s.combine, array[i], v)

    def tile(self, t: Tile) -> None:
        """Execute a tile."""
        rows = self.number(t.rows)
        if rows not in t.heights:
            raise ValueError(f"{self.name}: a tile of {rows} rows, made for {t.heights}")
        row, column = np.arange(rows)[:, None], np.arange(t.width)
        a, b = (
            self.number(t.a_offset) + (np.array(t.a_rows)[row] if t.a_rows else row * self.number(t.a_row)),
            self.number(t.b_offset) + column * t.group,
        )
        sums = np.zeros((rows, t.width), t.c.dtype.numpy)
        extents = [self.number(step.extent) for step in t.steps]
        moves = [(self.number(step.a), self.number(step.b)) for step in t.steps]
        for *k, g in np.ndindex(*extents, t.group):
            shift = [sum((i * move[side] for i, move in zip(k, moves, strict=True)), start=g) for side in (0, 1)]
            x, y = self.fetch(t.a, a + shift[0], t.c.dtype), self.fetch(t.b, b + shift[1], t.c.dtype)
            sums = multiply_add(x, y, sums)
        c = self.number(t.c_offset) + row * self.number(t.c_row) + column
        self.touch(t.c, c, "write")
        self.within(t.c, c)[c] = sums

    def fetch(self, buffer: Buffer, offsets: Array, dtype: DType) -> Array:
        """Load elements and convert them."""
        array = self.within(buffer, offsets)
        self.touch(buffer, offsets, "read")
        return semantics.cast(array[offsets], buffer.dtype, dtype)

    # ---- memory and checks ------------------------------------------------------------------------------------------------

    def within(self, buffer: Buffer, offsets: Array) -> Array:
        """Return the buffer's memory. Raises IndexError if an offset lies outside, NameError if the buffer is not allocated
        here."""
        array = self.memory.get(buffer)
        if array is None:
            raise NameError(f"{self.name}: {buffer} is not allocated here")
        outside = offsets[(offsets < 0) | (offsets >= len(array))]
        if outside.size:
            raise IndexError(f"{self.name}: {buffer}[{outside.flat[0]}] of {len(array)} elements")
        return array

    def touch(self, buffer: Buffer, offsets: Array, how: str) -> None:
        """Record an access so that enclosing loops can detect conflicting iterations.

        Scratch counts only in vector loops, because each thread owns its own and runs its iterations of a parallel loop in
        order.
        """
        for loop in self.loops:
            if loop.vector or buffer.space == "argument":
                for offset in offsets.flat:
                    if not loop.touch(self.memory[buffer], int(offset), how):
                        raise Conflict(f"{self.name}: iteration {loop.current} and another meet at {buffer}[{offset}]")

    def check(self, good: Array, code: int, details: list[Array]) -> None:
        """Record a failure if `good` is false in any lane whose guards are true."""
        bad = np.asarray(~good & self.on)
        if bad.any():
            lane = tuple(np.argwhere(bad)[0])
            self.shared.record(code, tuple(int(np.broadcast_to(d, bad.shape)[lane]) for d in details))

    # ---- expressions ------------------------------------------------------------------------------------------------------

    def value(self, e: Expr) -> Array:
        """Evaluate an expression, its functions by their expansion."""
        plain = self.shared.expanded.get(e)
        if plain is None:
            plain = self.shared.expanded[e] = expand(e)
        return semantics.evaluate(plain, self.leaf)

    def leaf(self, e: Expr) -> Array:
        """Evaluate an Index, Load or Reduce."""
        if isinstance(e, Index):
            return np.asarray(self.integer(e.dim), np.int64)
        return self.load(e) if isinstance(e, Load) else self.reduction(e)

    def load(self, e: Load) -> Array:
        """Load an element in all lanes; zero where the guard is false."""
        guard = np.asarray(True if e.guard is None else self.value(e.guard))
        with self.only(guard):
            offsets, on = np.broadcast_arrays(self.integer(e.offset), self.on)
        array = self.within(e.buffer, offsets[on])
        self.touch(e.buffer, offsets[on], "read")
        out = np.zeros(offsets.shape, array.dtype)
        out[on] = array[offsets[on]]
        return out

    def reduction(self, e: Expr) -> Array:
        """Evaluate a reduction."""
        assert isinstance(e, Reduce)
        total = np.broadcast_to(semantics.neutral(e.fn, e.dtype), self.lanes)
        return self.reduce(e, 0, total)

    def reduce(self, e: Reduce, depth: int, total: Array) -> Array:
        """Combine `total` with the values of all loops from `depth` on."""
        if depth == len(e.loops):
            return semantics.apply(e.fn, total, self.value(e.body))
        symbol, _ = e.loops[depth]
        assert symbol.extent is not None
        extent = self.number(symbol.extent)
        innermost = depth == len(e.loops) - 1 and not bounds_depend_in(e.body, symbol)
        for start in range(0, extent, CHUNK if innermost else 1):
            if not innermost:
                with self.bound(symbol, start):
                    total = self.reduce(e, depth + 1, total)
                continue
            with self.at_once(symbol, start, min(start + CHUNK, extent)):
                values = np.broadcast_to(self.value(e.body), self.lanes)
            for v in values:
                total = semantics.apply(e.fn, total, v)
        return total

    def number(self, dim: Dim) -> int:
        """Evaluate a Dim that must be equal in all lanes."""
        found = np.unique(self.integer(dim))
        if len(found) != 1:
            raise ValueError(f"{self.name}: {dim} differs between iterations of a vector loop")
        return int(found[0])

    def integer(self, dim: Dim) -> Integer:
        """Evaluate a Dim in all lanes."""
        total: Integer = 0
        for monomial, factor in terms(dim).items():
            term: Integer = factor
            for atom in monomial:
                term = term * self.atom(atom)
            total = total + term
        return total

    def atom(self, a: Atom) -> Integer:
        """Evaluate one atom of a Dim. Raises NameError for an unbound symbol, ZeroDivisionError for a divisor that is not
        positive."""
        if isinstance(a, Symbol):
            if a not in self.symbols:
                raise NameError(f"{self.name}: nothing binds {a}")
            return self.symbols[a]
        if isinstance(a, Element):
            return self.element(a)
        assert isinstance(a, Derived)
        left, right = np.asarray(self.integer(a.left)), np.asarray(self.integer(a.right))
        if a.op in ("//", "%"):
            if ((right <= 0) & self.on).any():
                raise ZeroDivisionError(f"{self.name}: {a}")
            right = np.maximum(right, 1)
        return np.asarray(INTEGERS[a.op](left, right), np.int64)

    def element(self, a: Element) -> Integer:
        """Evaluate an index from data: counted from the end if negative, checked, and clamped to the nearest valid element."""
        assert a.extent is not None
        index, bound = self.value(a.expr).astype(np.int64), np.asarray(self.integer(a.extent))
        if a.code == nodes.TRUSTED:
            if (((index < 0) | (index >= bound)) & self.on).any():
                raise IndexError(f"{self.name}: a trusted index {index} is not below {bound}")
            return np.asarray(index)
        self.check(np.asarray((index >= -bound) & (index < bound)), a.code, [index, bound])
        return np.asarray(np.clip(np.where(index < 0, index + bound, index), 0, np.maximum(bound - 1, 0)))


def multiply_add(x: Array, y: Array, total: Array) -> Array:
    """Compute x * y + total; floats are rounded once."""
    if total.dtype.kind == "f":
        return semantics.apply("fma", *np.broadcast_arrays(x, y, total))
    return np.asarray(total + x * y)


INTEGERS = {
    "//": np.floor_divide,
    "%": np.remainder,
    "min": np.minimum,
    "max": np.maximum,
    "==": np.equal,
}


def bounds_depend(s: Stmt, symbol: Symbol) -> bool:
    """Tell whether the bounds of a loop or reduction inside a vector loop's body depend on the loop's variable."""
    if isinstance(s, Seq):
        return any(bounds_depend(part, symbol) for part in s.body)
    if isinstance(s, For):
        return symbol in symbols(s.lo) | symbols(s.hi) or bounds_depend(s.body, symbol)
    if isinstance(s, Store):
        return bounds_depend_in(s.value, symbol)
    raise TypeError(f"a {type(s).__name__} in a vector loop")


def bounds_depend_in(e: Expr, symbol: Symbol) -> bool:
    """Tell whether the extent of a reduction in the expression depends on the symbol."""
    extents = [s.extent for r in nodes.walk(e) if isinstance(r, Reduce) for s, _ in r.loops]
    return any(x is not None and symbol in symbols(x) for x in extents)
