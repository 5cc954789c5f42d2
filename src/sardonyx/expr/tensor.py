"""Tensor expressions: what each value is, as a pure function of its indices.

A `Tensor` has a dtype, a shape of `Dim`s and one of these definitions:

    body       an expression over its index variables; every `Read` in it names another tensor and the indices read
    reduction  the same, reduced by `fn` over further loop variables
    parts      the disjoint parts (other tensors, each written `into` this one) that make up the whole: Concat, Pad
    kernel     one output of a hand-written kernel (`KernelCall`)
    region     a result of a repeated body (`expr.region`)
    none       an input, or a constant with `data`

Tensors are created by the functions at the end of this file. They carry the name of the ONNX node under `origin.origin(...)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sardonyx.base import budget
from sardonyx.base.dtypes import DType, from_numpy
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, Symbol, named, value
from sardonyx.expr.origin import current_origin
from sardonyx.expr.reach import stay_inside, stay_inside_buffers
from sardonyx.expr.require import require_nonnegative
from sardonyx.loop.nodes import Expr, Kernel, dim_elements, walk

if TYPE_CHECKING:
    from sardonyx.expr.region import Region

MOST_AXES = 64
"""numpy's limit."""

_ids = itertools.count()


def next_id() -> int:
    """An id after those of all tensors made so far."""
    return next(_ids)


class Tensor:
    """A value of the graph. Identity is equality. `id` grows with creation, so operands come before their readers."""

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
        self.shape: tuple[Dim, ...] = tuple(map(named, shape))
        self.name = name or f"{self.origin or 't'}#{self.id}"
        # index variables; an axis of one element has the index 0
        self.axes: tuple[Dim, ...] = tuple(variable(f"i{self.id}_{a}", n) for a, n in enumerate(self.shape))
        self.loops: tuple[Symbol, ...] = ()  # reduced over, outermost first
        self.body: Expr | None = None
        self.fn: str | None = None  # of the reduction
        self.parts: tuple[Tensor, ...] = ()
        self.into: tuple[Tensor, tuple[Dim, ...]] | None = None  # the whole, and where in it, over self.axes
        self.call: KernelCall | None = None
        self.region: Region | None = None  # of expr.region, whose result it is
        self.rounded = False  # is it a narrow float because the model says so, not as the dtype of a result?
        self.data: Constant | None = None
        self.known: npt.NDArray[Any] | None = None  # memo of expr.known

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def variables(self) -> tuple[Symbol, ...]:
        """The loop variables among its axes."""
        return tuple(s for a in self.axes if not isinstance(a, int) for s in sorted(a.symbols))


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """Numbers known before the run: `load()` gives the array, read when it is needed and not kept."""

    load: Callable[[], npt.NDArray[Any]]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class KernelCall:
    """A hand-written kernel over whole, dense tensors: buffers are inputs then outputs; sizes are given by name.

    `checks` are the messages of its Check codes, with {0}, {1}, {2} for the details. work: roughly how many operations it does; None:
    so many as it has elements to read and write, or thereabouts.
    """

    kernel: Kernel
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sizes: tuple[Dim, ...]
    checks: tuple[str, ...] = ()
    work: Dim | None = None


class Read(Expr):
    """tensor[indices]; where the guard is false nothing is read and the value is zero."""

    __slots__ = ()

    def __new__(cls, tensor: Tensor, indices: tuple[Dim, ...], guard: Expr | None = None) -> Read:
        if len(indices) != tensor.rank:
            raise TypeError(f"{len(indices)} indices for {tensor}")
        return super().__new__(cls, tensor, indices, guard, dtype=tensor.dtype)  # type: ignore[return-value]

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
    """A loop variable as an index; 0 where there is one element only."""
    return 0 if isinstance(extent, int) and extent == 1 else value(Symbol(name, extent))


def reads(body: Expr) -> list[Read]:
    """All reads in a body, each once, also those inside data-dependent indices and guards."""
    return [n for n in walk(body) if isinstance(n, Read)]


def operands(t: Tensor) -> list[Tensor]:
    """The tensors that t is directly made of."""
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
    """A value that the caller feeds."""
    return Tensor(dtype, shape, name)


def constant(data: npt.NDArray[Any], name: str = "") -> Tensor:
    """A tensor of numbers that are known now."""
    t = Tensor(from_numpy(data.dtype), data.shape, name)
    t.data = Constant(lambda: data, data.size)
    return t


def lazy_constant(name: str, dtype: DType, shape: Sequence[int], load: Callable[[], npt.NDArray[Any]]) -> Tensor:
    """A weight whose numbers are read when they are packed."""
    t = Tensor(dtype, shape, name)
    t.data = Constant(load, int(np.prod(shape, dtype=object)))
    return t


def compute(dtype: DType, shape: Sequence[Dim], body: Callable[..., Expr], name: str = "") -> Tensor:
    """The tensor with body(*indices) at each index."""
    t = Tensor(dtype, shape, name)
    t.body = body(*t.axes)
    stay_inside(reads(t.body), t.variables)
    if t.body.dtype is not dtype:
        raise TypeError(f"{t} is computed as {t.body.dtype}")
    return t


def reduction(
    fn: str, dtype: DType, shape: Sequence[Dim], extents: Sequence[Dim], body: Callable[..., Expr], name: str = ""
) -> Tensor:
    """The tensor with fn over all r of body(*indices, *r) at each index, r in the given extents (fn: loop.nodes.REDUCTIONS)."""
    t = Tensor(dtype, shape, name)
    over = [variable(f"r{t.id}_{a}", n) for a, n in enumerate(extents)]
    t.body, t.fn = body(*t.axes, *over), fn
    t.loops = tuple(s for r in over if not isinstance(r, int) for s in sorted(r.symbols))
    stay_inside(reads(t.body), (*t.variables, *t.loops))
    if t.body.dtype is not dtype:
        raise TypeError(f"{t} is computed as {t.body.dtype}")
    return t


def assemble(dtype: DType, shape: Sequence[Dim], parts: Sequence[tuple[Tensor, Sequence[Dim]]], name: str = "") -> Tensor:
    """The whole made of disjoint parts that cover it: (part, the index in the whole of the part's first element).

    Each part is a tensor made for this whole alone.
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
    """The outputs, of given dtypes and shapes, of a hand-written kernel over dense inputs; see KernelCall.

    Requires that each has as many elements as the kernel may touch, as far as the kernel says so (its `lengths`).
    """
    made = tuple(Tensor(dtype, shape) for dtype, shape in outputs)
    stay_inside_buffers(kernel, (*inputs, *made), sizes)
    call = KernelCall(kernel, tuple(inputs), made, tuple(sizes), tuple(checks), work)
    for t in made:
        t.call = call
    return made
