"""Where a value is computed: in the outermost scope in which all its operands are known.

No pass hoists code out of loops afterwards, so emission puts each value into the right scope at once. The regions around the
point of emission form a stack of scopes. Each has a block that stays open (without a terminator) until its region ends. When
an inner region needs a value of an outer one, the value is appended to the outer scope's open block and memoised there.

    scope 0    the kernel: its sizes, and addresses of its buffers
    scope 1        a region that runs if a loop has an iteration: the loop's invariant loads
    scope 2            the loop's body: its variable

Integers may be computed in any scope in advance. A value that reads memory, or checks an index, stays inside the innermost
`fenced` scope, which may not run at all, and inside every loop that stores to a buffer that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct, field

from sardonyx.base.dtypes import i64
from sardonyx.base.symbolic import Dim, Int, Symbol
from sardonyx.codegen.features import Target
from sardonyx.codegen.guards import Guarded
from sardonyx.codegen.llvm_types import Block, FunctionBuilder, Value
from sardonyx.codegen.loop_analysis import Place
from sardonyx.codegen.polling import Efforts
from sardonyx.loop.nodes import Buffer, Element, Expr, Kernel, Load, elements_of

CHECKS = Buffer("checks", i64)
"""Stands among the buffers that a value reads if the value checks an index."""


class Bound(Struct, frozen=True):
    """The value that a symbol is bound to: `value` + `shift`."""

    value: Value
    shift: int = 0


class Spine(Struct):
    """The last block of a region, which has no terminator yet; instructions of the region are appended there."""

    block: Block


class Scope(Struct):
    """A region under construction. stores: the buffers that it writes to, if it is a loop. bound: its symbols. memo: its values."""

    spine: Spine
    fenced: bool = False
    stores: frozenset[Buffer] = frozenset()
    bound: dict[Symbol, Bound] = field(default_factory=dict)
    hidden: dict[Symbol, int | None] = field(default_factory=dict)  # the levels at which its symbols were bound outside
    memo: dict[object, Value] = field(default_factory=dict)
    readers: dict[Buffer, list[object]] = field(default_factory=dict)


class Lanes(Struct, frozen=True):
    """The enclosing vector loop: its variable, its number of lanes, the level of its scope, and which lanes are active (None:
    all).
    """

    symbol: Symbol
    count: int
    level: int
    mask: Value | None = None


class Total(Struct, frozen=True):
    """A register in which a loop accumulates what belongs to a place: the whole total, a vector with one part per lane, or the
    tail's scalar.
    """

    place: Place
    part: Literal["all", "lanes", "tail"] = "all"


class Frame:
    """A kernel's function under construction: the stack of scopes, the addresses of buffers, and what has been computed."""

    def __init__(
        self, kernel: Kernel, function: Value, target: Target, element: Callable[[Frame, Element], Value], tiles_elsewhere: bool
    ) -> None:
        self.kernel = kernel
        self.target = target
        self.tiles_elsewhere = tiles_elsewhere
        self.builder = FunctionBuilder(function, target)
        self.entry = self.builder.block("entry")  # allocates what lives on the stack
        self.arguments, self.context, self.scratch, self.tid, self.team = function.args
        self.scopes: list[Scope] = []
        self.home: dict[Symbol, int] = {}
        self.vector: Lanes | None = None
        self.call: Value = None  # the call's id, an i64
        self.bases: dict[Buffer, Value] = {}
        self.element: Callable[[Frame, Element], Value] = element
        self.totals: dict[Total, Value] = {}  # the registers that accumulate at present
        self.scratch_used: Dim = 0  # bytes of scratch that the enclosing allocations take
        self.left: Block | None = None  # the block that leaves the kernel early
        self.efforts = Efforts()
        self._reads: dict[Expr, frozenset[Buffer]] = {}
        self._dim_reads: dict[Dim, frozenset[Buffer]] = {}

    # ---- the stack ----

    def push(self, scope: Scope) -> None:
        """Enter a new innermost scope."""
        self._leave()
        self.scopes.append(scope)
        self._enter()

    def pop(self) -> Block:
        """Leave the innermost scope. -> the block in which it ended, which the caller has to terminate"""
        self._leave()
        scope = self.scopes.pop()
        for symbol, level in scope.hidden.items():
            if level is None:
                del self.home[symbol]
            else:
                self.home[symbol] = level
        self._enter()
        return scope.spine.block

    def bind(self, symbol: Symbol, bound: Bound) -> None:
        """Bind a symbol in the innermost scope."""
        self.scopes[-1].hidden.setdefault(symbol, self.home.get(symbol))
        self.scopes[-1].bound[symbol] = bound
        self.home[symbol] = len(self.scopes) - 1

    def _leave(self) -> None:
        if self.scopes:
            self.scopes[-1].spine.block = self.builder.b.block

    def _enter(self) -> None:
        self.builder.b.position_at_end(self.scopes[-1].spine.block)

    @contextmanager
    def at(self, level: int) -> Iterator[Scope]:
        """Emit into the scope at `level` while the context lasts."""
        if level == len(self.scopes) - 1:
            yield self.scopes[-1]
            return
        inner, vector = self.scopes[level + 1 :], self.vector
        self._leave()
        del self.scopes[level + 1 :]
        if vector is not None and level < vector.level:
            self.vector = None
        self._enter()
        yield self.scopes[-1]
        self._leave()
        self.scopes.extend(inner)
        self.vector = vector
        self._enter()

    # ---- placement ----

    def level(self, symbols: Iterable[Symbol], reads: frozenset[Buffer]) -> int:
        """Return the level of the outermost scope in which a value of these symbols and buffers may be computed."""
        deepest = max(map(self.home.__getitem__, symbols), default=0)
        if reads:
            for at in range(len(self.scopes) - 1, deepest, -1):
                scope = self.scopes[at]
                if scope.fenced or not reads.isdisjoint(scope.stores):
                    return at
        return deepest

    def reads(self, expr: Expr) -> frozenset[Buffer]:
        """Return the buffers that expr reads, and CHECKS if it checks an index."""
        found = self._reads.get(expr)
        if found is None:
            found = frozenset[Buffer]().union(*map(self.reads, expr.args), *map(self.reads, elements_of(expr)))
            if isinstance(expr, Load):
                found |= {expr.buffer} | self.dim_reads(expr.offset)
            elif any(True for _ in elements_of(expr)):
                found |= {CHECKS}
            self._reads[expr] = found
        return found

    def dim_reads(self, dim: Dim) -> frozenset[Buffer]:
        """Return the buffers that the Elements of an integer read, and CHECKS if there are Elements."""
        if not isinstance(dim, Int):
            return frozenset()
        found = self._dim_reads.get(dim)
        if found is None:
            found = frozenset()
            for element in elements_in(dim):
                found |= self.reads(element.expr) | {CHECKS}
                if isinstance(element, Guarded):
                    found |= self.reads(element.guard)
            self._dim_reads[dim] = found
        return found

    # ---- memory ----

    def place(self, buffer: Buffer, address: Value) -> None:
        """Set the address of a buffer, whose contents are now undefined."""
        self.bases[buffer] = address
        self.forget([buffer])
        for scope in self.scopes:
            for key in [k for k in scope.memo if isinstance(k, tuple) and k[0] is buffer]:
                del scope.memo[key]

    def known(self, key: object, level: int) -> Value | None:
        """Return the value that the scope at `level`, or one around it, has memoised for a key; else None."""
        for at in range(level, -1, -1):
            found = self.scopes[at].memo.get(key)
            if found is not None:
                return found
        return None

    def remember(self, level: int, key: object, value: Value, reads: frozenset[Buffer]) -> None:
        """Memoise a value in the scope at `level`. reads: the buffers that it depends on."""
        scope = self.scopes[level]
        scope.memo[key] = value
        for buffer in reads:
            scope.readers.setdefault(buffer, []).append(key)

    def forget(self, buffers: Iterable[Buffer]) -> None:
        """Drop the memoised values that depend on these buffers, because the buffers are written to."""
        for scope in self.scopes:
            for buffer in buffers:
                for key in scope.readers.pop(buffer, ()):
                    scope.memo.pop(key, None)


def elements_in(dim: Int) -> Iterator[Element]:
    """Yield the Elements in an integer, including those inside quotients and the like."""
    return (a for a in dim.atoms if isinstance(a, Element))
