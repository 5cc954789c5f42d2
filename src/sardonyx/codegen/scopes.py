"""Where a value is computed: in the outermost region of the kernel in which everything it needs is known.

No pass moves code out of loops afterwards, so emission puts it there at once. The regions around the point of emission form a stack
of scopes. Each has a block that stays open (without a terminator) until the region ends: what an inner region needs of an outer one
is appended there, before the inner one begins, and is remembered in the outer scope for whatever follows.

    scope 0    the kernel: its sizes, and addresses of its buffers
    scope 1        a region that runs if the loop has a turn: the loop's invariant loads
    scope 2            the loop's body: its variable

Integers may be computed in advance anywhere. A value that reads memory, or checks an index, stays inside the innermost `fenced`
scope (which may not run at all), and inside every loop that stores to what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from sardonyx.base.dtypes import i64
from sardonyx.base.symbolic import Dim, Int, Symbol
from sardonyx.codegen.features import Target
from sardonyx.codegen.guards import Guarded
from sardonyx.codegen.llvm_types import Block, FunctionBuilder, Value
from sardonyx.codegen.loop_analysis import Place
from sardonyx.codegen.polling import Efforts
from sardonyx.loop.nodes import Buffer, Element, Expr, Kernel, Load, elements_of

CHECKS = Buffer("checks", i64)  # stands among the buffers that a value reads if it checks an index


@dataclass(frozen=True, slots=True)
class Bound:
    """A symbol's value: `value` + `shift`."""

    value: Value
    shift: int = 0


@dataclass(slots=True)
class Spine:
    """Where a region's straight line of blocks has come to: the open block."""

    block: Block


@dataclass(slots=True)
class Scope:
    """A region under construction. stores: buffers that it writes to while it runs again and again."""

    spine: Spine
    fenced: bool = False
    stores: frozenset[Buffer] = frozenset()
    bound: dict[Symbol, Bound] = field(default_factory=dict)
    hidden: dict[Symbol, int | None] = field(default_factory=dict)  # where its symbols were bound before
    memo: dict[object, Value] = field(default_factory=dict)
    readers: dict[Buffer, list[object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lanes:
    """A vector loop around the point of emission: its variable, how many turns run at once, which of them count (None: all)."""

    symbol: Symbol
    count: int
    level: int
    mask: Value | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """A register in which a loop accumulates what belongs to a place: all of it, a part per lane, or what single turns add."""

    place: Place
    part: Literal["all", "lanes", "tail"] = "all"


class Frame:
    """A kernel's function under construction."""

    def __init__(
        self, kernel: Kernel, function: Value, target: Target, element: Callable[[Frame, Element], Value], tiles_elsewhere: bool
    ) -> None:
        self.kernel = kernel
        self.target = target
        self.tiles_elsewhere = tiles_elsewhere
        self.builder = FunctionBuilder(function, target)
        self.entry = self.builder.block("entry")  # holds what lives on the stack
        self.arguments, self.context, self.scratch, self.tid, self.team = function.args
        self.scopes: list[Scope] = []
        self.home: dict[Symbol, int] = {}
        self.vector: Lanes | None = None
        self.call: Value = None  # the call's id, an i64
        self.bases: dict[Buffer, Value] = {}
        self.element: Callable[[Frame, Element], Value] = element
        self.totals: dict[Total, Value] = {}  # what registers have accumulated so far
        self.scratch_used: Dim = 0  # bytes of scratch that the allocations around take
        self.left: Block | None = None  # where the kernel ends early
        self.efforts = Efforts()
        self._reads: dict[Expr, frozenset[Buffer]] = {}
        self._dim_reads: dict[Dim, frozenset[Buffer]] = {}

    # ---- the stack ----

    def push(self, scope: Scope) -> None:
        """Go on in a new innermost scope."""
        self._leave()
        self.scopes.append(scope)
        self._enter()

    def pop(self) -> Block:
        """Leave the innermost scope and go on in the one around it. -> the block it ended in, for the caller to terminate."""
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
        """Give a symbol its value in the innermost scope."""
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
        """Emit in an outer scope."""
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
        """The outermost scope in which a value of these symbols and buffers may be computed."""
        deepest = max(map(self.home.__getitem__, symbols), default=0)
        if reads:
            for at in range(len(self.scopes) - 1, deepest, -1):
                scope = self.scopes[at]
                if scope.fenced or not reads.isdisjoint(scope.stores):
                    return at
        return deepest

    def reads(self, expr: Expr) -> frozenset[Buffer]:
        """The buffers that expr reads, and CHECKS if it checks an index."""
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
        """The same for the Elements in an integer."""
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
        """From now on a buffer lies here, with undefined contents."""
        self.bases[buffer] = address
        self.forget([buffer])
        for scope in self.scopes:
            for key in [k for k in scope.memo if isinstance(k, tuple) and k[0] is buffer]:
                del scope.memo[key]

    def known(self, key: object, level: int) -> Value | None:
        """The value remembered for a key in the scope at `level` or one around it."""
        for at in range(level, -1, -1):
            found = self.scopes[at].memo.get(key)
            if found is not None:
                return found
        return None

    def remember(self, level: int, key: object, value: Value, reads: frozenset[Buffer]) -> None:
        scope = self.scopes[level]
        scope.memo[key] = value
        for buffer in reads:
            scope.readers.setdefault(buffer, []).append(key)

    def forget(self, buffers: Iterable[Buffer]) -> None:
        """These buffers are written to: what was read of them is to be read again."""
        for scope in self.scopes:
            for buffer in buffers:
                for key in scope.readers.pop(buffer, ()):
                    scope.memo.pop(key, None)


def elements_in(dim: Int) -> Iterator[Element]:
    """The Elements in an integer, also those inside quotients and the like."""
    return (a for a in dim.atoms if isinstance(a, Element))
