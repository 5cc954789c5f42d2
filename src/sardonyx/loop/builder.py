"""Builds kernels by hand.

    b = KernelBuilder("running maximum")
    n = b.size("n")
    x, y = b.input("x", f32), b.output("y", f32)
    best = b.local(f32, -INFINITY)
    with b.loop("i", n) as i:
        with b.if_(x[i] > best.value):
            best.set(x[i])
        y[i] = best.value
    kernel = b.build()

Values are expressions, evaluated by the statement that contains them: they load what memory holds at that time. `let`
evaluates a value at once. Offsets are integer expressions of sizes and loop variables (`Dim`). An index from data becomes one
by `checked` (compiled code checks it, see nodes.Element) or `trusted` (the kernel ensures that it is valid).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.loop import nodes
from sardonyx.loop.nodes import Alloc, Buffer, Element, For, If, Index, Kernel, Kind, Load, Stmt, Store, While
from sardonyx.loop.values import Operand, Value, constant
from sardonyx.loop.verifier import verify

ANY = 1 << 62  # the bound of a trusted index into a buffer of unknown size


class Array(Struct, frozen=True):
    """A buffer: `a[offset]` is an element, `a[offset] = x` adds a store. size: its number of elements, if known."""

    builder: KernelBuilder
    buffer: Buffer
    size: Dim | None = None

    def __getitem__(self, offset: Dim) -> Value:
        return Value(Load(self.buffer, offset))

    def __setitem__(self, offset: Dim, x: Operand) -> None:
        self.store(offset, x)

    def load(self, offset: Dim, guard: Value) -> Value:
        """Load an element; where the guard is false the value is zero and memory is not accessed."""
        return Value(Load(self.buffer, offset, guard.expr))

    def store(self, offset: Dim, x: Operand, guard: Value | None = None, combine: str | None = None) -> None:
        """Add a store: element = x, or combine(element, x), where the guard is true."""
        guarded = None if guard is None else guard.expr
        self.builder.add(Store(self.buffer, offset, as_value(x, self.buffer.dtype).expr, combine, guarded))

    def at(self, index: Value) -> Dim:
        """Use an index that the kernel ensures to be valid as an offset."""
        return trusted(index, ANY if self.size is None else self.size)

    def checked(self, index: Value, bound: Dim, code: int) -> Dim:
        """Use an index from data, in [-bound, bound), as an offset. Otherwise the run fails with `code`, the value and the
        bound."""
        return checked(index, bound, code)


class Local(Struct, frozen=True):
    """A variable of the kernel."""

    array: Array

    @property
    def value(self) -> Value:
        """The variable's value when the statement runs."""
        return self.array[0]

    def set(self, x: Operand) -> None:
        self.array[0] = x

    def add(self, x: Operand) -> None:
        self.array.store(0, x, combine="add")


def trusted(index: Value, bound: Dim) -> Dim:
    """Use a value in [0, bound) as an integer expression, without a check."""
    return checked(index, bound, nodes.TRUSTED)


def checked(index: Value, bound: Dim, code: int) -> Dim:
    """Use a value in [-bound, bound) as an integer expression, counted from the end if negative."""
    return value(Element(index.expr, bound, code))


def as_index(dim: Dim) -> Value:
    """Use an integer expression as an i64 value."""
    return Value(Index(dim))


def as_value(x: Operand, dtype: DType) -> Value:
    """Return x as a Value; a Python number becomes a constant of this dtype."""
    return x if isinstance(x, Value) else constant(x, dtype)


class KernelBuilder:
    """Appends statements in the order of the calls. Names serve readers only and need not be unique."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffers: list[Buffer] = []
        self.lengths: list[Dim | None] = []
        self.sizes: list[Symbol] = []
        self.blocks: list[list[Stmt | Allocation]] = [[]]
        self.made = 0

    # ---- arguments and memory ---------------------------------------------------------------------------------------------

    def size(self, name: str) -> Dim:
        """Add a size argument."""
        self.sizes.append(Symbol(name))
        return value(self.sizes[-1])

    def input(self, name: str, dtype: DType, size: Dim | None = None) -> Array:
        """Add a buffer argument that nothing writes."""
        return self._argument(Buffer(name, dtype, readonly=True), size)

    def output(self, name: str, dtype: DType, size: Dim | None = None) -> Array:
        """Add a buffer argument that the kernel writes, and may read."""
        return self._argument(Buffer(name, dtype), size)

    def _argument(self, buffer: Buffer, size: Dim | None) -> Array:
        self.buffers.append(buffer)
        self.lengths.append(size)
        return Array(self, buffer, size)

    def scratch(self, name: str, dtype: DType, size: Dim) -> Array:
        """Allocate memory of the thread's own, with undefined contents, until the end of this block."""
        space: nodes.Space = "local" if isinstance(size, int) else "scratch"
        buffer = Buffer(self._unique(name), dtype, space)
        self.blocks[-1].append(Allocation(buffer, size))
        return Array(self, buffer, size)

    def local(self, dtype: DType, initial: Operand) -> Local:
        """Add a variable with this initial value, until the end of this block."""
        made = Local(self.scratch("local", dtype, 1))
        made.set(initial)
        return made

    def let(self, x: Value) -> Value:
        """Evaluate x now; later stores don't change it."""
        return self.local(x.dtype, x).value

    def _unique(self, name: str) -> str:
        self.made += 1
        return f"{name}.{self.made}"

    # ---- statements -------------------------------------------------------------------------------------------------------

    def add(self, s: Stmt) -> None:
        """Append a statement."""
        self.blocks[-1].append(s)

    def check(self, condition: Value, code: int, *details: Value) -> None:
        """Fail the run with `code` where the condition is false; the kernel continues."""
        self.add(nodes.Check(condition.expr, code, tuple(d.expr for d in details)))

    @contextmanager
    def loop(self, name: str, hi: Dim, lo: Dim = 0, kind: Kind = "serial") -> Iterator[Dim]:
        """Loop over the integers in [lo, hi); yields the loop variable."""
        variable = Symbol(self._unique(name), hi)
        with self._block() as body:
            yield value(variable)
        self.add(For(variable, lo, hi, kind, closed(body)))

    @contextmanager
    def while_(self, condition: Value) -> Iterator[None]:
        """Repeat the block while the condition, evaluated before each iteration, is true."""
        with self._block() as body:
            yield
        self.add(While(condition.expr, closed(body)))

    @contextmanager
    def if_(self, condition: Value) -> Iterator[None]:
        """Run the block if the condition is true."""
        with self._block() as body:
            yield
        self.add(If(condition.expr, closed(body)))

    @contextmanager
    def else_(self) -> Iterator[None]:
        """Run the block otherwise; must directly follow `if_`."""
        before = self.blocks[-1].pop() if self.blocks[-1] else None
        if not isinstance(before, If) or before.otherwise is not None:
            raise ValueError(f"{self.name}: else_ without an if_ before it")
        with self._block() as body:
            yield
        self.add(If(before.condition, before.then, closed(body)))

    def reduce(self, fn: str, hi: Dim, body: Callable[[Dim], Value], kind: Kind = "serial") -> Value:
        """Combine body(r) for all r in [0, hi) by fn."""
        variable = Symbol(self._unique("r"), hi)
        return Value(nodes.Reduce(fn, ((variable, kind),), body(value(variable)).expr))

    @contextmanager
    def _block(self) -> Iterator[list[Stmt | Allocation]]:
        self.blocks.append([])
        yield self.blocks[-1]
        self.blocks.pop()

    def build(self) -> Kernel:
        """Return the kernel, verified. Raises ValueError inside a block."""
        if len(self.blocks) != 1:
            raise ValueError(f"{self.name}: built inside a block")
        kernel = Kernel(self.name, tuple(self.buffers), tuple(self.sizes), closed(self.blocks[0]), lengths=tuple(self.lengths))
        verify(kernel)
        return kernel


class Allocation(Struct, frozen=True):
    """Marks the point in a block from which a buffer exists."""

    buffer: Buffer
    size: Dim


def closed(block: list[Stmt | Allocation]) -> Stmt:
    """Return a block as one statement, in which each allocation contains the statements after it."""
    rest: list[Stmt] = []  # the statements after s, in reverse order
    for s in reversed(block):
        if isinstance(s, Allocation):
            rest = [Alloc(s.buffer, s.size, nodes.sequence(reversed(rest)))]
        else:
            rest.append(s)
    return nodes.sequence(reversed(rest))
