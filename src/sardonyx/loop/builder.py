"""A pleasant way to write a kernel by hand.

    b = KernelBuilder("running maximum")
    n = b.size("n")
    x, y = b.input("x", f32), b.output("y", f32)
    best = b.local(f32, -INFINITY)
    with b.loop("i", n) as i:
        with b.if_(x[i] > best.value):
            best.set(x[i])
        y[i] = best.value
    kernel = b.build()

Values are expressions: they are evaluated by the statement in which they stand, and load what memory holds then. `let` evaluates one
now and keeps it. Offsets are integer expressions of sizes and loop variables (`Dim`); an index that comes from data becomes one by
`checked` (compiled code checks it, see nodes.Element) or `trusted` (the kernel's own logic keeps it inside).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.loop import nodes
from sardonyx.loop.nodes import Alloc, Buffer, Element, For, If, Index, Kernel, Kind, Load, Stmt, Store, While
from sardonyx.loop.values import Operand, Value, constant
from sardonyx.loop.verifier import verify

ANY = 1 << 62  # the bound of a trusted index into a buffer of unknown size


@dataclass(frozen=True, slots=True)
class Array:
    """A buffer to read and write: `a[offset]` is an element, `a[offset] = x` a statement. size: its elements, if known."""

    builder: KernelBuilder
    buffer: Buffer
    size: Dim | None = None

    def __getitem__(self, offset: Dim) -> Value:
        return Value(Load(self.buffer, offset))

    def __setitem__(self, offset: Dim, x: Operand) -> None:
        self.store(offset, x)

    def load(self, offset: Dim, guard: Value) -> Value:
        """An element; where the guard is false zero, and memory is not touched."""
        return Value(Load(self.buffer, offset, guard.expr))

    def store(self, offset: Dim, x: Operand, guard: Value | None = None, combine: str | None = None) -> None:
        """element = x, or combine(element, x), where the guard is true."""
        guarded = None if guard is None else guard.expr
        self.builder.add(Store(self.buffer, offset, as_value(x, self.buffer.dtype).expr, combine, guarded))

    def at(self, index: Value) -> Dim:
        """An index that the kernel's own logic keeps inside, as an offset."""
        return trusted(index, ANY if self.size is None else self.size)

    def checked(self, index: Value, bound: Dim, code: int) -> Dim:
        """An index from data, in [-bound, bound): as an offset. Otherwise the run fails with `code`, the value and the bound."""
        return checked(index, bound, code)


@dataclass(frozen=True, slots=True)
class Local:
    """A variable of the kernel."""

    array: Array

    @property
    def value(self) -> Value:
        """What it holds when the statement runs."""
        return self.array[0]

    def set(self, x: Operand) -> None:
        self.array[0] = x

    def add(self, x: Operand) -> None:
        self.array.store(0, x, combine="add")


def trusted(index: Value, bound: Dim) -> Dim:
    """A value in [0, bound) as an integer expression, unchecked."""
    return checked(index, bound, nodes.TRUSTED)


def checked(index: Value, bound: Dim, code: int) -> Dim:
    """A value in [-bound, bound) as an integer expression, counted from the end if negative."""
    return value(Element(index.expr, bound, code))


def as_index(dim: Dim) -> Value:
    """An integer expression as an i64."""
    return Value(Index(dim))


def as_value(x: Operand, dtype: DType) -> Value:
    return x if isinstance(x, Value) else constant(x, dtype)


class KernelBuilder:
    """Takes statements in the order in which they are written. Names are for the reader; they need not differ."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffers: list[Buffer] = []
        self.lengths: list[Dim | None] = []
        self.sizes: list[Symbol] = []
        self.blocks: list[list[Stmt | Allocation]] = [[]]
        self.made = 0

    # ---- arguments and memory ---------------------------------------------------------------------------------------------

    def size(self, name: str) -> Dim:
        """A size argument."""
        self.sizes.append(Symbol(name))
        return value(self.sizes[-1])

    def input(self, name: str, dtype: DType, size: Dim | None = None) -> Array:
        """A buffer argument that nobody writes."""
        return self._argument(Buffer(name, dtype, readonly=True), size)

    def output(self, name: str, dtype: DType, size: Dim | None = None) -> Array:
        """A buffer argument that the kernel writes, and may read."""
        return self._argument(Buffer(name, dtype), size)

    def _argument(self, buffer: Buffer, size: Dim | None) -> Array:
        self.buffers.append(buffer)
        self.lengths.append(size)
        return Array(self, buffer, size)

    def scratch(self, name: str, dtype: DType, size: Dim) -> Array:
        """Memory of the thread's own, undefined, to the end of this block."""
        space: nodes.Space = "local" if isinstance(size, int) else "scratch"
        buffer = Buffer(self._unique(name), dtype, space)
        self.blocks[-1].append(Allocation(buffer, size))
        return Array(self, buffer, size)

    def local(self, dtype: DType, initial: Operand) -> Local:
        """A variable, to the end of this block."""
        made = Local(self.scratch("local", dtype, 1))
        made.set(initial)
        return made

    def let(self, x: Value) -> Value:
        """x as it is now, whatever is stored later."""
        return self.local(x.dtype, x).value

    def _unique(self, name: str) -> str:
        self.made += 1
        return f"{name}.{self.made}"

    # ---- statements -------------------------------------------------------------------------------------------------------

    def add(self, s: Stmt) -> None:
        """Append a statement."""
        self.blocks[-1].append(s)

    def check(self, condition: Value, code: int, *details: Value) -> None:
        """The run fails with `code` where the condition is false; the kernel goes on."""
        self.add(nodes.Check(condition.expr, code, tuple(d.expr for d in details)))

    @contextmanager
    def loop(self, name: str, hi: Dim, lo: Dim = 0, kind: Kind = "serial") -> Iterator[Dim]:
        """For each integer in [lo, hi)."""
        variable = Symbol(self._unique(name), hi)
        with self._block() as body:
            yield value(variable)
        self.add(For(variable, lo, hi, kind, closed(body)))

    @contextmanager
    def while_(self, condition: Value) -> Iterator[None]:
        """The condition is evaluated before each turn."""
        with self._block() as body:
            yield
        self.add(While(condition.expr, closed(body)))

    @contextmanager
    def if_(self, condition: Value) -> Iterator[None]:
        with self._block() as body:
            yield
        self.add(If(condition.expr, closed(body)))

    @contextmanager
    def else_(self) -> Iterator[None]:
        """What to do otherwise, right after `if_`."""
        before = self.blocks[-1].pop() if self.blocks[-1] else None
        if not isinstance(before, If) or before.otherwise is not None:
            raise ValueError(f"{self.name}: else_ without an if_ before it")
        with self._block() as body:
            yield
        self.add(If(before.condition, before.then, closed(body)))

    def reduce(self, fn: str, hi: Dim, body: Callable[[Dim], Value], kind: Kind = "serial") -> Value:
        """fn over body(r) for all r in [0, hi)."""
        variable = Symbol(self._unique("r"), hi)
        return Value(nodes.Reduce(fn, ((variable, kind),), body(value(variable)).expr))

    @contextmanager
    def _block(self) -> Iterator[list[Stmt | Allocation]]:
        self.blocks.append([])
        yield self.blocks[-1]
        self.blocks.pop()

    def build(self) -> Kernel:
        """The kernel, verified."""
        if len(self.blocks) != 1:
            raise ValueError(f"{self.name}: built inside a block")
        kernel = Kernel(self.name, tuple(self.buffers), tuple(self.sizes), closed(self.blocks[0]), lengths=tuple(self.lengths))
        verify(kernel)
        return kernel


@dataclass(frozen=True, slots=True)
class Allocation:
    """The point in a block from which a buffer exists."""

    buffer: Buffer
    size: Dim


def closed(block: list[Stmt | Allocation]) -> Stmt:
    """The statements of a block; each allocation holds those that follow it."""
    rest: list[Stmt] = []  # what follows, the last statement first
    for s in reversed(block):
        if isinstance(s, Allocation):
            rest = [Alloc(s.buffer, s.size, nodes.sequence(reversed(rest)))]
        else:
            rest.append(s)
    return nodes.sequence(reversed(rest))
