"""Tensor expressions: each value as a pure function of its indices.

A `Tensor` has a dtype, a shape of `Dim`s and one of these definitions:

    body       an expression over its index variables; each `Read` in it names another tensor and the indices to read
    reduction  a body that is combined by `fn` over further loop variables
    parts      disjoint tensors, each written `into` this one, that together cover it: Concat, Pad
    kernel     one output of a hand-written kernel (`KernelCall`)
    region     a result of a repeated body (`expr.region`)
    none       an input, or a constant with `data`

The functions at the end of this file create tensors. Tensors carry the name of the ONNX node given to `origin.origin(...)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from sardonyx.base import budget
from sardonyx.base.dtypes import DType, from_numpy
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, Symbol, named, short, value
from sardonyx.expr.origin import current_origin
from sardonyx.expr.reach import stay_inside, stay_inside_buffers
from sardonyx.expr.require import require_nonnegative
from sardonyx.loop.nodes import Expr, Kernel, dim_elements, walk

if TYPE_CHECKING:
    from sardonyx.expr.region import Region

MOST_AXES = 64
"""The largest rank that numpy supports."""

_ids = itertools.count()


def next_id() -> int:
    """Return an id larger than those of all tensors made so far."""
    return next(_ids)


class Tensor:
    """A value of the graph, equal only to itself. Ids grow with creation, so operands have smaller ids than their readers."""

    __slots__ = (
        *("axes", "body", "call", "data", "dtype", "fn", "id", "into", "known", "loops"),
        *("name", "origin", "parts", "region", "rounded", "shape"),
    )

    def __init__(self, dtype: DType, shape: Sequence[Dim], name: str = "") -> None:
        if len(shape) > MOST_AXES:
            raise Unsupported(f"a tensor of {len(shape)} axes")
        budget.spend()
        self.id: float = next(_ids)
        self.dtype = dtype
        self.origin = current_origin()
        for n in shape:
            require_nonnegative(n, "a size below zero: {}", shape)
        self.shape: tuple[Dim, ...] = tuple(named(short(n, is_size=True)) for n in shape)
        self.name = name or f"{self.origin or 't'}#{self.id}"
        # index variables; an axis of one element has the index 0
        self.axes: tuple[Dim, ...] = tuple(variable(f"i{self.id}_{a}", n) for a, n in enumerate(self.shape))
        self.loops: tuple[Symbol, ...] = ()  # loops of the reduction, outermost first
        self.body: Expr | None = None
        self.fn: str | None = None  # combines the reduction's terms
        self.parts: tuple[Tensor, ...] = ()
        self.into: tuple[Tensor, tuple[Dim, ...]] | None = None  # the whole, and the indices in it, over self.axes
        self.call: KernelCall | None = None
        self.region: Region | None = None  # the repeated body whose result it is
        self.rounded = False  # True if the model itself asks for rounding to this narrow float
        self.data: Constant | None = None
        self.known: npt.NDArray[Any] | None = None  # memo of expr.known

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def variables(self) -> tuple[Symbol, ...]:
        """The loop variables of the axes; axes of extent 1 have none."""
        return tuple(s for a in self.axes if not isinstance(a, int) for s in sorted(a.symbols))


class Constant(Struct, frozen=True, eq=False):
    """Numbers known before the run. `load()` reads the array when it is needed; the array is not kept."""

    load: Callable[[], npt.NDArray[Any]]
    size: int


class KernelCall(Struct, frozen=True, eq=False):
    """A call of a hand-written kernel on whole, dense tensors. Its buffers are the inputs, then the outputs.

    checks: the messages of its Check codes, with fields {0}, {1}, {2} for the details. work: an estimate of its operations;
    None: about as many as its arguments have elements.
    """

    kernel: Kernel
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sizes: tuple[Dim, ...]
    checks: tuple[str, ...] = ()
    work: Dim | None = None


class Read(Expr):
    """The element tensor[indices]. If the guard is false, nothing is read and the value is zero."""

    __slots__ = ()

    def __new__(cls, tensor: Tensor, indices: tuple[Dim, ...], guard: Expr | None = None) -> Read:
        if len(indices) != tensor.rank:
            raise TypeError(f"{len(indices)} indices for {tensor}")
        identity = id(tensor), indices, guard
        return super().__new__(cls, tensor, indices, guard, dtype=tensor.dtype, identity=identity)  # type: ignore[return-value]

    @property
    def tensor(self) -> Tensor:
        return self.fields[0]  # type: ignore[no-any-return]

    @property
    def indices(self) -> tuple[Dim, ...]:
        return self.fields[1]  # type: ignore[no-any-return]

    @property
    def guard(self) -> Expr | None:
        return self.fields[2]  # type: ignore[no-any-return]

    @property
    def dims(self) -> tuple[Dim, ...]:
        return self.indices

    def _find_symbols(self) -> frozenset[Symbol]:
        own = frozenset[Symbol]().union(*(i.symbols for i in self.indices if not isinstance(i, int)))
        return own | (self.guard.symbols if self.guard is not None else frozenset())

    def rebuild(self, args: tuple[Expr, ...], dims: tuple[Dim, ...] = ()) -> Expr:
        return Read(self.tensor, dims, args[0] if args else None)


def variable(name: str, extent: Dim) -> Dim:
    """Return a loop variable as an index, or 0 if the extent is 1."""
    return 0 if isinstance(extent, int) and extent == 1 else value(Symbol(name, extent))


def reads(body: Expr) -> list[Read]:
    """List all reads in a body, each once, those in data-dependent indices and guards included."""
    return [n for n in walk(body) if isinstance(n, Read)]


def operands(t: Tensor) -> list[Tensor]:
    """List the tensors that t is directly computed from."""
    if t.call:
        return list(t.call.inputs)
    if t.parts:
        return list(t.parts)
    if t.region:
        return [x for r in t.region.both for x in r.inputs + r.results]
    found = [r.tensor for r in reads(t.body)] if t.body is not None else []
    found += [n.tensor for d in t.shape for e in dim_elements(d) for n in reads(e)]
    return list(dict.fromkeys(found))


# ---- making tensors -------------------------------------------------------------------------------------------------------


def input_tensor(name: str, dtype: DType, shape: Sequence[Dim]) -> Tensor:
    """Make a tensor that the caller supplies."""
    return Tensor(dtype, shape, name)


def constant(data: npt.NDArray[Any], name: str = "") -> Tensor:
    """Make a tensor of numbers that are known now."""
    t = Tensor(from_numpy(data.dtype), data.shape, name)
    t.data = Constant(lambda: data, data.size)
    return t


def lazy_constant(name: str, dtype: DType, shape: Sequence[int], load: Callable[[], npt.NDArray[Any]]) -> Tensor:
    """Make a weight whose numbers are loaded when they are needed."""
    t = Tensor(dtype, shape, name)
    t.data = Constant(load, int(np.prod(shape, dtype=object)))
    return t


def compute(dtype: DType, shape: Sequence[Dim], body: Callable[..., Expr], name: str = "") -> Tensor:
    """Make the tensor whose element at each index is body(*indices)."""
    t = Tensor(dtype, shape, name)
    t.body = body(*t.axes)
    stay_inside(reads(t.body), t.variables)
    if t.body.dtype is not dtype:
        raise TypeError(f"{t} is computed as {t.body.dtype}")
    return t


def reduction(
    fn: str, dtype: DType, shape: Sequence[Dim], extents: Sequence[Dim], body: Callable[..., Expr], name: str = ""
) -> Tensor:
    """Make the tensor whose element at each index is body(*indices, *r) combined by fn over all r in the extents (see
    loop.nodes.REDUCTIONS)."""
    t = Tensor(dtype, shape, name)
    over = [variable(f"r{t.id}_{a}", n) for a, n in enumerate(extents)]
    t.body, t.fn = body(*t.axes, *over), fn
    t.loops = tuple(s for r in over if not isinstance(r, int) for s in sorted(r.symbols))
    stay_inside(reads(t.body), (*t.variables, *t.loops))
    if t.body.dtype is not dtype:
        raise TypeError(f"{t} is computed as {t.body.dtype}")
    return t


def assemble(dtype: DType, shape: Sequence[Dim], parts: Sequence[tuple[Tensor, Sequence[Dim]]], name: str = "") -> Tensor:
    """Make a tensor from disjoint parts that cover it. parts: (part, the index in the whole of the part's first element).

    Each part must have been made for this whole and must not be a part of another tensor.
    """
    whole = Tensor(dtype, shape, name)
    for part, at in parts:
        assert part.into is None, f"{part} is a part already"
        part.into = whole, tuple(i + o for i, o in zip(part.axes, at, strict=True))
    whole.parts = tuple(p for p, _ in parts)
    return whole


def kernel_outputs(
    kernel: Kernel,
    inputs: Sequence[Tensor],
    outputs: Sequence[tuple[DType, Sequence[Dim]]],
    sizes: Sequence[Dim],
    checks: Sequence[str] = (),
    work: Dim | None = None,
) -> tuple[Tensor, ...]:
    """Make the outputs, of these dtypes and shapes, of a hand-written kernel on dense inputs (see KernelCall).

    Requires that each tensor has as many elements as the kernel may access, if the kernel declares that (its `lengths`).
    """
    made = tuple(Tensor(dtype, shape) for dtype, shape in outputs)
    stay_inside_buffers(kernel, (*inputs, *made), sizes)
    call = KernelCall(kernel, tuple(inputs), made, tuple(sizes), tuple(checks), work)
    for t in made:
        t.call = call
    return made
