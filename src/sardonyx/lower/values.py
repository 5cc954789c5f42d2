"""The working form of tensors while they are being placed: statements whose bodies are rewritten as readers take up what they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sardonyx.base.dtypes import f32, f64
from sardonyx.base.symbolic import (
    Derived,
    Dim,
    Int,
    Symbol,
    coefficient,
    covering_loops,
    product,
    single,
    strides,
    substitute,
    symbols,
    value,
)
from sardonyx.expr.dependence import closure, named
from sardonyx.expr.region import Region
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import TRUSTED, Cast, Const, Element, Expr, Index, Op, Select, dim_elements, replace, walk


class Value:
    """A tensor and what lowering decides about it.

    place     VIEW, INLINE, TILE, ROW, ROOT, WHOLE (its parts are placed), INPUT or None (not placed yet)
    strides   of its buffer, in elements, once `laid`
    room      elements that the buffer takes, gaps included
    stored    a ROW that later nests read too: its memory is a buffer
    tile      the contraction whose sums this statement takes as its epilogue
    contracts a sum of products whose right-hand side lies as a tile reads it (see lower.pack)
    turns     the next state of a loop, written into the other half of its buffer (see lower.repetition) wherever it is computed
    level     the segment in which it can be computed first (see lower.segment_levels)
    checked   the nodes whose indices its body checks, what it has taken up included
    guard     where it is false, nothing is stored: a loop that was split runs past the end
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
        self.region: tuple[Region, ...] = ()  # the repeated bodies it stands in, outermost first

    def __repr__(self) -> str:
        return repr(self.tensor)

    @property
    def id(self) -> float:
        return self.tensor.id

    @property
    def variables(self) -> list[Symbol]:
        """The loops over its own axes, outermost first."""
        if self.covered[0] is not self.axes:
            self.covered = self.axes, [s for a in self.axes for s in covering_loops(a) or ()]
        return list(self.covered[1])

    @property
    def all_loops(self) -> list[Symbol]:
        return self.variables + list(self.loops)

    @property
    def work(self) -> Dim:
        """Roughly how many operations it takes to compute all of it, at most."""
        count = product([*self.tensor.shape, *(s.extent for s in self.loops if s.extent is not None)])
        while outer := {s: s.extent for s in symbols(count) if s.extent is not None}:
            count = substitute(count, outer)
        own = count * max(cost(self), 1)
        return own if self.tile is None else own + self.tile.work


class Panels(Tensor):
    """The copy of a contraction's B as its tile reads it: [*batch, column // width, *k, column % width]."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Operands:
    """A contraction's reads and loops. k: those that share an axis of a with another loop (windows) first.

    choice: of b and what it is a copy of, by a condition on sizes (see pack.copy_panels).
    """

    a: Read
    b: Read
    batch: list[Symbol]
    rows: list[Symbol]
    k: list[Symbol]
    columns: list[Symbol]
    choice: Expr | None = None


def operands(v: Value) -> Operands | None:
    """v's reads and loops if it is a contraction that was packed; else None."""
    if not v.contracts:
        return None
    state = v.fn, v.body, v.axes, v.loops
    if v.form is None or v.form[0] != state:
        v.form = state, find_operands(v)
    return v.form[1]


def find_operands(v: Value) -> Operands | None:
    """v as a contraction: a sum of products of two reads, a moving with the rows and b with one loop of columns; else None."""
    factors = product_of_reads(v)
    if factors is None or not v.variables:
        return None
    found = [o for a, b in (factors, factors[::-1]) if (o := as_operands(v, a, b)) is not None]
    last = v.variables[-1]
    return max(found, key=lambda o: (isinstance(o.b.tensor, Panels), o.b.tensor.data is not None, last in o.columns), default=None)


def as_operands(v: Value, a: Read, b: Read) -> Operands | None:
    """The contraction of a with b, if b has one loop of columns and both move with all that is reduced. A loop that moves neither is one
    of rows, all of which are the same."""
    in_a, in_b = a.symbols, b.symbols
    batch = [s for s in v.variables if s in in_a and s in in_b]
    rows = [s for s in v.variables if s not in in_b]
    columns = [s for s in v.variables if s in in_b and s not in in_a]
    if len(columns) != 1 or not v.loops or not set(v.loops) <= in_a & in_b:
        return None
    alone = {s for i in a.indices if len(symbols(i)) == 1 for s in symbols(i)}
    choice = next((f for f in v.body.args if is_choice(f)), None) if v.body is not None else None
    return Operands(a, b, batch, rows, sorted(v.loops, key=lambda s: s in alone), columns, choice)


def is_choice(factor: Expr) -> bool:
    """Is it a packed copy or, if a condition holds, its source?"""
    copy = factor.args[2] if isinstance(factor, Select) else None
    return isinstance(copy, Read) and isinstance(copy.tensor, Panels)


def product_of_reads(v: Value) -> tuple[Read, Read] | None:
    """The two factors of a sum of products in f32 or f64, each a read, maybe cast; no guards, no data-dependent indices. Of a
    packed copy and its source the copy."""
    if v.fn != "add" or not isinstance(v.body, Op) or v.body.fn != "mul" or v.body.dtype not in (f32, f64):
        return None
    found = []
    for factor in v.body.args:
        read = factor.args[0] if isinstance(factor, Cast) else factor.args[2] if is_choice(factor) else factor
        if not isinstance(read, Read) or read.guard is not None or any(True for i in read.indices for _ in dim_elements(i)):
            return None
        if isinstance(factor, Cast) and not read.dtype.is_float:
            return None
        found.append(read)
    return found[0], found[1]


def transform(expr: Expr, on_read: Callable[[Read], Expr], memo: dict[Expr, Expr] | None = None) -> Expr:
    """expr with every Read replaced by on_read of it (after its own indices and guard were transformed)."""
    memo = {} if memo is None else memo
    found = memo.get(expr)
    if found is None:
        args = tuple([transform(a, on_read, memo) for a in expr.args])
        dims = tuple([transform_dim(d, on_read, memo) for d in expr.dims])
        found = expr if args == expr.args and dims == expr.dims else expr.rebuild(args, dims)
        if isinstance(found, Read):
            found = on_read(found)
        memo[expr] = found
    return found


def transform_dim(dim: Dim, on_read: Callable[[Read], Expr], memo: dict[Expr, Expr] | None = None) -> Dim:
    """dim with the Reads inside its Elements replaced."""
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


def inline_into(reader: Value, v: Value) -> None:
    """The reader evaluates v's body in place of reading v."""
    assert reader.body is not None
    reader.body = transform(reader.body, lambda r: inlined(v, r) if r.tensor is v.tensor else r)
    reader.checked |= v.checked


def checks_index(body: Expr) -> bool:
    """Does an index in the body depend on data that have to be checked?"""
    atoms = (a for e in walk(body) for d in e.dims if isinstance(d, Int) for a in d.atoms)
    return any(isinstance(a, Element) and a.code != TRUSTED for a in atoms)


def inlined(v: Value, read: Read) -> Expr:
    """v's body at the read's indices; under the read's guard, zero where it is false."""
    assert v.body is not None
    env = {s: i for a, i in zip(v.axes, read.indices, strict=True) if (s := single(a)) is not None}
    guard = read.guard

    def at(r: Read) -> Expr:
        indices = tuple(substitute(i, env) for i in r.indices)
        inner = None if r.guard is None else replace(r.guard, env)
        if guard is not None:
            inner = guard if inner is None else Op("and", guard, inner)
        return Read(r.tensor, indices, inner)

    body = replace(transform(v.body, at), env) if guard is not None else replace(v.body, env)
    if guard is None or isinstance(body, Read):
        return body
    return Select(guard, body, zero(body))


def zero(like: Expr) -> Expr:
    if like.dtype.kind == "bool":
        return Const(False, like.dtype)
    accumulator = like.dtype if like.dtype in (f32, f64) or like.dtype.is_integer else f32
    return Const(0, accumulator) if accumulator is like.dtype else Cast(Const(0, accumulator), like.dtype)


def reads_of(v: Value) -> list[Read]:
    """All reads in v's body, each once."""
    return [n for n in walk(v.body) if isinstance(n, Read)] if v.body is not None else []


def depends_on(v: Value) -> frozenset[Symbol]:
    """What v's definition names as it has become (see expr.dependence), its own loops too, and the bodies it stands in."""
    found = named(v.shape, v.body, v.loops, v.into, v.tensor.call).union(*map(symbols, v.axes))
    if v.guard is not None:
        found |= v.guard.symbols
    regions = (*v.region, *(v.tensor.region.both if v.tensor.region is not None else ()))
    return closure(found.union(*(symbols(r.trip) for r in regions)))


COSTS = {"div": 4, "sqrt": 6, "rem": 8, "mod": 8, "exp": 14, "log": 14, "tanh": 20, "erf": 25, "pow": 40}
"""Operations that cost more than one, in units of an addition; other functions count 20."""


def cost(v: Value) -> int:
    """Operations to evaluate v once, and loads beyond the one that reading it would take."""
    assert v.body is not None
    total = 0
    for n in walk(v.body):
        if isinstance(n, Op):
            total += COSTS.get(n.fn, 20 if n.fn in EXPENSIVE else 1)
        elif isinstance(n, (Select, Cast, Read)):
            total += 1
    return total - 1


EXPENSIVE = frozenset(("log1p", "expm1", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"))


def extent(s: Symbol) -> Dim:
    assert s.extent is not None, f"{s} is not a loop variable"
    return s.extent


def address(indices: Iterable[Dim], steps: Sequence[Dim]) -> Dim:
    """Where the element lies, in elements from the buffer's start."""
    out: Dim = 0
    for i, s in zip(indices, steps, strict=True):
        out = out + i * s
    return out


def moves(dim: Dim, s: Symbol) -> Dim | None:
    """How far an address moves per step of loop s; None if not evenly."""
    return coefficient(dim, s)


def bound(v: Value, index: Dim, extent: Dim) -> None:
    """v is stored only where index < extent, and what it reads there is read only then."""
    inside, loops = Op("lt", Index(index), Index(extent)), symbols(index)

    def guarded(guard: Expr | None) -> Expr:
        return inside if guard is None else Op("and", guard, inside)

    def within(r: Read) -> Read:
        return Read(r.tensor, r.indices, guarded(r.guard)) if any(loops <= symbols(i) for i in r.indices) else r

    assert v.body is not None
    v.body, v.guard = transform(v.body, within), guarded(v.guard)


def has_remainder(i: Dim) -> bool:
    return isinstance(i, Int) and any(isinstance(a, Derived) and a.op == "%" for m in i.terms for a in m)


def quotients(v: Value) -> list[Derived]:
    """The // and % in the indices that v's body reads at."""
    if v.body is None:
        return []
    dims = [d for n in walk(v.body) for d in n.dims]
    return [a for d in dims if isinstance(d, Int) for m in d.terms for a in m if isinstance(a, Derived) and a.op in ("//", "%")]
