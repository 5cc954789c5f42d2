"""Loops as C, for people who read C: `c_text(kernel, buffers, name)`. What is printed compiles, and computes what the kernel does.

    for parallel, vector, serial, unrolled    for, with the kind as a comment
    alloc                                     a local array
    tile                                      three loops, whose sums stay in registers; its rows and columns are constants or sizes
    reduce                                    a loop before the statement that uses it

Kernels with checked indices have no form here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from sardonyx.base.symbolic import Atom, Defined, Derived, Dim, Symbol, value
from sardonyx.loop import nodes
from sardonyx.loop.nodes import Buffer, Const, Expr, Index, Kernel, Load, Op, Reduce, Select, Stmt
from sardonyx.loop.printer import Printer, extent_of

TYPES = {"f32": "float", "f64": "double", "i64": "long", "i32": "int", "bool": "_Bool", "u8": "unsigned char", "i8": "signed char"}
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
PLAIN = {"exp": "expf", "sqrt": "sqrtf", "abs": "fabsf", "tanh": "tanhf", "erf": "erff", "log": "logf"}
NEUTRAL = {"add": "0", "mul": "1", "max": "-INFINITY", "min": "INFINITY"}
HELPERS = """\
#include <math.h>
static inline float maximum(float a, float b) { return a != a || a > b ? a : b; }  /* NaN stays */
static inline float minimum(float a, float b) { return a != a || a < b ? a : b; }
static inline long most(long a, long b) { return a > b ? a : b; }
static inline long least(long a, long b) { return a < b ? a : b; }
"""
"""What must stand before the text for it to compile."""


def c_text(kernel: Kernel, buffers: Mapping[str, str], name: str) -> str:
    """The kernel as a C function. buffers: {a buffer's name in the kernel: its name in C}. Sizes that stand for a formula are named n0,
    n1, ..., and comments say what they are. Raises TypeError for what has no form here."""
    printer = CPrinter(buffers)
    formulas = [s for s in kernel.sizes if isinstance(s, Defined)]
    for s in kernel.sizes:
        printer.symbols[s] = f"n{formulas.index(s)}" if s in formulas else s.name
    for s in formulas:
        printer.line(f"// {printer.symbols[s]} is {printer.dim(s.definition)}")
    arguments = [printer.argument(b) for b in kernel.buffers] + [f"long {printer.symbols[s]}" for s in kernel.sizes]
    with printer.indented(f"void {name}({', '.join(arguments)}) {{"):
        printer.statement(kernel.body)
    return "\n".join(printer.lines) + "\n"


class CPrinter(Printer):
    """The printer of loops with C's spelling."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = names

    def variable(self, symbol: Symbol) -> str:
        super().variable(symbol)
        self.symbols[symbol] = f"i{self.variables - 1}"
        return self.symbols[symbol]

    def argument(self, b: Buffer) -> str:
        self.buffers[b] = self.names.get(b.name, b.name)
        return f"{'const ' * b.readonly}{TYPES[b.dtype.name]} *{self.buffers[b]}"

    @contextmanager
    def indented(self, head: str) -> Iterator[None]:
        with super().indented(head):
            yield
        self.line("}")

    def scoped(self, s: Stmt) -> None:
        match s:
            case nodes.Store():
                target = f"{self.buffers[s.buffer]}[{self.dim(s.offset)}]"
                stored = self.expr(s.value)
                if s.combine is not None:
                    stored = self.operation(s.combine, [target, stored], integers=False)
                guard = "" if s.guard is None else f"if ({self.expr(s.guard)}) "
                self.line(f"{guard}{target} = {stored};")
            case nodes.For():
                lo, hi = self.dim(s.lo), self.dim(s.hi)
                i = self.variable(s.variable)
                kind = "" if s.kind == "serial" else f"  // {s.kind}"
                with self.indented(f"for (long {i} = {lo}; {i} < {hi}; {i}++) {{{kind}"):
                    self.statement(s.body)
            case nodes.Alloc():
                self.buffers[s.buffer] = self.names.get(s.buffer.name, s.buffer.name)
                self.line(f"{TYPES[s.buffer.dtype.name]} {self.buffers[s.buffer]}[{self.dim(s.size)}];  // {s.buffer.space}")
                self.statement(s.body)
            case nodes.Tile():
                self.tile(s)
            case _:
                raise TypeError(f"no C for a {type(s).__name__}")

    def tile(self, t: nodes.Tile) -> None:
        a, b, c = (self.buffers[x] for x in (t.a, t.b, t.c))
        row, column = self.counter("r"), self.counter("c")
        loops = [(self.counter(f"k{i}" if len(t.steps) > 1 else "k"), step) for i, step in enumerate(t.steps)]
        a_at = t.a_offset + row * t.a_row + sum((k * step.a for k, step in loops), start=0)
        b_at = t.b_offset + column + sum((k * step.b for k, step in loops), start=0)
        c_at = t.c_offset + row * t.c_row + column
        self.line(f"// a tile of {t.width} columns and up to {max(t.heights)} rows: all its sums are in registers")
        rows = self.indented(f"for (long r = 0; r < {self.dim(t.rows)}; r++) {{")
        columns = self.indented(f"for (long c = 0; c < {t.width}; c++) {{")
        with rows, columns:
            self.line(f"{TYPES[t.c.dtype.name]} sum = 0;")
            for k, step in loops:
                self.line(f"for (long {self.dim(k)} = 0; {self.dim(k)} < {self.dim(step.extent)}; {self.dim(k)}++)")
            self.line(f"  sum += {a}[{self.dim(a_at)}] * {b}[{self.dim(b_at)}];")
            self.line(f"{c}[{self.dim(c_at)}] = sum;")

    def counter(self, name: str) -> Dim:
        """A loop variable of a tile."""
        symbol = Symbol(f"tile.{name}")
        self.symbols[symbol] = name
        return value(symbol)

    # ---- expressions ------------------------------------------------------------------------------------------------------

    def expr(self, e: Expr) -> str:
        if e in self.values:
            return self.values[e]
        if isinstance(e, Reduce):
            return self.reduced(e)
        words = self.node(e)
        if e not in self.shared:
            return words
        name = self.values[e] = f"v{self.named}"
        self.named += 1
        self.line(f"{TYPES[e.dtype.name]} {name} = {words};")
        return name

    def reduced(self, e: Reduce) -> str:
        """Loops that leave the reduction in a variable; its name."""
        name = self.values[e] = f"v{self.named}"
        self.named += 1
        self.line(f"{TYPES[e.dtype.name]} {name} = {NEUTRAL[e.fn]};")
        with self.scope([e.body], fresh=False), ExitStack() as loops:
            for symbol, kind in e.loops:
                extent, i = self.dim(extent_of(symbol)), self.variable(symbol)
                comment = "" if kind == "serial" else f"  // {kind}"
                loops.enter_context(self.indented(f"for (long {i} = 0; {i} < {extent}; {i}++) {{{comment}"))
            self.line(f"{name} = {self.operation(e.fn, [name, self.expr(e.body)], e.dtype.is_integer)};")
        return name

    def node(self, e: Expr) -> str:
        match e:
            case Const():
                return {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}.get(
                    str(e.value), f"{e.value}{'f' * (e.dtype.name == 'f32')}"
                )
            case Index():
                return f"({self.dim(e.dim)})"
            case Load():
                load = f"{self.buffers[e.buffer]}[{self.dim(e.offset)}]"
                return load if e.guard is None else f"({self.expr(e.guard)} ? {load} : 0)"
            case Select():
                condition, then, otherwise = map(self.expr, e.args)
                return f"({condition} ? {then} : {otherwise})"
            case nodes.Cast():
                return f"({TYPES[e.dtype.name]}){self.expr(e.args[0])}"
            case Op():
                return self.operation(e.fn, [self.expr(a) for a in e.args], e.args[0].dtype.is_integer)
        raise TypeError(f"no C for a {type(e).__name__}")

    def operation(self, fn: str, args: list[str], integers: bool) -> str:
        if fn in INFIX:
            return f"({args[0]} {INFIX[fn]} {args[1]})"
        if fn in ("max", "min"):
            words = {"max": ("maximum", "most"), "min": ("minimum", "least")}[fn][integers]
            return f"{words}({', '.join(args)})"
        if fn in ("and", "or", "not"):
            return f"({args[0]} {'&&' if fn == 'and' else '||'} {args[1]})" if fn != "not" else f"!{args[0]}"
        if fn == "neg":
            return f"-{args[0]}"
        if fn not in PLAIN:
            raise TypeError(f"no C for {fn}")
        return f"{PLAIN[fn]}({args[0]})"

    def atom(self, a: Atom) -> str:
        if isinstance(a, Derived) and a.op not in ("//", "%"):
            words = {"min": "least", "max": "most"}[a.op]
            return f"{words}({', '.join(sorted((self.dim(a.left), self.dim(a.right))))})"
        return super().atom(a).replace("//", "/")


__all__ = ["HELPERS", "c_text"]
