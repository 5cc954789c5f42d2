"""The contraction tile: a function that keeps rows x vectors of sums in registers, one function per number of rows.

Different kernels call equal tiles, so tiles are compiled in modules of their own, once per program.

tile(a, b, c, ahead, the sizes that are not constant ...):
    sums = 0
    for the outer loops of k:
        for k < extent, 2 at a time, then one at a time:
            per k: load `vectors` vectors of b
                   for each row: broadcast a[row, k]; sums[row] += a * b
            prefetch the next lines at ahead
    store sums to c

The rounding error grows with the number of products that are added up in one register. So sums of floats are blocked: where k
may be longer than BLOCK, one of its loops runs in blocks, each with sums of its own, which are added to c:

    c = 0
    for the loops of k outside the blocks:
        for each block of the next loop:
            sums = 0
            for k in the block: as above
            c += sums
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from msgspec import Struct

from sardonyx.base.cache_line import LINE
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim
from sardonyx.codegen.features import Target
from sardonyx.codegen.fragments import Plain, fragment
from sardonyx.codegen.llvm_types import I8, I32, PTR, VOID, FunctionBuilder, Value, constant_of, int_type, memory_type
from sardonyx.codegen.loop_analysis import all_statements, unrolled
from sardonyx.codegen.scopes import Frame
from sardonyx.loop.blocks import BLOCK, find_blocks
from sardonyx.loop.nodes import Kernel, Tile

UNROLL = 2
"""Iterations of k in the unrolled loop."""
MOST_STRIDED = 8
"""The most rows for which k is unrolled if the row stride is a variable: with more rows LLVM spills sums to memory."""
INDEPENDENT = 8
"""Independent sums that hide the latency of a multiply-add: 4 cycles, 2 per cycle."""
SPARE = 3
"""Registers that two iterations of k need beyond sums and B."""
LEVEL = 2
"""Locality of the prefetch: the next panel goes into L2, because the current one occupies L1."""

Sums = list[Value]
Body = Callable[[Value, Sums], Sums]  # (k, sums) -> sums: one iteration of a loop


class Shape(Struct, frozen=True):
    """A tile function: its dtypes, size and constants.

    sizes: a_row, c_row, then extent, a and b of each loop of k; None stands for an argument. c_row is always an argument: it
    is only used to store sums, so that products which differ only in the width of C share a function. lines: cache lines
    prefetched per two iterations of k. a_rows: offsets of A's rows, if they aren't at a stride.
    """

    fragment: Plain
    rows: int
    vectors: int
    sizes: tuple[int | None, ...]
    lines: int
    a_rows: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        group = f"by{self.fragment.group}" if self.fragment.group > 1 else ""
        kind = f"{self.fragment.a}{self.fragment.b}{self.fragment.c}{group}"
        sizes = "_".join("n" if s is None else str(s) for s in self.sizes)
        rows = "".join(f".{offset}" for offset in self.a_rows)
        return f"tile.{kind}.{self.rows}x{self.vectors}.{sizes}{rows}{f'.ahead{self.lines}' if self.lines else ''}"


def dims(tile: Tile) -> list[tuple[Dim, int | None]]:
    """Return the sizes of a tile in the order of Shape.sizes, as pairs (the size, its entry in Shape.sizes)."""
    constant = [tile.a_row, *(d for s in tile.steps for d in (s.extent, s.a, s.b))]
    first, *rest = [(d, d if isinstance(d, int) else None) for d in constant]
    return [first, (tile.c_row, None), *rest]


def dynamic_sizes(tile: Tile) -> list[Dim]:
    """Return the sizes of a tile that are arguments of its function."""
    return [d for d, known in dims(tile) if known is None]


def shapes(tile: Tile, target: Target) -> list[Shape]:
    """Return a tile's shapes, one per number of rows. Raises Unsupported for what the target can't compute."""
    way = fragment(tile.a.dtype, tile.b.dtype, tile.c.dtype, target, tile.group)
    lanes = way.lanes(target)
    if tile.width % lanes:
        raise Unsupported(f"the {tile.width} columns of a tile are no multiple of the {lanes} lanes of a vector")
    heights = (tile.rows,) if isinstance(tile.rows, int) else tile.heights
    sizes = tuple(known for _, known in dims(tile))
    lines = 0 if tile.ahead is None else tile.lines
    return [Shape(way, height, tile.width // lanes, sizes, lines, tile.a_rows[:height]) for height in heights]


def call(f: Frame, tile: Tile, a: Value, b: Value, c: Value, ahead: Value | None, rows: Value, dynamic: Sequence[Value]) -> None:
    """Emit a switch over `rows` that calls the function for that number of rows."""
    w, offered = f.builder, shapes(tile, f.target)
    args = [a, b, c, *([] if ahead is None else [ahead]), *dynamic]

    def function(shape: Shape) -> Value:
        return declare(w.module, f.target, shape) if f.tiles_elsewhere else define(w.module, f.target, shape, "internal")

    if len(offered) == 1:
        w.b.call(function(offered[0]), args)
        return
    after = w.block("after")
    choice = w.b.switch(rows, after)
    for shape in offered:
        block = w.block(f"rows{shape.rows}")
        choice.add_case(w.number(shape.rows), block)
        w.b.position_at_end(block)
        w.b.call(function(shape), args)
        w.b.branch(after)
    w.b.position_at_end(after)


def declare(module: ir.Module, target: Target, shape: Shape) -> Value:
    """Declare the function of a shape in the module."""
    found = module.globals.get(shape.name)
    if found is None:
        sizes = [int_type(target.index_bits)] * sum(s is None for s in shape.sizes)
        pointers = [PTR] * (4 if shape.lines else 3)
        found = ir.Function(module, ir.FunctionType(VOID, [*pointers, *sizes]), shape.name)
        found.attributes.add("nounwind")
    return found


def define(module: ir.Module, target: Target, shape: Shape, linkage: str) -> Value:
    """Define the function of a shape in the module, once."""
    function = declare(module, target, shape)
    if function.is_declaration:
        function.linkage = linkage
        _Body(FunctionBuilder(function, target), shape).emit()
    return function


def tile_functions(kernel: Kernel, target: Target) -> list[list[Shape]]:
    """Return the tile functions that a kernel needs, a list for each of its tiles. Raises Unsupported for what the target can't
    compute.
    """
    return [shapes(s, target) for s in all_statements(unrolled(kernel.body)) if isinstance(s, Tile)]


def library(found: Sequence[Shape], target: Target) -> ir.Module:
    """Return a module that defines these functions. Their linkage is weak, because several modules may define the same function."""
    module = ir.Module("tiles")
    module.triple = target.triple
    for shape in found:
        define(module, target, shape, "weak_odr")
    return module


class _Body:
    """Emits the body of a tile's function."""

    def __init__(self, w: FunctionBuilder, shape: Shape) -> None:
        self.w, self.shape, self.way = w, shape, shape.fragment
        a, b, c, *rest = w.function.args
        self.a, self.b, self.c = a, b, c
        self.ahead = rest.pop(0) if shape.lines else None
        arguments = iter(rest)
        sizes = [w.number(s) if s is not None else next(arguments) for s in shape.sizes]
        self.a_row, self.c_row, *flat = sizes
        self.steps = [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]
        self.a_type, self.b_type, self.c_type = (memory_type(d) for d in (self.way.a, self.way.b, self.way.c))
        self.lanes = self.way.lanes(w.target)
        tall = shape.rows * shape.vectors
        full = tall + shape.vectors + SPARE > w.target.vector_registers  # LLVM would start the second iteration early, and spill
        self.unroll = 1 if full or (shape.sizes[0] is None and shape.rows > MOST_STRIDED) else UNROLL
        self.chains = 1 if self.unroll == 1 else min(4, 1 << (-(-INDEPENDENT // tall) - 1).bit_length())
        self.unroll = max(self.unroll, self.chains)
        self.fetched = -(-shape.lines * self.unroll // 2)  # cache lines per iteration
        self.block = find_blocks(shape.sizes[2::3], BLOCK * self.chains, self.unroll) if self.way.c.is_float else None

    def emit(self) -> None:
        w, shape = self.w, self.shape
        w.b.position_at_end(w.block("entry"))
        self.offsets = [w.number(o) for o in shape.a_rows] or [w.mul(self.a_row, w.number(i)) for i in range(shape.rows)]
        if self.block is None:
            self._store(self._sum_chains(self._steps(0, self.a, self.b, self.ahead, self._zeros(self.chains))), self._totals())
        else:
            self._store(self._zeros(1), self._totals())
            self._steps(0, self.a, self.b, self.ahead, [])
        w.b.ret_void()

    def _zeros(self, chains: int) -> Sums:
        """Return the sums of `chains` chains before any product."""
        return [self.w.zero(self.way.sums(self.w.target))] * (self.shape.rows * self.shape.vectors * chains)

    def _totals(self) -> list[Value]:
        """Return the addresses of the sums in c, vector by vector."""
        w, shape = self.w, self.shape
        rows = [w.at(self.c, w.mul(self.c_row, w.number(i)), self.c_type) for i in range(shape.rows)]
        return [w.at(row, j * self.lanes, self.c_type) for row in rows for j in range(shape.vectors)]

    def _store(self, sums: Sums, addresses: Sequence[Value]) -> None:
        for address, total in zip(addresses, sums, strict=True):
            self.w.b.store(total, address, align=self.way.c.itemsize)

    def _loaded(self, addresses: Sequence[Value]) -> Sums:
        t = self.way.sums(self.w.target)
        return [self.w.b.load(address, typ=t, align=self.way.c.itemsize) for address in addresses]

    def _sum_chains(self, sums: Sums) -> Sums:
        """Add up the sums of all chains, in pairs."""
        while len(sums) > self.shape.rows * self.shape.vectors:
            half = len(sums) // 2
            sums = [self._add(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        return sums

    def _add(self, x: Value, y: Value) -> Value:
        return self.w.b.fadd(x, y) if self.way.c.is_float else self.w.b.add(x, y)

    def _steps(self, depth: int, a: Value, b: Value, ahead: Value | None, sums: Sums) -> Sums:
        """Emit the loops of k from `depth` on. a, b, ahead: the addresses at their start. Loops outside the blocks carry no
        sums.
        """
        w = self.w
        if depth == len(self.steps):
            return self._products(self._rows(a), b, sums, 1, w.number(0), w.number(0))
        extent = self.steps[depth][0]
        if self.block is None or depth != self.block.depth:
            return self._step(depth, extent, a, b, ahead, sums)
        trips, even = self.block.iterations, self.block.even

        def block(first: Value, _: Sums) -> Sums:
            whole, left = w.number(trips), w.b.sub(extent, first)
            count = whole if even else w.b.select(w.b.icmp_signed("<", left, whole), left, whole)
            start = self._advanced(depth, first, a, b, ahead)
            sums = self._sum_chains(self._step(depth, count, *start, self._zeros(self.chains)))
            addresses = self._totals()
            self._store([self._add(x, y) for x, y in zip(self._loaded(addresses), sums, strict=True)], addresses)
            return []

        return self._loop(w.number(0), extent, trips, [], block)

    def _advanced(self, depth: int, k: Value, a: Value, b: Value, ahead: Value | None) -> tuple[Value, Value, Value | None]:
        """Return the addresses a, b and ahead after k iterations of the loop at `depth`."""
        w = self.w
        _, a_step, b_step = self.steps[depth]
        trips = k
        for extent, _, _ in self.steps[depth + 1 :]:
            trips = w.mul(trips, extent)
        return w.at(a, w.mul(k, a_step), self.a_type), w.at(b, w.mul(k, b_step), self.b_type), self._prefetch_address(ahead, trips)

    def _rows(self, a: Value) -> list[Value]:
        """Return the address of each row of A."""
        return [self.w.at(a, o, self.a_type) for o in self.offsets]

    def _step(self, depth: int, extent: Value, a: Value, b: Value, ahead: Value | None, sums: Sums) -> Sums:
        """Emit `extent` iterations of the loop at `depth`, and the loops inside it."""
        w = self.w
        zero = w.number(0)

        def outer(k: Value, sums: Sums) -> Sums:
            return self._steps(depth + 1, *self._advanced(depth, k, a, b, ahead), sums)

        if depth < len(self.steps) - 1:
            return self._loop(zero, extent, 1, sums, outer)
        rows = self._rows(a)
        _, a_step, b_step = self.steps[depth]

        def inner(count: int, prefetch: bool) -> Body:
            def body(k: Value, sums: Sums) -> Sums:
                moved = [w.at(r, w.mul(k, a_step), self.a_type) for r in rows]
                if prefetch and (line := self._prefetch_address(ahead, k)) is not None:
                    for i in range(self.fetched):
                        self._prefetch(w.at(line, i * LINE, I8))
                at = w.at(b, w.mul(k, b_step), self.b_type)
                return self._products(moved, at, sums, count, a_step, b_step)

            return body

        if self.unroll == 1:
            return self._loop(zero, extent, 1, sums, inner(1, True))
        known = constant_of(extent)
        whole = w.b.and_(extent, w.number(-self.unroll)) if known is None else w.number(known & -self.unroll)
        sums = self._loop(zero, whole, self.unroll, sums, inner(self.unroll, True))
        return self._loop(whole, extent, 1, sums, inner(1, False))

    def _prefetch_address(self, ahead: Value | None, trips: Value) -> Value | None:
        """Return the address to prefetch after this many iterations of k."""
        w = self.w
        return None if ahead is None else w.at(ahead, w.mul(trips, w.number(self.fetched * LINE // self.unroll)), I8)

    def _products(self, rows: list[Value], b: Value, sums: Sums, count: int, a_step: Value, b_step: Value) -> Sums:
        """Emit `count` iterations of k: load each vector of B once, broadcast each element of A. Iteration u adds to the sums of
        chain u % chains.
        """
        w, vectors, out = self.w, self.shape.vectors, list(sums)
        each = len(rows) * vectors
        for u in range(count):
            line = w.at(b, w.mul(b_step, w.number(u)), self.b_type)
            bs = [self.way.load_b(w, w.at(line, j * self.lanes * self.way.group, self.b_type)) for j in range(vectors)]
            for i, row in enumerate(rows):
                a = self.way.load_a(w, w.at(row, w.mul(a_step, w.number(u)), self.a_type))
                for j in range(vectors):
                    at = u % self.chains * each + i * vectors + j
                    out[at] = self.way.multiply_add(w, a, bs[j], out[at])
        return out

    def _prefetch(self, address: Value) -> None:
        w = self.w
        w.intrinsic("llvm.prefetch.p0", VOID, address, w.const(I32, 0), w.const(I32, LEVEL), w.const(I32, 1))

    def _loop(self, start: Value, stop: Value, step: int, sums: Sums, body: Body) -> Sums:
        """Emit `for k in range(start, stop, step): sums = body(k, sums)`."""
        w, b = self.w, self.w.b
        first, last = constant_of(start), constant_of(stop)
        known = None if first is None or last is None else -(-(last - first) // step)
        if known is not None and known <= 1:
            return body(start, sums) if known == 1 else sums
        before, loop, after = b.block, w.block("body"), w.block("after")
        if known is None:
            b.cbranch(b.icmp_signed("<", start, stop), loop, after)
        else:
            b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(w.index)
        phis = [b.phi(s.type) for s in sums]
        out = body(k, list(phis))
        following = b.add(k, w.number(step))
        end = b.block
        for phi, initial, later in zip([k, *phis], [start, *sums], [following, *out], strict=True):
            phi.add_incoming(initial, before)
            phi.add_incoming(later, end)
        b.cbranch(b.icmp_signed("<", following, stop), loop, after)
        b.position_at_end(after)
        if known is not None:
            return out
        final = [b.phi(s.type) for s in sums]
        for phi, initial, later in zip(final, sums, out, strict=True):
            phi.add_incoming(initial, before)
            phi.add_incoming(later, end)
        return final
