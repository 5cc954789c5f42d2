"""Random kernels for hypothesis: nests of loops of all kinds over whole numbers, so that any order of a reduction is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from sardonyx.base.dtypes import DType, boolean, f32, i32, i64, u8
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
    Cast,
    Const,
    Element,
    Expr,
    For,
    If,
    Index,
    Kernel,
    Kind,
    Load,
    Op,
    Reduce,
    Select,
    Seq,
    Stmt,
    Store,
)

ROOM = 1 << 14  # elements of every argument
MOST = 20  # of a size
M, N = Symbol("m"), Symbol("n")
EXTENTS: tuple[Dim, ...] = (value(M), value(N), 3, 16, (value(N) + 2) // 3)
INPUTS = {d: Buffer(f"in_{d}", d, readonly=True) for d in (i32, f32, u8, i64, boolean)}
ARITHMETIC = ("add", "sub", "mul", "min", "max")
INTEGER = (*ARITHMETIC, "and", "xor", "div", "rem", "mod")


@dataclass(slots=True)
class Maker:
    """Draws the parts of one kernel. loops: the variables in scope; outputs: buffers stored to so far."""

    draw: st.DrawFn
    loops: list[Symbol]
    outputs: list[Buffer]
    count: int = 0

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flip(self, one_in: int = 2) -> bool:
        return self.number(1, one_in) == 1

    def symbol(self) -> Symbol:
        self.count += 1
        return Symbol(f"v{self.count}", self.choose(EXTENTS))

    # ---- integers ----

    def dim(self, loops: list[Symbol]) -> Dim:
        """A place in [0, ROOM): mostly linear in the loops, sometimes through a quotient, a remainder or an index from data."""
        out: Dim = self.number(0, 9)
        for s in loops:
            v = value(s)
            out = out + self.choose([v, v, v * 2, v * value(N), v // 3, v % 5, (s.extent - 1 - v) * 3, 0, v * v % 11])
        if self.flip(6):
            out = out + value(Element(Load(INPUTS[i64], self.place(loops)), 23, code=1))
        return out

    def place(self, loops: list[Symbol]) -> Dim:
        out: Dim = 0
        for s in loops:
            out = out + value(s) * self.number(0, 2)
        return out

    # ---- expressions ----

    def expr(self, dtype: DType, depth: int, loops: list[Symbol]) -> Expr:
        if dtype is boolean:
            return self.condition(depth, loops)
        if depth == 0 or self.flip(4):
            return self.leaf(dtype, loops)
        kind = self.number(0, 9)
        if kind < 5:
            fn = self.choose(ARITHMETIC if dtype is f32 else INTEGER)
            return Op(fn, self.expr(dtype, depth - 1, loops), self.expr(dtype, depth - 1, loops))
        if kind < 7:
            return Select(*(self.expr(d, depth - 1, loops) for d in (boolean, dtype, dtype)))
        if kind == 7:
            return self.small(self.expr(self.choose([i32, u8, i64]), depth - 1, loops), dtype)
        return self.reduction(dtype, depth - 1, loops)

    def small(self, x: Expr, dtype: DType) -> Expr:
        """Any whole number as one below 8."""
        return Cast(Op("and", x, Const(7, x.dtype)), dtype)

    def leaf(self, dtype: DType, loops: list[Symbol]) -> Expr:
        if self.flip(5):
            return Const(self.number(0, 5), dtype)
        if dtype is i64 and self.flip():
            return Index(self.dim(loops))
        guard = self.condition(0, loops) if self.flip(4) else None
        return Load(INPUTS[dtype], self.dim(loops), guard)

    def condition(self, depth: int, loops: list[Symbol]) -> Expr:
        if self.flip(4):
            return Load(INPUTS[boolean], self.dim(loops))
        dtype = self.choose([i32, f32, u8])
        below = max(0, depth - 1)
        return Op(self.choose(["lt", "ge", "ne"]), self.expr(dtype, below, loops), self.expr(dtype, below, loops))

    def reduction(self, dtype: DType, depth: int, loops: list[Symbol]) -> Expr:
        symbols = [self.symbol() for _ in range(self.number(1, 2))]
        kinds: list[tuple[Symbol, Kind]] = []
        for s in symbols:
            unrolled = isinstance(s.extent, int) and s.extent == 3 and self.flip()
            kinds.append((s, "unrolled" if unrolled else self.choose(["serial", "vector"])))
        fn = self.choose(["add", "min", "max"])
        body = self.expr(dtype, depth, [*loops, *symbols])
        if fn == "add" and dtype is f32:
            body = self.small(self.expr(i32, depth, [*loops, *symbols]), f32)
        return Reduce(fn, tuple(kinds), body)

    # ---- statements ----

    def store(self, extra: tuple[Buffer, Dim] | None = None) -> Stmt:
        dtype = self.choose([i32, f32, u8, i64, boolean])
        out = Buffer(f"out{len(self.outputs)}", dtype)
        self.outputs.append(out)
        v = self.expr(dtype, 2, self.loops)
        if extra is not None and dtype is extra[0].dtype:
            v = Op("max", v, Load(*extra))
        guard = self.condition(1, self.loops) if self.flip(4) else None
        if dtype in (i32, i64) and self.flip(3):
            kept = [s for s in self.loops if self.flip()]
            return Store(out, self.dense(kept), v, self.choose(["add", "max", "min", "xor"]), guard)
        return Store(out, self.dense(self.loops), v, guard=guard)

    def dense(self, loops: list[Symbol]) -> Dim:
        """A place of its own for each turn of these loops."""
        out: Dim = 0
        backwards, stride = self.flip(4), self.choose([1, 1, 1, 2])
        for s in loops:
            out = out * s.extent + (s.extent - 1 - value(s) if backwards else value(s))
        return out * stride + self.number(0, 1)

    def nest(self, depth: int) -> Stmt:
        """Loops around stores, vector loops innermost but for serial ones inside them."""
        if depth == 0 or sum(1 for _ in self.loops) >= 3:
            return Seq(tuple(self.store() for _ in range(self.number(1, 2))))
        s = self.symbol()
        fits = isinstance(s.extent, int) and s.extent == 3
        kind = self.choose(["serial", "vector", "vector", *(["unrolled"] if fits else [])])
        if not self.loops and self.flip():
            kind = "parallel"
        self.loops.append(s)
        if kind == "vector":
            body: Stmt = Seq(tuple(self.store() for _ in range(self.number(1, 3))))
            if self.flip(3):
                body = Seq((body, self.inner_loop()))
        else:
            body = self.choose([self.nest, self.branch, self.row])(depth - 1)
        self.loops.pop()
        return For(s, 0, s.extent, kind, body)  # type: ignore[arg-type]

    def inner_loop(self) -> Stmt:
        s = self.symbol()
        self.loops.append(s)
        body = self.store()
        self.loops.pop()
        return For(s, 0, s.extent, "serial", body)  # type: ignore[arg-type]

    def branch(self, depth: int) -> Stmt:
        return If(self.condition(1, self.loops), self.nest(depth), self.store() if self.flip() else None)

    def row(self, depth: int) -> Stmt:
        """A row computed into scratch, then read backwards by another loop."""
        dtype = self.choose([i32, f32])
        self.count += 1
        row = Buffer(f"row{self.count}", dtype, "scratch" if self.flip() else "local")
        extent: Dim = value(N) if row.space == "scratch" else 19
        fill, use = (Symbol(f"{row.name}.{k}", extent) for k in "ab")
        write = For(fill, 0, extent, "vector", Store(row, value(fill), self.expr(dtype, 2, [*self.loops, fill])))
        self.loops.append(use)
        read = For(use, 0, extent, "vector", self.store((row, extent - 1 - value(use))))
        self.loops.pop()
        return Alloc(row, extent, Seq((write, read)))


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """A kernel over the INPUTS and outputs out0, out1, ..., of ROOM elements each."""
    maker = Maker(draw, [], [])
    body = Seq(tuple(maker.nest(3) for _ in range(maker.number(1, 2))))
    return Kernel("random_kernel", (*INPUTS.values(), *maker.outputs), (M, N), body)
