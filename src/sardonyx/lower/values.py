"""The mutable form of tensors during lowering: bodies change as values are inlined, and each value collects what is decided
about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from sardonyx.base.dtypes import f32, f64, i32
from sardonyx.base.symbolic import (
    MANY_TERMS,
    Derived,
    Dim,
    Int,
    Symbol,
    coefficient,
    collected,
    covering_loops,
    product,
    single,
    strides,
    substitute,
    symbols,
    value,
    weight,
)
from sardonyx.expr.dependence import closure, named
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import TRUSTED, Cast, Const, Element, Expr, Index, Op, Select, dim_elements, replace, walk


class Value:
    """A tensor and the decisions that lowering makes about it. The list of steps in lower.lowered says which step sets which field.

    place          VIEW, INLINE, TILE, ROW, ROOT, WHOLE (its parts are placed instead), INPUT, or None (not placed yet)
    strides        of its buffer, in elements; final once `has_layout`
    allocated      elements that the buffer takes, gaps included
    stored         a ROW that later nests read too: it lies in a buffer instead of scratch
    tile           the contraction whose sums this statement reads as its epilogue
    contracts      a sum of products whose right-hand side lies as a tile reads it (see lower.pack)
    is_next_state  the next state of a loop, written into the buffer that the next iteration reads (see lower.repetition)
    level          the first segment in which it can be computed (see lower.segment_levels)
    checked        the nodes whose indices the body checks, those of inlined values included
    guard          nothing is stored where it is false: a loop that was split may run past the end of its axis
    """

    __slots__ = (
        *("axes", "body", "constant", "contracts", "fn", "into", "has_layout", "loops", "nest"),
        *(
            "checked",
            "place",
            "region",
            "allocated",
            "shape",
            "stored",
            "strides",
            "tensor",
            "tile",
            "form",
            "is_next_state",
            "level",
            "guard",
            "covered",
        ),
    )

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape, self.axes, self.loops = tensor.shape, tensor.axes, tensor.loops
        self.body, self.fn, self.into = tensor.body, tensor.fn, tensor.into
        self.checked = {tensor.origin: None} if self.body is not None and checks_index(self.body) else {}
        self.strides: list[Dim] = strides(tensor.shape)
        self.allocated: Dim = product(tensor.shape)
        self.has_layout = self.stored = self.constant = self.contracts = self.is_next_state = False
        self.level = 0
        self.place: str | None = None
        self.guard: Expr | None = None
        self.nest: object = None
        self.tile: Value | None = None
        self.form: tuple[object, Operands | None] | None = None  # memo of operands()
        self.covered: tuple[object, list[Symbol]] = (None, [])  # memo of variables
        self.region: tuple[Region, ...] = ()  # the repeated bodies that compute it, outermost first

    def __repr__(self) -> str:
        return repr(self.tensor)

    @property
    def id(self) -> float:
        """The position in the order of computation: operands have smaller ids than their readers."""
        return self.tensor.id

    @property
    def variables(self) -> list[Symbol]:
        """The loops over the value's own axes, outermost first, without the loops that it reduces over."""
        if self.covered[0] is not self.axes:
            self.covered = self.axes, [s for a in self.axes for s in covering_loops(a) or ()]
        return list(self.covered[1])

    @property
    def all_loops(self) -> list[Symbol]:
        """The loops over the axes, then the loops of the reduction."""
        return self.variables + list(self.loops)

    @property
    def work(self) -> Dim:
        """An upper estimate of the operations that computing all elements takes, the contraction in its tile included."""
        count = product([*self.tensor.shape, *(s.extent for s in self.loops if s.extent is not None)])
        while outer := {s: s.extent for s in symbols(count) if s.extent is not None}:
            count = substitute(count, outer)
        own = count * max(cost(self), 1)
        return own if self.tile is None else own + self.tile.work


class Panels(Tensor):
    """A packed copy of a contraction's B, in the order in which a tile reads it: [*batch, column // width, *k, column %
    width]."""

    __slots__ = ()


class Operands(Struct, frozen=True):
    """A contraction: the reads of its operands a and b, and its loops by role.

    batch: loops that move both operands; rows: loops that move a only, or neither; columns: the one loop that moves b only;
    k: the loops of the reduction, those first that share an index of a with another loop (windows). choice: the select
    between b itself and its packed copy, by a condition on sizes (see pack.copy_panels).
    """

    a: Read
    b: Read
    batch: list[Symbol]
    rows: list[Symbol]
    k: list[Symbol]
    columns: list[Symbol]
    choice: Expr | None = None


def operands(v: Value) -> Operands | None:
    """Return v's operands if v is a contraction that `pack` has prepared for tiles, else None. The answer is memoised until v
    changes."""
    if not v.contracts:
        return None
    state = v.fn, v.body, v.axes, v.loops
    if v.form is None or v.form[0] != state:
        v.form = state, find_operands(v)
    return v.form[1]


def find_operands(v: Value) -> Operands | None:
    """Return the operands a and b of contraction v. None if v is no contraction.

    A contraction is a sum of products of two reads, a and b, where b has one loop, over columns, that a does not have. If both
    factors have such a loop, b is the one that is a packed copy, else a constant, else the one whose columns are v's last loop.
    """
    factors = product_of_reads(v)
    if factors is None or not v.variables:
        return None
    found = [o for a, b in (factors, factors[::-1]) if (o := as_operands(v, a, b)) is not None]
    last = v.variables[-1]
    return max(found, key=lambda o: (isinstance(o.b.tensor, Panels), o.b.tensor.data is not None, last in o.columns), default=None)


def as_operands(v: Value, a: Read, b: Read) -> Operands | None:
    """Return the contraction of a with b if b has exactly one loop of columns and every reduced loop moves both a and b; else
    None.

    A loop that moves neither operand counts as a loop of rows: all those rows are equal.
    """
    in_a, in_b = a.symbols, b.symbols
    batch = [s for s in v.variables if s in in_a and s in in_b]
    rows = [s for s in v.variables if s not in in_b]
    columns = [s for s in v.variables if s in in_b and s not in in_a]
    if len(columns) != 1 or not v.loops or not set(v.loops) <= in_a & in_b:
        return None
    single_symbols = {s for i in a.indices if len(symbols(i)) == 1 for s in symbols(i)}
    choice = next((f for f in v.body.args if is_choice(f)), None) if v.body is not None else None
    in_order = isinstance(b.tensor, Panels) and b.dtype.is_integer  # groups.group_operands has put them in order
    k = list(v.loops) if in_order else sorted(v.loops, key=lambda s: s in single_symbols)
    return Operands(a, b, batch, rows, k, columns, choice)


def is_choice(factor: Expr) -> bool:
    """Tell whether the factor is a select between B itself and its packed copy."""
    copy = factor.args[2] if isinstance(factor, Select) else None
    return isinstance(copy, Read) and isinstance(copy.tensor, Panels)


def product_of_reads(v: Value) -> tuple[Read, Read] | None:
    """Return the two factors of a sum of products in f32 or f64, or of narrow integers in i32, if each is a read, possibly cast; else None.

    The reads must have no guard and no index that comes from data. Of a choice between B and its packed copy, the copy is
    returned.
    """
    if v.fn != "add" or not isinstance(v.body, Op) or v.body.fn != "mul" or v.body.dtype not in (f32, f64, i32):
        return None
    found = []
    for factor in v.body.args:
        read = factor.args[0] if isinstance(factor, Cast) else factor.args[2] if is_choice(factor) else factor
        if not isinstance(read, Read) or read.guard is not None or any(True for i in read.indices for _ in dim_elements(i)):
            return None
        if not (read.dtype.bits <= 16 and read.dtype.is_integer if v.body.dtype is i32 else read.dtype.is_float):
            return None
        found.append(read)
    return found[0], found[1]


def transform(expr: Expr, on_read: Callable[[Read], Expr], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Replace every Read r in expr by on_read(r), innermost first: r's own indices and guard are transformed before r."""
    memo = {} if memo is None else memo
    found = memo.get(expr)
    if found is None:
        before, indices = expr.args, expr.dims
        args = tuple([transform(a, on_read, memo) for a in before]) if before else before
        dims = tuple([transform_dim(d, on_read, memo) for d in indices]) if indices else indices
        found = expr if args == before and dims == indices else expr.rebuild(args, dims)
        if isinstance(found, Read):
            found = on_read(found)
        memo[expr] = found
    return found


def transform_dim(dim: Dim, on_read: Callable[[Read], Expr], memo: dict[Expr, Expr] | None = None) -> Dim:
    """Replace the Reads inside the Elements of an index by on_read of them."""
    if not isinstance(dim, Int) or not dim_elements(dim):
        return dim
    out: Dim = 0
    for monomial, factor in dim.terms.items():
        term: Dim = factor
        for atom in monomial:
            if isinstance(atom, Element):
                assert atom.extent is not None
                term = term * value(Element(transform(atom.expr, on_read, memo), atom.extent, atom.code))
            elif isinstance(atom, Symbol):
                term = term * value(atom)
            else:
                term = term * atom.rebuild(lambda d: transform_dim(d, on_read, memo))
        out = out + term
    return out


class TooLong(Exception):
    """An index would become a formula too long to compute with."""


MOST_INDEX_WEIGHT = 512
"""The most atoms that an index may be written with: each index map of a chain could double it."""


def inline_into(reader: Value, v: Value) -> None:
    """Replace the reader's reads of v by v's body."""
    reader.body = with_inlined(reader, v)
    reader.checked |= v.checked


def with_inlined(reader: Value, v: Value) -> Expr:
    """Return the reader's body with v's body in place of its reads of v. Raises TooLong if an index would be too long."""
    assert reader.body is not None
    return transform(reader.body, lambda r: inlined(v, r) if r.tensor is v.tensor else r)


def checks_index(body: Expr) -> bool:
    """Tell whether the body contains an index that comes from data and must be checked against its bound."""
    atoms = (a for e in walk(body) for d in e.dims if isinstance(d, Int) for a in d.atoms)
    return any(isinstance(a, Element) and a.code != TRUSTED for a in atoms)


def inlined(v: Value, read: Read) -> Expr:
    """Return v's body at the indices of this read; if the read has a guard, the result is zero where the guard is false."""
    assert v.body is not None
    env = {s: i for a, i in zip(v.axes, read.indices, strict=True) if (s := single(a)) is not None}
    guard = read.guard

    def at(r: Read) -> Expr:
        indices = tuple(substitute(i, env) for i in r.indices)
        inner = None if r.guard is None else replace(r.guard, env)
        if guard is not None:
            inner = guard if inner is None else Op("and", guard, inner)
        return Read(r.tensor, indices, inner)

    body = shortened(replace(transform(v.body, at), env) if guard is not None else replace(v.body, env))
    if guard is None or isinstance(body, Read):
        return body
    return Select(guard, body, zero(body))


def shortened(body: Expr) -> Expr:
    """Return the body with the indices of its reads `collected`. Raises TooLong if an index is a long formula all the same."""
    reads = [body] if isinstance(body, Read) else [n for n in walk(body) if isinstance(n, Read)]
    if all(weight(i) <= MANY_TERMS for r in reads for i in r.indices):
        return body

    def short(r: Read) -> Expr:
        indices = tuple(map(collected, r.indices))
        if any(weight(i) > MOST_INDEX_WEIGHT for i in indices):
            raise TooLong
        return Read(r.tensor, indices, r.guard)

    return transform(body, short)


def zero(like: Expr) -> Expr:
    """Return the constant 0 (False for bool) of the expression's dtype."""
    if like.dtype.kind == "bool":
        return Const(False, like.dtype)
    accumulator = like.dtype if like.dtype in (f32, f64) or like.dtype.is_integer else f32
    return Const(0, accumulator) if accumulator is like.dtype else Cast(Const(0, accumulator), like.dtype)


def reads_of(v: Value) -> list[Read]:
    """List all reads in v's body, each once."""
    return [n for n in walk(v.body) if isinstance(n, Read)] if v.body is not None else []


def depends_on(v: Value) -> frozenset[Symbol]:
    """Collect the symbols that v's present definition names (see expr.dependence), its own loops and those of its repeated
    bodies included."""
    found = named(v.shape, v.body, v.loops, v.into, v.tensor.call).union(*map(symbols, v.axes))
    if v.guard is not None:
        found |= v.guard.symbols
    regions = (*v.region, *(v.tensor.region.both if v.tensor.region is not None else ()))
    return closure(found.union(*(symbols(r.trip) for r in regions)))


COSTS = {"div": 4, "sqrt": 6, "rem": 8, "mod": 8, "exp": 14, "log": 14, "tanh": 20, "erf": 25, "pow": 40}
"""Cost of operations that take longer than an addition, in additions. EXPENSIVE ones cost 20, all others 1."""


def cost(v: Value) -> int:
    """Count the operations that computing one element of v takes, plus its loads, minus the one load that reading v instead
    would take."""
    assert v.body is not None
    return operations(v.body) - 1


def operations(body: Expr) -> int:
    """Count the operations and loads of an expression."""
    total = 0
    for n in walk(body):
        if isinstance(n, Op):
            total += COSTS.get(n.fn, 20 if n.fn in EXPENSIVE else 1)
        elif isinstance(n, (Select, Cast, Read)):
            total += 1
    return total


EXPENSIVE = frozenset(("log1p", "expm1", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"))


def extent(s: Symbol) -> Dim:
    """Return the number of iterations of loop s."""
    assert s.extent is not None, f"{s} is not a loop variable"
    return s.extent


def address(indices: Iterable[Dim], steps: Sequence[Dim]) -> Dim:
    """Return the offset of an element in elements from the buffer's start: the sum of indices times strides."""
    out: Dim = 0
    for i, s in zip(indices, steps, strict=True):
        out = out + i * s
    return out


def moves(dim: Dim, s: Symbol) -> Dim | None:
    """Return how far an address moves per iteration of loop s, or None if the distance varies."""
    return coefficient(dim, s)


def bound(v: Value, index: Dim, extent: Dim) -> None:
    """Guard v so that it is stored, and reads its operands at this index, only where index < extent."""
    inside, loops = Op("lt", Index(index), Index(extent)), symbols(index)

    def guarded(guard: Expr | None) -> Expr:
        return inside if guard is None else Op("and", guard, inside)

    def within(r: Read) -> Read:
        return Read(r.tensor, r.indices, guarded(r.guard)) if any(loops <= symbols(i) for i in r.indices) else r

    assert v.body is not None
    v.body, v.guard = transform(v.body, within), guarded(v.guard)


def has_remainder(i: Dim) -> bool:
    """Tell whether the index contains a remainder (%)."""
    return isinstance(i, Int) and any(isinstance(a, Derived) and a.op == "%" for m in i.terms for a in m)


def quotients(v: Value) -> list[Derived]:
    """List the quotients (//) and remainders (%) in the indices at which v's body reads."""
    if v.body is None:
        return []
    dims = [d for n in walk(v.body) for d in n.dims]
    return [a for d in dims if isinstance(d, Int) for m in d.terms for a in m if isinstance(a, Derived) and a.op in ("//", "%")]
