"""The loop IR, in which every kernel is written, between tensor expressions and machine code.

Expressions (`Expr`) have a dtype and are hash-consed: equal ones are one object, so a shared part is evaluated once.
Statements (`Stmt`) give the order of execution. Offsets, bounds and extents are `Dim`s over loop variables and sizes
(`base.symbolic`), in elements.

    expr  = Const(value, dtype)                 a literal
          | Index(dim)                          an integer expression as an i64 value
          | Load(buffer, offset, guard)         an element; where guard is false nothing is read and the value is zero
          | Op(fn, args, dtype)                 arithmetic, see OPS
          | Select(condition, then, otherwise)  both sides are evaluated
          | Cast(x, dtype)                      ONNX Cast: float to int truncates and saturates; to bool is x != 0
          | Bitcast(x, dtype)                   the same bits as another dtype of equal width
          | Reduce(fn, loops, body)             fn over all values of body, see REDUCTIONS; a loop is (variable, kind)
    stmt  = Store(buffer, offset, value, combine)   buffer[offset] = value, or fn(buffer[offset], value) with combine=fn
          | For(variable, lo, hi, kind, body)   kind: serial, parallel, vector, unrolled
          | While(condition, body) | If(condition, then, otherwise) | Seq(body) | Alloc(buffer, size, body)
          | Check(condition, code, details) | Tile(...)

Dtypes: `Load` of bool gives bool (stored as a byte). Arithmetic is defined on f32, f64, integers of 8 to 64 bits, and bool.
Other dtypes (f16, bf16, narrower floats, 4- and 2-bit integers) can only be loaded, stored, selected and cast: cast them to
f32 or i32 for arithmetic.

A `parallel` For splits its range evenly, in order, among the chunks of a call; nothing else in a kernel depends on chunks.
Inside it, `first(variable)` is the value at which this chunk begins. Chunks run concurrently or one after the other: none
waits for another. A `vector` For may run in any number of lanes. Its body consists of Store, Seq and serial or unrolled For.
No iteration depends on another one, except by `Store(combine=...)` to an offset that does not change with the variable: that
is a reduction over the lanes. Reductions may combine lanes in any fixed order, so that a kernel's bits don't depend on the
number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from msgspec import Struct

from sardonyx.base.dtypes import DType, boolean, i64
from sardonyx.base.symbolic import Atom, Dim, Int, Symbol, evaluate, identity_of, substitute, symbols, the, value
from sardonyx.base.symbolic.interning import WeakTable

Kind: TypeAlias = Literal["serial", "parallel", "vector", "unrolled"]
Space: TypeAlias = Literal["argument", "scratch", "local"]

# fn: (number of arguments, result: "same" as the arguments or "bool")
OPS: Mapping[str, tuple[int, str]] = {
    # add, sub, mul wrap on integers. div: IEEE on floats; on integers towards zero, x / 0 = 0 and MIN / -1 = MIN.
    **dict.fromkeys(("add", "sub", "mul", "div"), (2, "same")),
    # rem: C's % and fmod (the sign of the dividend); x rem 0 = 0 on integers. mod: Python's (the sign of the divisor).
    **dict.fromkeys(("rem", "mod"), (2, "same")),
    # min, max: a NaN in either gives NaN (numpy.minimum).
    **dict.fromkeys(("min", "max"), (2, "same")),
    # bits: and, or, xor on integers and bool. shl, shr by >= width give 0; shr keeps the sign of signed integers.
    **dict.fromkeys(("and", "or", "xor", "shl", "shr"), (2, "same")),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), (2, "bool")),
    **dict.fromkeys(("neg", "abs", "not", "sqrt", "rint", "floor", "ceil", "trunc"), (1, "same")),
    "copysign": (2, "same"),
    "fma": (3, "same"),
    # functions, expanded by loop.functions into the above; within 2 ulp in f32
    **dict.fromkeys(("exp", "log", "log1p", "expm1", "tanh", "erf", "sin", "cos", "tan"), (1, "same")),
    **dict.fromkeys(("asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"), (1, "same")),
    "pow": (2, "same"),
}
COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
FUNCTIONS = frozenset(
    ("exp", "log", "log1p", "expm1", "tanh", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh")
) | frozenset(("asinh", "acosh", "atanh", "pow"))
REDUCTIONS = frozenset(("add", "mul", "min", "max", "and", "or", "xor"))


class Buffer(Struct, frozen=True, eq=False):
    """Memory of one dtype. Two buffers are the same only if they are one object.

    space: argument (a pointer that the caller passes), scratch (the thread's own, from Alloc), or local (registers or stack,
    from Alloc with a constant size). readonly: nothing stores to this argument while the kernel runs. aligned: the first
    element is 64-byte aligned.
    """

    name: str
    dtype: DType
    space: Space = "argument"
    readonly: bool = False
    aligned: bool = False

    def __repr__(self) -> str:
        return self.name


# ---- expressions ----------------------------------------------------------------------------------------------------------

_interned = WeakTable()
_references = _interned.references


class Expr:
    """A scalar value. Equal expressions are one object, so compare them with `is` or ==."""

    __slots__ = ("__weakref__", "_nodes", "_symbols", "args", "dtype", "fields")
    dtype: DType
    fields: tuple[Any, ...]
    args: tuple[Expr, ...]
    """The expressions that it is directly made of, without those inside offsets."""
    _symbols: frozenset[Symbol] | None
    _nodes: dict[Expr, None] | None

    def __new__(cls, *fields: Any, dtype: DType, identity: tuple[Any, ...] | None = None) -> Expr:
        """Return the expression of these fields. identity: what stands for the fields in its key, if that should not hold them.

        A key has the addresses of expressions, which the new one keeps alive, instead of the expressions. The table holds the keys of
        all expressions that live: if an expression was among cyclic garbage, its key would keep what it is made of alive, and
        each garbage collection would free one layer of a model.
        """
        key = (cls, dtype.name, *[id(f) if isinstance(f, Expr) else f for f in (fields if identity is None else identity)])
        reference = _references.get(key)
        found = reference() if reference is not None else None
        if found is None:
            found = object.__new__(cls)
            found.fields, found.dtype, found._symbols = fields, dtype, None
            found._nodes = None
            found.args = tuple([f for f in fields if isinstance(f, Expr)])
            _interned.put(key, found)
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.fields))}, {self.dtype})"

    @property
    def symbols(self) -> frozenset[Symbol]:
        """The loop variables and sizes that the value depends on, without those that a Reduce binds."""
        if self._symbols is None:
            self._symbols = self._find_symbols()
        return self._symbols

    def _find_symbols(self) -> frozenset[Symbol]:
        return frozenset().union(*(a.symbols for a in self.args)) if self.args else frozenset()

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The node's integer expressions: an offset, an index."""
        return ()

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        """Make a node of this kind with other arguments and integer expressions."""
        raise NotImplementedError


class Const(Expr):
    """A number, converted to its dtype: floats are rounded, integers wrap."""

    __slots__ = ()

    def __new__(cls, value: float | int | bool, dtype: DType) -> Const:
        # repr tells 0.0 from -0.0 and makes NaN equal itself
        return super().__new__(cls, repr(as_element(value, dtype)), dtype=dtype)  # type: ignore[return-value]

    @property
    def value(self) -> float | int | bool:
        text: str = self.fields[0]
        if text in ("True", "False"):
            return text == "True"
        return float(text) if self.dtype.is_float else int(text)

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return self


def as_element(value: float | int | bool, dtype: DType) -> float | int | bool:
    """Return the number that an element of this dtype holds after `value` is stored to it."""
    if dtype is boolean:
        return bool(value)
    if dtype.is_integer:
        low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
        return (int(value) - low) % (1 << dtype.bits) + low
    with np.errstate(over="ignore"):
        return float(dtype.numpy.type(value))


class Index(Expr):
    __slots__ = ()

    def __new__(cls, dim: Dim) -> Index:
        return super().__new__(cls, dim, dtype=i64)  # type: ignore[return-value]

    @property
    def dim(self) -> Dim:
        return self.fields[0]  # type: ignore[no-any-return]

    @property
    def dims(self) -> tuple[Dim, ...]:
        return self.fields

    def _find_symbols(self) -> frozenset[Symbol]:
        return symbols(self.dim)

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Index(*dims)


class Load(Expr):
    __slots__ = ()

    def __new__(cls, buffer: Buffer, offset: Dim, guard: Expr | None = None) -> Load:
        return super().__new__(cls, buffer, offset, guard, dtype=buffer.dtype)  # type: ignore[return-value]

    @property
    def buffer(self) -> Buffer:
        return self.fields[0]  # type: ignore[no-any-return]

    @property
    def offset(self) -> Dim:
        return self.fields[1]  # type: ignore[no-any-return]

    @property
    def guard(self) -> Expr | None:
        return self.fields[2]  # type: ignore[no-any-return]

    @property
    def dims(self) -> tuple[Dim, ...]:
        return (self.offset,)

    def _find_symbols(self) -> frozenset[Symbol]:
        return symbols(self.offset) | (self.guard.symbols if self.guard is not None else frozenset())

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Load(self.buffer, dims[0], args[0] if args else None)


class Op(Expr):
    __slots__ = ()

    def __new__(cls, fn: str, *args: Expr) -> Op:
        arity, result = OPS[fn]
        if len(args) != arity or any(a.dtype is not args[0].dtype for a in args):
            raise TypeError(f"{fn} of {', '.join(str(a.dtype) for a in args)}")
        dtype = boolean if result == "bool" else args[0].dtype
        return super().__new__(cls, fn, *args, dtype=dtype)  # type: ignore[return-value]

    @property
    def fn(self) -> str:
        return self.fields[0]  # type: ignore[no-any-return]

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Op(self.fn, *args)


class Select(Expr):
    __slots__ = ()

    def __new__(cls, condition: Expr, then: Expr, otherwise: Expr) -> Select:
        if condition.dtype is not boolean or then.dtype is not otherwise.dtype:
            raise TypeError(f"select of {condition.dtype}, {then.dtype}, {otherwise.dtype}")
        return super().__new__(cls, condition, then, otherwise, dtype=then.dtype)  # type: ignore[return-value]

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Select(*args)


class Cast(Expr):
    __slots__ = ()

    def __new__(cls, x: Expr, dtype: DType) -> Cast:
        return super().__new__(cls, x, dtype=dtype)  # type: ignore[return-value]

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Cast(args[0], self.dtype)


class Bitcast(Expr):
    __slots__ = ()

    def __new__(cls, x: Expr, dtype: DType) -> Bitcast:
        if x.dtype.bits != dtype.bits:
            raise TypeError(f"bitcast of {x.dtype} to {dtype}")
        return super().__new__(cls, x, dtype=dtype)  # type: ignore[return-value]

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Bitcast(args[0], self.dtype)


class Reduce(Expr):
    """fn over body for all values of the loops, outermost first: ((symbol with an extent, kind), ...). Without iterations:
    fn's neutral element."""

    __slots__ = ()

    def __new__(cls, fn: str, loops: tuple[tuple[Symbol, Kind], ...], body: Expr) -> Reduce:
        if fn not in REDUCTIONS:
            raise TypeError(f"no reduction {fn}")
        return super().__new__(cls, fn, loops, body, dtype=body.dtype)  # type: ignore[return-value]

    @property
    def fn(self) -> str:
        return self.fields[0]  # type: ignore[no-any-return]

    @property
    def loops(self) -> tuple[tuple[Symbol, Kind], ...]:
        return self.fields[1]  # type: ignore[no-any-return]

    @property
    def body(self) -> Expr:
        return self.fields[2]  # type: ignore[no-any-return]

    def _find_symbols(self) -> frozenset[Symbol]:
        bound = {s for s, _ in self.loops}
        extents = frozenset[Symbol]().union(*(symbols(s.extent) for s, _ in self.loops if s.extent is not None))
        return frozenset(s for s in self.body.symbols if s not in bound) | extents

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Reduce(self.fn, self.loops, args[0])


TRUSTED = -1  # code of an Element that is not checked


class Element(Atom):
    """An integer read from data, as an atom of an offset: the value of `expr` (of an integer dtype), counted from the end if
    negative.

    It must lie in [-bound, bound). Generated code checks that; otherwise it records the error `code` (see Check; the details
    are the value and the bound) and continues with the nearest valid element. The atom's range is therefore [0, bound). With
    the code TRUSTED nothing is checked, and the kernel itself must ensure that the value lies in [0, bound).
    """

    __slots__ = ("code", "expr")

    expr: Expr
    code: int

    def __new__(cls, expr: Expr, bound: Dim, code: int = 0) -> Element:
        return the(cls, (id(expr), identity_of(bound), code), expr, bound, code)

    def make(self, expr: Expr, bound: Dim, code: int) -> None:  # type: ignore[override]
        super().make(f"[{id(expr):x}:{bound}:{code}]", expr.symbols | symbols(bound), bound)
        self.expr, self.code = expr, code

    def substitute(self, env: Mapping[Symbol, Dim]) -> Dim:
        assert self.extent is not None
        return value(Element(replace(self.expr, env), substitute(self.extent, env), self.code))

    def evaluate(self, env: Any) -> int:
        raise TypeError(f"{self.expr} is known only inside a kernel")


def replace(expr: Expr, env: Mapping[Symbol, Dim], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Substitute loop variables and sizes in expr."""
    if expr.symbols.isdisjoint(frozenset(env)):
        return expr
    memo = {} if memo is None else memo
    found = memo.get(expr)
    if found is None:
        args, dims = expr.args, expr.dims
        args = tuple([replace(a, env, memo) for a in args]) if args else args
        found = memo[expr] = expr.rebuild(args, tuple([substitute(d, env) for d in dims]) if dims else dims)
    return found


def walk(expr: Expr, seen: dict[Expr, None] | None = None) -> dict[Expr, None]:
    """List all nodes of expr in evaluation order, each once, those inside the Elements of offsets included.

    Without `seen`, the nodes inside expr are memoised. expr itself is not among them: an expression that refers to itself would stay
    until a garbage collection, and with it all that its key in the table of expressions holds.
    """
    if seen is None:
        if expr._nodes is None:
            expr._nodes = walk(expr, {})
            del expr._nodes[expr]
        return {**expr._nodes, expr: None}
    if expr in seen:
        return seen
    for inner in (*elements_of(expr), *expr.args):
        walk(inner, seen)
    seen[expr] = None
    return seen


def elements_of(expr: Expr) -> Sequence[Expr]:
    """List the expressions of the Elements in the node's integer expressions."""
    dims = expr.dims
    return [e for dim in dims for e in dim_elements(dim)] if dims else ()


def dim_elements(dim: Dim) -> Sequence[Expr]:
    """List the expressions of the Elements in an integer expression, those in quotients and the like included."""
    return [a.expr for a in dim.atoms if isinstance(a, Element)] if isinstance(dim, Int) else ()


# ---- statements -----------------------------------------------------------------------------------------------------------


class Store(Struct, frozen=True):
    buffer: Buffer
    offset: Dim
    value: Expr
    combine: str | None = None
    guard: Expr | None = None  # nothing is stored where it is false


class For(Struct, frozen=True):
    """for variable in range(lo, hi): body. The bounds of an unrolled For are constant."""

    variable: Symbol
    lo: Dim
    hi: Dim
    kind: Kind
    body: Stmt


class While(Struct, frozen=True):
    """while condition: body. The condition is evaluated before each iteration; it loads what the body stores."""

    condition: Expr
    body: Stmt


class If(Struct, frozen=True):
    condition: Expr
    then: Stmt
    otherwise: Stmt | None = None


class Seq(Struct, frozen=True):
    body: tuple[Stmt, ...]


class Alloc(Struct, frozen=True):
    """Allocate `size` elements, 64-byte aligned and with undefined contents, for the duration of `body`."""

    buffer: Buffer
    size: Dim
    body: Stmt


class Check(Struct, frozen=True):
    """Record an error where the condition is false: call, code and up to three details. Only the first error counts;
    execution continues."""

    condition: Expr
    code: int
    details: tuple[Expr, ...] = ()


class Step(Struct, frozen=True):
    """One loop over k in a Tile: its extent, and by how many elements a and b move per iteration."""

    extent: Dim
    a: Dim
    b: Dim


class Tile(Struct, frozen=True):
    """The contraction kernel: sums of rows x width elements are kept in registers, then stored.

        for i < rows, j < width:  c[c_offset + i c_row + j] = sum over k of a[a_offset + i a_row + k . a] * b[b_offset + k . b + j]

    k runs over `steps`, outermost first. The products are summed in c's dtype (f32 for f32, i32 for integers), floats in blocks
    along k (see loop.blocks).

    With a group, a[.. + g] * b[.. + j group + g] is summed over g < group too: neighbours along k lie side by side in both
    operands, as instructions read them that multiply several pairs and add the products (see codegen.fragments).

        rows      a Dim whose value at run time is one of `heights`
        width     a multiple of the target's vector width; b and c may be read and written for all of it
        ahead     an offset in b from which the next panel is prefetched meanwhile
        lines     cache lines of 64 bytes to prefetch per two iterations of k; rounded up to an even number where k is not unrolled
        a_rows    if the rows of a are not evenly spaced: each row's offset from the first, in place of i a_row
    """

    rows: Dim
    heights: tuple[int, ...]
    width: int
    a: Buffer
    a_offset: Dim
    a_row: Dim
    b: Buffer
    b_offset: Dim
    c: Buffer
    c_offset: Dim
    c_row: Dim
    steps: tuple[Step, ...]
    ahead: Dim | None = None
    a_rows: tuple[int, ...] = ()
    lines: int = 1
    group: int = 1


Stmt: TypeAlias = Store | For | While | If | Seq | Alloc | Check | Tile


class Kernel(Struct, frozen=True):
    """A function of buffers and sizes.

    sources: the names of the ONNX nodes that it computes. lengths: for each buffer, the number of elements that the kernel
    may access, as a formula over its sizes, or None if that is not known; () if the kernel declares nothing.
    """

    name: str
    buffers: tuple[Buffer, ...]
    sizes: tuple[Symbol, ...]
    body: Stmt
    sources: tuple[str, ...] = ()
    lengths: tuple[Dim | None, ...] = ()

    @property
    def code(self) -> tuple[str, tuple[Buffer, ...], tuple[Symbol, ...], Stmt]:
        """What machine code is made of. Two kernels with equal code are equal, whatever nodes they came from."""
        return self.name, self.buffers, self.sizes, self.body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.code == other.code

    def __hash__(self) -> int:
        return hash(self.code)


def first(variable: Symbol) -> Symbol:
    """Return the symbol for the value at which this chunk of the parallel loop over `variable` begins."""
    return Symbol(f"{variable.name}.first", variable.extent)


def sequence(statements: Iterable[Stmt]) -> Stmt:
    """Join statements into one, without nested Seqs."""
    flat: list[Stmt] = []
    for s in statements:
        flat.extend(s.body if isinstance(s, Seq) else (s,))
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def as_number(dim: Dim, env: Mapping[Symbol, int]) -> int:
    """Evaluate a Dim whose symbols are all known."""
    return evaluate(dim, env.__getitem__)
