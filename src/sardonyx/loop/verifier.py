"""Verify the rules of the loop IR. Call `verify(kernel)` after anything that makes or changes kernels.

1. Every symbol is a size or the variable of an enclosing loop; no loop binds a symbol that is already bound. The argument buffers
   have different names, and so have the sizes.
2. Every buffer is an argument or allocated around its use; nothing stores to a readonly buffer; a local buffer has a constant
   size.
3. Operations have dtypes that `nodes` allows; guards and conditions are bool; stored values have the buffer's dtype.
4. A vector loop contains Store, Seq and serial or unrolled For; a store in it moves with the variable or combines.
5. A parallel loop contains no other parallel loop; an unrolled loop has constant bounds.
6. A Tile sums floats in f32 or f64 and integers of at most 16 bits in i32; if its number of rows is constant, it is one of its heights.
"""

from __future__ import annotations

from collections.abc import Iterable

from sardonyx.base.dtypes import DType, boolean, f32, f64, i32
from sardonyx.base.symbolic import Dim, Symbol, symbols
from sardonyx.loop import nodes
from sardonyx.loop.nodes import COMPARISONS, FUNCTIONS, REDUCTIONS, Buffer, Expr, Kernel, Load, Op, Reduce, Stmt

LOGIC = frozenset(("and", "or", "xor", "not"))
BITS = LOGIC | {"shl", "shr"}
FLOATS = FUNCTIONS | {"sqrt", "rint", "floor", "ceil", "trunc", "copysign", "fma"}


class InvalidKernel(ValueError):
    """A kernel violates a rule. The message names the kernel, the node and the reason."""


def verify(kernel: Kernel) -> None:
    """Raise InvalidKernel for the first rule that the kernel violates."""
    for what, names in (("buffers", [b.name for b in kernel.buffers]), ("sizes", [s.name for s in kernel.sizes])):
        if len(set(names)) < len(names):
            raise InvalidKernel(f"{kernel.name}: two {what} of one name among {', '.join(names)}")
    Verifier(kernel).statement(kernel.body)


def allows(fn: str, dtype: DType) -> bool:
    """Tell whether operation fn exists for this dtype."""
    if dtype in (f32, f64):
        return fn not in BITS
    if dtype is boolean:
        return fn in LOGIC | COMPARISONS | {"min", "max"}
    return dtype.is_integer and dtype.bits >= 8 and fn not in FLOATS


class Verifier:
    """Walks a kernel, keeping track of the symbols and buffers in scope and of enclosing vector and parallel loops."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.symbols: set[Symbol] = set(kernel.sizes)
        self.buffers: set[Buffer] = set(kernel.buffers)
        self.vector: Symbol | None = None
        self.parallel = False

    def require(self, fine: bool, node: object, reason: str) -> None:
        """Raise InvalidKernel for the node unless `fine`."""
        if not fine:
            raise InvalidKernel(f"{self.kernel.name}: {describe(node)}: {reason}")

    # ---- statements -------------------------------------------------------------------------------------------------------

    def statement(self, s: Stmt) -> None:
        inside = isinstance(s, nodes.Store | nodes.Seq | nodes.For)
        self.require(self.vector is None or inside, s, f"in the vector loop over {self.vector}")
        match s:
            case nodes.Store():
                self.store(s)
            case nodes.For():
                self.loop(s)
            case nodes.While():
                self.condition(s.condition, s)
                self.statement(s.body)
            case nodes.If():
                self.condition(s.condition, s)
                self.statement(s.then)
                if s.otherwise is not None:
                    self.statement(s.otherwise)
            case nodes.Seq():
                for part in s.body:
                    self.statement(part)
            case nodes.Alloc():
                self.alloc(s)
            case nodes.Check():
                self.condition(s.condition, s)
                self.require(
                    len(s.details) <= 3 and all(d.dtype.is_integer for d in s.details), s, "details are three integers at most"
                )
                self.expressions(s.details, s)
            case nodes.Tile():
                self.tile(s)
            case _:
                self.require(False, s, "no statement")

    def store(self, s: nodes.Store) -> None:
        self.target(s.buffer, s)
        self.require(s.value.dtype is s.buffer.dtype, s, f"a value of {s.value.dtype} into {s.buffer.dtype}")
        if s.combine is not None:
            self.require(s.combine in REDUCTIONS and allows(s.combine, s.buffer.dtype), s, f"no {s.combine} of {s.buffer.dtype}")
        self.require(
            s.combine is not None or self.vector is None or self.vector in symbols(s.offset), s, f"{self.vector} doesn't move it"
        )
        self.dim(s.offset, s)
        self.expressions([s.value], s)
        if s.guard is not None:
            self.condition(s.guard, s)

    def loop(self, s: nodes.For) -> None:
        self.dim(s.lo, s)
        self.dim(s.hi, s)
        if s.kind == "unrolled":
            self.require(isinstance(s.lo, int) and isinstance(s.hi, int), s, "an unrolled loop without constant bounds")
        if s.kind == "parallel":
            self.require(not self.parallel, s, "inside another parallel loop")
        self.require(self.vector is None or s.kind in ("serial", "unrolled"), s, f"in the vector loop over {self.vector}")
        extent = s.variable.extent
        if isinstance(extent, int) and isinstance(s.hi, int):
            self.require(s.hi <= extent, s, f"runs to {s.hi}, its variable is below {extent}")
        outer = self.vector, self.parallel
        self.vector = s.variable if s.kind == "vector" else self.vector
        self.parallel = self.parallel or s.kind == "parallel"
        bound = {s.variable, nodes.first(s.variable)} if s.kind == "parallel" else {s.variable}
        self.bind(bound, s)
        self.statement(s.body)
        self.symbols -= bound
        self.vector, self.parallel = outer

    def bind(self, new: set[Symbol], node: object) -> None:
        """Add symbols to the scope; they must be new to it."""
        taken = self.symbols & new
        self.require(not taken, node, f"{', '.join(sorted(s.name for s in taken))} is bound already")
        self.symbols |= new

    def alloc(self, s: nodes.Alloc) -> None:
        self.dim(s.size, s)
        self.require(s.buffer not in self.buffers and s.buffer.space != "argument", s, f"{s.buffer} is no new memory")
        self.require(s.buffer.space == "scratch" or isinstance(s.size, int), s, "a local buffer without a constant size")
        self.buffers.add(s.buffer)
        self.statement(s.body)
        self.buffers.remove(s.buffer)

    def tile(self, t: nodes.Tile) -> None:
        for buffer in (t.a, t.b):
            self.require(buffer in self.buffers, t, f"{buffer} is not in scope")
        self.target(t.c, t)
        floats = t.c.dtype in (f32, f64) and t.a.dtype.is_float and t.b.dtype.is_float
        integers = t.c.dtype is i32 and all(b.dtype.is_integer and b.dtype.bits <= 16 for b in (t.a, t.b))
        self.require(floats or integers, t, f"{t.c.dtype} sums of {t.a.dtype} by {t.b.dtype}")
        self.require(t.group > 0, t, f"groups of {t.group}")
        self.require(t.width > 0 and bool(t.heights) and min(t.heights) > 0, t, "an empty tile")
        self.require(not isinstance(t.rows, int) or t.rows in t.heights, t, f"{t.rows} rows are none of {t.heights}")
        for d in (t.rows, t.a_offset, t.a_row, t.b_offset, t.c_offset, t.c_row, 0 if t.ahead is None else t.ahead):
            self.dim(d, t)
        for step in t.steps:
            for d in (step.extent, step.a, step.b):
                self.dim(d, t)

    def target(self, buffer: Buffer, node: object) -> None:
        """Check that a buffer may be stored to."""
        self.require(buffer in self.buffers, node, f"{buffer} is not in scope")
        self.require(not buffer.readonly, node, f"{buffer} is readonly")

    # ---- expressions ------------------------------------------------------------------------------------------------------

    def condition(self, e: Expr, node: object) -> None:
        self.require(e.dtype is boolean, node, f"a condition of {e.dtype}")
        self.expressions([e], node)

    def dim(self, d: Dim, node: object) -> None:
        stray = symbols(d) - self.symbols
        self.require(not stray, node, f"nothing binds {', '.join(sorted(s.name for s in stray))}")
        elements = list(nodes.dim_elements(d))
        self.require(all(e.dtype.is_integer for e in elements), node, "an index that is no integer")
        self.expressions(elements, node)

    def expressions(self, roots: Iterable[Expr], node: object) -> None:
        """Check each node under the roots once; the body of a reduction with its variables in scope."""
        pending, seen = list(roots), set[Expr]()
        while pending:
            e = pending.pop()
            if e in seen:
                continue
            seen.add(e)
            if isinstance(e, Op):
                self.require(allows(e.fn, e.args[0].dtype), e, f"no such operation, in {describe(node)}")
            elif isinstance(e, Load):
                self.require(e.buffer in self.buffers, e, f"{e.buffer} is not in scope, in {describe(node)}")
                self.require(e.guard is None or e.guard.dtype is boolean, e, f"a guard that is no bool, in {describe(node)}")
            for d in e.dims:
                self.dim(d, node)
            if isinstance(e, Reduce):
                self.reduction(e)
            else:
                pending.extend(e.args)

    def reduction(self, e: Reduce) -> None:
        self.require(allows(e.fn, e.dtype), e, f"no {e.fn} of {e.dtype}")
        bound: set[Symbol] = set()
        for symbol, kind in e.loops:
            self.require(kind != "parallel", e, "a parallel loop in an expression")
            self.require(symbol.extent is not None, e, f"{symbol} has no extent")
            self.dim(0 if symbol.extent is None else symbol.extent, e)
            self.bind({symbol}, e)
            bound.add(symbol)
        self.expressions([e.body], e)
        self.symbols -= bound


def describe(node: object) -> str:
    """Describe a node in a few words for messages."""
    match node:
        case nodes.Store():
            return f"store to {node.buffer}[{node.offset}]"
        case nodes.For():
            return f"{node.kind} loop over {node.variable}"
        case nodes.Alloc():
            return f"allocation of {node.buffer}"
        case nodes.Tile():
            return f"tile into {node.c}"
        case Load():
            return f"load of {node.buffer}[{node.offset}]"
        case Op():
            return f"{node.fn} of {', '.join(str(a.dtype) for a in node.args)}"
        case Reduce():
            return f"{node.fn} over {', '.join(s.name for s, _ in node.loops)}"
    return type(node).__name__.lower()
