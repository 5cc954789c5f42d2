"""Verify a lowered program: every step finds what it needs. Takes time linear in the number of steps.

In the order in which the steps run:

1. What a step reads was written by an earlier step, is an input, or is a constant. This includes a loop's state before it
   begins.
2. The symbols in its sizes, trip count and buffer shapes are known. They are sizes of inputs, sizes read back after an earlier
   segment, inside a loop its counter, and after a loop, in the same body or an enclosing one, the number of iterations done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from sardonyx.base.symbolic import Dim, Symbol, single, symbols
from sardonyx.expr.dependence import closure
from sardonyx.expr.known import DataSymbol
from sardonyx.expr.tensor import Tensor
from sardonyx.lower.schedule import Call, Repeat, Segment, Step


class LoweringError(ValueError):
    """Lowering has produced an inconsistent program. The message names the node."""


def verify(
    inputs: Sequence[Tensor], constants: Sequence[Tensor], readbacks: Sequence[DataSymbol], segments: Sequence[Segment]
) -> None:
    """Raise LoweringError for a step that reads a tensor not yet written, or names a size not yet known."""
    state = _There({*inputs, *constants}, {s for t in inputs for n in t.shape if (s := single(n)) is not None})
    last = {t: number for number, segment in enumerate(segments) for step in segment.steps for t in step.writes}
    for number, segment in enumerate(segments):
        state.known |= {p for p in readbacks if p.tensor in state.written and last.get(p.tensor, -1) < number}
        state.run(segment.steps)
        state.need_sizes("the memory of a segment", [*segment.offsets.values(), *segment.sizes.values(), segment.arena])


class _There(Struct):
    """The tensors written and the symbols known at the present point of the program."""

    written: set[Tensor]
    known: set[Symbol]

    def run(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Call):
                self.call(step)
            else:
                self.repeat(step)

    def call(self, c: Call) -> None:
        name = f"{', '.join(filter(None, c.origins)) or c.kernel.name}"
        self.need(name, c.reads)
        self.need_sizes(name, c.sizes)
        self.written |= c.writes

    def repeat(self, r: Repeat) -> None:
        name = f"the loop {r.region.step}"
        self.need(name, [*r.states, *([] if r.flag is None else [r.flag])])
        self.need_sizes(name, [r.region.trip])
        self.known.add(r.region.step)
        self.run(r.steps)
        self.known.remove(r.region.step)
        if r.region.done is not None:
            self.known.add(r.region.done)

    def need(self, name: str, tensors: Iterable[Tensor]) -> None:
        for t in tensors:
            if t not in self.written:
                raise LoweringError(f"{name} reads {t}, which nothing has written by then")

    def need_sizes(self, name: str, sizes: Iterable[Dim]) -> None:
        for n in sizes:
            missing = {s for s in closure(symbols(n)) if s not in self.known}
            if missing:
                raise LoweringError(f"{name} needs the size {n}, but {min(missing)} is not known by then")
