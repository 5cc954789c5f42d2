"""Print kernels as text, for dumps and golden tests. A digest of the text names a kernel's compiled code.

The text is canonical: buffers, sizes, loop variables and shared values are named in order of appearance (b0, s0, i0, v0), and
sums are sorted by those names. Two kernels have equal texts exactly if they compute the same results by the same steps. Names
in the kernels, the process, and the order in which expressions were created don't influence the text.

    kernel(b0: f32 readonly, b1: f32; s0)
    for i0 in [0, s0) parallel:
      for i1 in [0, 64) vector:
        v0 = exp(b0[64*i0 + i1])                      a value that is used more than once
        b1[64*i0 + i1] = div(v0, add(v0, 1.0))
      v0 = reduce max over i1 in [0, 64) serial:      a reduction's own shared values stand inside it
        b1[64*i0 + i1]
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from sardonyx.base.dtypes import boolean, f32, i64
from sardonyx.base.symbolic import Atom, Derived, Dim, Int, Symbol, single, terms
from sardonyx.loop import nodes
from sardonyx.loop.nodes import Buffer, Const, Element, Expr, Index, Kernel, Load, Op, Reduce, Stmt, elements_of


def text(kernel: Kernel) -> str:
    """Return the canonical text of a kernel."""
    printer = Printer()
    sizes = ", ".join(printer.name(s) for s in kernel.sizes)
    buffers = ", ".join(printer.buffer(b) for b in kernel.buffers)
    printer.line(f"kernel({buffers}; {sizes})")
    printer.statement(kernel.body)
    return "\n".join(printer.lines) + "\n"


def key(kernel: Kernel) -> str:
    """Return the digest of the kernel's text, under which its code is stored."""
    return hashlib.sha256(text(kernel).encode()).hexdigest()


class Printer:
    """The lines so far, the names given, and the indentation.

    values       names of the values shared within the present scope (a statement, or a reduction's body), each printed once
    dims, ranks  memoised texts of integers without Elements, and of their atoms, valid while symbols keep their names
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0
        self.symbols: dict[Symbol, str] = {}
        self.buffers: dict[Buffer, str] = {}
        self.variables = self.named = 0
        self.values: dict[Expr, str] = {}
        self.shared: frozenset[Expr] = frozenset()
        self.ever: set[Symbol] = set()
        self.dims: dict[Int, str] = {}
        self.ranks: dict[Atom, str] = {}

    # ---- names ------------------------------------------------------------------------------------------------------------

    def name(self, size: Symbol) -> str:
        """Name a size."""
        self.symbols[size] = f"s{len(self.symbols)}"
        return self.symbols[size]

    def variable(self, symbol: Symbol) -> str:
        """Name a loop variable."""
        if symbol in self.ever:  # memoised texts contain its old name
            self.dims.clear()
            self.ranks.clear()
        self.ever.add(symbol)
        name = self.symbols[symbol] = f"i{self.variables}"
        self.symbols[nodes.first(symbol)] = f"{name}.first"
        self.variables += 1
        return name

    def buffer(self, b: Buffer) -> str:
        """Name a buffer and return its declaration."""
        self.buffers[b] = f"b{len(self.buffers)}"
        marks = [b.space] * (b.space != "argument") + ["readonly"] * b.readonly + ["aligned"] * b.aligned
        return " ".join([f"{self.buffers[b]}: {b.dtype}", *marks])

    # ---- layout -----------------------------------------------------------------------------------------------------------

    def line(self, words: str) -> None:
        """Append a line at the present indentation."""
        self.lines.append("  " * self.depth + words)

    @contextmanager
    def indented(self, head: str) -> Iterator[None]:
        """Append the line `head` and indent what follows."""
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    @contextmanager
    def scope(self, roots: Iterable[Expr], fresh: bool = True) -> Iterator[None]:
        """Open a scope for the values that these expressions share. If not `fresh` (in a reduction), values of the outer
        scope stay known."""
        outer = self.symbols, self.values, self.shared
        self.symbols = dict(self.symbols)
        self.values = {} if fresh else dict(self.values)
        self.named = 0 if fresh else self.named
        self.shared = used_again(roots, self.values)
        yield
        self.symbols, self.values, self.shared = outer

    # ---- statements -------------------------------------------------------------------------------------------------------

    def statement(self, s: Stmt) -> None:
        """Print a statement."""
        match s:
            case nodes.Seq():
                for part in s.body:
                    self.statement(part)
            case nodes.While():
                with self.indented("while:"):
                    with self.scope(roots_of(s)):
                        self.line(f"condition {self.expr(s.condition)}")
                    self.statement(s.body)
            case _:
                with self.scope(roots_of(s)):
                    self.scoped(s)

    def scoped(self, s: Stmt) -> None:
        """Print a statement whose scope is open; statements inside it open their own."""
        match s:
            case nodes.Store():
                guard = "" if s.guard is None else f" where {self.expr(s.guard)}"
                target = f"{self.buffers[s.buffer]}[{self.dim(s.offset)}]"
                how = "" if s.combine is None else f"{s.combine} "
                self.line(f"{target} = {how}{self.expr(s.value)}{guard}")
            case nodes.Check():
                details = "".join(f", {self.expr(d)}" for d in s.details)
                self.line(f"check {self.expr(s.condition)} else {s.code}{details}")
            case nodes.Tile():
                self.tile(s)
            case nodes.For():
                lo, hi = self.dim(s.lo), self.dim(s.hi)
                with self.indented(f"for {self.variable(s.variable)} in [{lo}, {hi}) {s.kind}:"):
                    self.statement(s.body)
            case nodes.Alloc():
                size = self.dim(s.size)
                with self.indented(f"alloc {self.buffer(s.buffer)} [{size}]:"):
                    self.statement(s.body)
            case nodes.If():
                with self.indented(f"if {self.expr(s.condition)}:"):
                    self.statement(s.then)
                if s.otherwise is not None:
                    with self.indented("else:"):
                        self.statement(s.otherwise)
            case _:
                raise TypeError(f"no text for a {type(s).__name__}")

    def tile(self, t: nodes.Tile) -> None:
        a, b, c = (self.buffers[x] for x in (t.a, t.b, t.c))
        steps = "".join(f", [{self.dim(s.extent)}] a {self.dim(s.a)} b {self.dim(s.b)}" for s in t.steps)
        ahead = "" if t.ahead is None else f" ahead {self.dim(t.ahead)} by {t.lines}"
        shape = (
            f"{self.dim(t.rows)} of {'|'.join(map(str, t.heights))} x {t.width}{f' in groups of {t.group}' if t.group > 1 else ''}"
        )
        self.line(
            f"tile {shape}: {c}[{self.dim(t.c_offset)}; row {self.dim(t.c_row)}] = "
            f"{a}[{self.dim(t.a_offset)}; row {list(t.a_rows) if t.a_rows else self.dim(t.a_row)}] * {b}[{self.dim(t.b_offset)}]{steps}{ahead}"
        )

    # ---- expressions ------------------------------------------------------------------------------------------------------

    def expr(self, e: Expr) -> str:
        """Return the text of an expression, or its name if it is shared. Lines that must come before it are printed."""
        if e in self.values:
            return self.values[e]
        words = self.node(e)
        if e not in self.shared and not isinstance(e, Reduce):
            return words
        name = self.values[e] = f"v{self.named}"
        self.named += 1
        if isinstance(e, Reduce):
            self.reduction(name, e)
        else:
            self.line(f"{name} = {words}")
        return name

    def node(self, e: Expr) -> str:
        """Return the text of one node with its arguments."""
        match e:
            case Const():
                return number(e)
            case Index():
                return f"index({self.dim(e.dim)})"
            case Load():
                guard = "" if e.guard is None else f" where {self.expr(e.guard)}"
                return f"{self.buffers[e.buffer]}[{self.dim(e.offset)}{guard}]"
            case Reduce():
                return ""
        word = e.fn if isinstance(e, Op) else type(e).__name__.lower()
        if word in ("cast", "bitcast"):
            word = f"{word}.{e.dtype}"
        return f"{word}({', '.join([self.expr(a) for a in e.args])})"

    def reduction(self, name: str, e: Reduce) -> None:
        """Print a reduction as a named block."""
        with self.scope([e.body], fresh=False):
            loops = []
            for symbol, kind in e.loops:
                extent = self.dim(extent_of(symbol))
                loops.append(f"{self.variable(symbol)} in [0, {extent}) {kind}")
            with self.indented(f"{name} = reduce {e.fn} over {', '.join(loops)}:"):
                self.line(self.expr(e.body))

    def dim(self, d: Dim) -> str:
        """Return the text of an integer expression: products in sorted order, the constant last."""
        if not isinstance(d, Int):
            return str(d)
        found = self.dims.get(d)
        if found is None:
            found = self.sum(d)
            if not any(isinstance(a, Element) for a in d.atoms):
                self.dims[d] = found
        return found

    def sum(self, d: Int) -> str:
        """Return the text of a polynomial."""
        words = []
        for monomial, factor in sorted(d.terms.items(), key=lambda term: sorted(map(self.rank, term[0]))):
            atoms = sorted(self.atom(a) for a in sorted(monomial, key=self.rank))
            words.append((not atoms, "*".join(([] if factor == 1 and atoms else [str(factor)]) + atoms)))
        return " + ".join(w for _, w in sorted(words))

    def rank(self, a: Atom) -> str:
        """Return a sort key for an atom. It excludes the names of shared values, because these depend on the order of
        printing."""
        if isinstance(a, Symbol):
            return self.atom(a)
        found = self.ranks.get(a)
        if found is not None:
            return found
        if isinstance(a, Element):
            parts = [f"{type(e).__name__}{e.dtype}{''.join(self.words(f) for f in e.fields)}" for e in nodes.walk(a.expr)]
            return hashlib.sha256("".join(parts).encode()).hexdigest()
        assert isinstance(a, Derived)
        inner = sorted(self.rank(i) for d in (a.left, a.right) for monomial in terms(d) for i in monomial)
        self.ranks[a] = found = a.op + "".join(inner)
        return found

    def words(self, part: object) -> str:
        """Return the part of `rank` that a field of a node contributes: its name or number, nothing for nested nodes."""
        if isinstance(part, Buffer):
            return self.buffers[part]
        if isinstance(part, Int):
            return "".join(sorted(self.symbols.get(s, "") for s in part.symbols))
        return part if isinstance(part, str) else ""

    def atom(self, a: Atom) -> str:
        """Return the text of an atom."""
        if isinstance(a, Symbol):
            return self.symbols.get(a, f"?{a.name}")
        if isinstance(a, Element):
            return f"[{self.expr(a.expr)} in {self.dim(extent_of(a))}: {a.code}]"
        if not isinstance(a, Derived):
            raise TypeError(f"no text for a {type(a).__name__}")
        left, right = self.dim(a.left), self.dim(a.right)
        if a.op not in ("//", "%"):
            return f"{a.op}({', '.join(sorted((left, right)))})"
        if len(terms(a.left)) > 1:
            left = f"({left})"
        if isinstance(a.right, Int) and single(a.right) is None:
            right = f"({right})"
        return f"({left} {a.op} {right})"


def extent_of(a: Atom) -> Dim:
    """Return the atom's extent. Raises TypeError if it has none."""
    if a.extent is None:
        raise TypeError(f"{a} has no extent")
    return a.extent


def number(e: Const) -> str:
    """Return the text of a number, with its dtype unless that is f32, i64 or bool."""
    if e.dtype is f32:
        return str(np.float32(e.value))
    return repr(e.value) if e.dtype in (i64, boolean) else f"{e.value!r}: {e.dtype}"


def roots_of(s: Stmt) -> list[Expr]:
    """List the expressions that a statement directly contains, those in its offsets and bounds included."""
    dims: tuple[Dim, ...] = ()
    exprs: tuple[Expr | None, ...] = ()
    match s:
        case nodes.Store():
            dims, exprs = (s.offset,), (s.guard, s.value)
        case nodes.Check():
            exprs = (*s.details, s.condition)
        case nodes.While() | nodes.If():
            exprs = (s.condition,)
        case nodes.For():
            dims = (s.lo, s.hi)
        case nodes.Alloc():
            dims = (s.size,)
        case nodes.Tile():
            moves = [d for step in s.steps for d in (step.extent, step.a, step.b)]
            dims = (s.rows, s.a_offset, s.a_row, s.b_offset, s.c_offset, s.c_row, *moves, 0 if s.ahead is None else s.ahead)
    return [*(e for d in dims for e in nodes.dim_elements(d)), *(e for e in exprs if e is not None)]


def used_again(roots: Iterable[Expr], known: Iterable[Expr]) -> frozenset[Expr]:
    """Return the values, except constants, that occur at least twice under the roots, outside the bodies of reductions."""
    uses: Counter[Expr] = Counter()
    seen = set(known)
    pending = list(roots)
    while pending:
        e = pending.pop()
        uses[e] += 1
        if e not in seen:
            seen.add(e)
            pending.extend([*elements_of(e), *(() if isinstance(e, Reduce) else e.args)])
    return frozenset(e for e, n in uses.items() if n > 1 and not isinstance(e, Const | Index))
