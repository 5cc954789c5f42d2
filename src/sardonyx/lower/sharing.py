"""Build one kernel for all nests that differ only in their tensors.

The signature of a nest is everything that its kernel is made from, with loops and tensors numbered in the order of their
appearance. Sizes of the model keep their names, since they are arguments of the kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace as with_fields

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Symbol, substitute, symbols, value
from sardonyx.expr.tensor import Read, Tensor
from sardonyx.loop.nodes import Buffer, Expr, Kernel, Load, replace
from sardonyx.loop.printer import key as key_of
from sardonyx.lower.machine import Machine
from sardonyx.lower.nest import build
from sardonyx.lower.parallel import on_one_thread
from sardonyx.lower.place import Nest
from sardonyx.lower.values import Panels, Value, transform


class Shared(NamedTuple):
    """A kernel and how to call it for a nest of its signature.

    positions: of its arguments among the nest's tensors; counters: the loop counters of the nest that it was built from;
    sizes: the values of sizes that are its own; work: an estimate of its operations.
    """

    kernel: Kernel
    positions: tuple[int, ...]
    counters: tuple[Symbol, ...]
    sizes: dict[Symbol, Dim]
    work: Dim


class Kernels(Struct):
    """The kernels built so far, by the signatures of their nests. share: may nests share a kernel?"""

    share: bool = True
    built: dict[Hashable, Shared] = field(default_factory=dict)

    def build(
        self, nest: Nest, values: Mapping[Tensor, Value], machine: Machine, single_threaded: bool = False
    ) -> tuple[Kernel, list[Tensor], list[Dim], Dim]:
        """Return the nest's kernel, the tensors of its buffers, the values of its sizes, and its work. single_threaded: one
        thread computes all."""
        signature = Signature(values)
        key = signature.of(nest), single_threaded, 0 if self.share else len(self.built)
        if key not in self.built:
            kernel, arguments, known = build(nest, dict(values), machine, "kernel")
            work = sum((v.work for v in nest.statements), start=0)
            if single_threaded:
                kernel = with_fields(kernel, body=on_one_thread(kernel.body))
            kernel = with_fields(kernel, name=f"k_{key_of(kernel)[:20]}")
            positions = tuple(signature.tensors[t] for t in arguments)
            self.built[key] = Shared(kernel, positions, counters(nest), known, work)
        kernel, positions, theirs, known, work = self.built[key]
        tensors, own = list(signature.tensors), dict(zip(theirs, map(value, counters(nest)), strict=True))
        sizes = [substitute(known.get(s, value(s)), own) for s in kernel.sizes]
        return kernel, [tensors[i] for i in positions], sizes, substitute(work, own)


def counters(nest: Nest) -> tuple[Symbol, ...]:
    """List the iteration counters of the repeated bodies that contain the nest."""
    return tuple(region.step for region in nest.root.region)


class Signature:
    """Numbers the tensors and loops of one nest in the order of their appearance."""

    def __init__(self, values: Mapping[Tensor, Value]) -> None:
        self.values = values
        self.tensors: dict[Tensor, int] = {}
        self.loops: dict[Symbol, Dim] = {}

    def of(self, nest: Nest) -> Hashable:
        """Return the nest's signature. Nests of equal signature have equal kernels."""
        for depth, step in enumerate(counters(nest)):
            assert step.extent is not None
            self.loops[step] = value(Symbol(f"turn{depth}", self.dim(step.extent)))
        statements = [q for v in nest.statements for q in (v.tile, v) if q is not None]
        for s in [*nest.band, *(s for v in statements for s in (*v.variables, *v.loops))]:
            if s not in self.loops:
                assert s.extent is not None
                self.loops[s] = value(Symbol(f"loop{len(self.loops)}", self.dim(s.extent)))
        written = tuple(map(self.statement, statements))
        shape = (
            len(counters(nest)),
            self.dims(map(value, nest.band)),
            nest.panels_outermost,
            self.name(nest.root.tensor),
            *(self.name(v.tensor) for v in nest.members),
        )
        kinds, seen = [], 0
        while seen < len(self.tensors):  # describing a part may add its whole
            kinds.append(self.kind(list(self.tensors)[seen]))
            seen += 1
        return written, shape, tuple(kinds)

    def name(self, t: Tensor) -> int:
        """Return the number of tensor t; a new one for a tensor not seen before."""
        return self.tensors.setdefault(t, len(self.tensors))

    def dim(self, d: Dim) -> Dim:
        """Replace the loops in d by their numbered stand-ins."""
        return substitute(d, self.loops)

    def dims(self, found: Iterable[Dim]) -> tuple[Dim, ...]:
        return tuple(map(self.dim, found))

    def expr(self, e: Expr | None) -> Expr | None:
        """Rewrite e with a numbered buffer for each tensor and a numbered symbol for each loop."""

        def on_read(r: Read) -> Expr:
            buffer = stand_in(self.name(r.tensor), r.dtype)
            offset = sum((i * axis(a) for a, i in enumerate(r.indices)), start=0)
            return Load(buffer, offset, r.guard)

        return None if e is None else replace(transform(e, on_read), self.loops)

    def statement(self, v: Value) -> Hashable:
        """Describe one statement: its body, axes, reduction, and where it writes."""
        return (
            self.name(v.tensor),
            None if v.tile is None else self.name(v.tile.tensor),
            self.dims(v.axes),
            self.expr(v.body),
            self.expr(v.guard),
            v.fn,
            self.dims(map(value, v.loops)),
            None if v.into is None else (self.name(v.into[0]), self.dims(v.into[1])),
            v.stored,
            v.contracts,
        )

    def kind(self, t: Tensor) -> Hashable:
        """Describe a tensor beyond its statement: dtype, shape, strides, the tensor that it is a part of."""
        v = self.values[t]
        into: Hashable = None
        if v.into is not None:
            own = {s: axis(i) for i, a in enumerate(v.axes) for s in symbols(a)}
            into = self.name(v.into[0]), self.dims(substitute(d, own) for d in v.into[1])
        return t.dtype, self.dims(t.shape), self.dims(v.strides), into, isinstance(t, Panels), t.data is not None


@functools.cache
def stand_in(position: int, dtype: DType) -> Buffer:
    """Return the buffer that stands for the tensor of this number."""
    return Buffer(f"t{position}", dtype)


@functools.cache
def axis(number: int) -> Dim:
    """Return the symbol that stands for the stride of this axis."""
    return value(Symbol(f"#axis{number}"))
