"""Repetition: a body of tensors computed once per step, with carried state. RNN cells, Scan, Loop.

    finals, stacks = scan(trip, [h0], step)        step(t, h) -> ([h_next], [y])

runs t = 0, 1, ... trip - 1, one after the other, each step's tensors in parallel. A step reads the state of the step before and, by
indices over t, any tensor from outside; `stacks[i]` has a first axis of `trip` and y of step t at t.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim, Symbol, value
from sardonyx.expr.tensor import Tensor, input_tensor

_count = itertools.count()


@dataclass(frozen=True, slots=True)
class Carried:
    """State: `initial` before the first step, read as `state` inside a step, `update` after it, `final` after the last."""

    initial: Tensor
    state: Tensor
    update: Tensor
    final: Tensor


@dataclass(frozen=True, slots=True)
class Stacked:
    """`value` of step t is `whole[t]`."""

    value: Tensor
    whole: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Steps t in [0, trip), as long as `proceed` (a bool scalar: its initial value, then its update) holds, if there is one.

    Of the tensors that a step makes, those that depend on neither state nor t are computed once, before; with `pinned` (ids from first
    to last) all stay inside. With `proceed` the number of steps done is `done`, and `count`'s only element (i64), and rows of the stacks
    past it are undefined.
    """

    step: Symbol
    trip: Dim
    carried: tuple[Carried, ...]
    stacked: tuple[Stacked, ...]
    proceed: Carried | None = None
    count: Tensor | None = None
    pinned: tuple[float, float] | None = None
    done: Symbol | None = None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What must be there before the first step; the body's other operands are found by walking it."""
        conditions = (self.proceed.initial,) if self.proceed else ()
        return tuple(c.initial for c in self.carried) + conditions

    @property
    def results(self) -> tuple[Tensor, ...]:
        """What a step computes."""
        conditions = (self.proceed.update,) if self.proceed else ()
        return tuple(c.update for c in self.carried) + tuple(s.value for s in self.stacked) + conditions

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        counts = (self.count,) if self.count else ()
        return tuple(c.final for c in self.carried) + tuple(s.whole for s in self.stacked) + counts


Step = Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]]


def scan(trip: Dim, initial: Sequence[Tensor], step: Step) -> tuple[list[Tensor], list[Tensor]]:
    """(final states, stacks) of `trip` steps. Raises Fail if a state changes its dtype or shape."""
    t = Symbol(f"t{next(_count)}", trip)
    states = [input_tensor(f"{t.name}.state{i}", x.dtype, x.shape) for i, x in enumerate(initial)]
    updates, values = step(value(t), *states)
    region = Region(
        t,
        trip,
        tuple(carry(x, s, u) for x, s, u in zip(initial, states, updates, strict=True)),
        tuple(Stacked(v, Tensor(v.dtype, (trip, *v.shape))) for v in values),
    )
    return attach(region)


def while_loop(
    trip: Dim, proceed: Tensor, initial: Sequence[Tensor], step: Step, pinned: bool = False
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Like `scan`, but only as long as a condition holds: step's first update is the next condition (a bool scalar).

    -> (final states, stacks of `trip` rows of which only the first count[0] are defined, count: i64[])
    """
    if proceed.dtype is not boolean or proceed.rank != 0:
        raise Fail(f"the condition of a loop must be a bool scalar, not {proceed}")
    t = Symbol(f"t{next(_count)}", trip)
    holds = input_tensor(f"{t.name}.proceed", boolean, ())
    states = [input_tensor(f"{t.name}.state{i}", x.dtype, x.shape) for i, x in enumerate(initial)]
    (condition, *updates), values = step(value(t), *states)
    count = Tensor(i64, ())
    region = Region(
        t,
        trip,
        tuple(carry(x, s, u) for x, s, u in zip(initial, states, updates, strict=True)),
        tuple(Stacked(v, Tensor(v.dtype, (trip, *v.shape))) for v in values),
        carry(proceed, holds, condition),
        count,
        (holds.id, count.id) if pinned else None,
        Symbol(f"{t.name}.done", trip + 1),
    )
    finals, stacks = attach(region)
    return finals, stacks, count


def carry(initial: Tensor, state: Tensor, update: Tensor) -> Carried:
    if update.dtype is not initial.dtype or update.shape != initial.shape:
        raise Fail(f"a loop's state begins as {initial} and goes on as {update}")
    return Carried(initial, state, update, Tensor(initial.dtype, initial.shape))


def attach(region: Region) -> tuple[list[Tensor], list[Tensor]]:
    for t in region.outputs:
        t.region = region
    return [c.final for c in region.carried], [s.whole for s in region.stacked]
