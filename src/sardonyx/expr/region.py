"""Repetition: a body of tensors computed once per iteration, with carried state. RNN cells, Scan, Loop; and If, whose branches run
once or not at all.

    finals, stacks = scan(trip, [h0], step)                 step(t, h) -> ([h_next], [y])

runs t = 0, 1, ... trip - 1, one after the other, each iteration's tensors in parallel. A step reads the state of the iteration before
and, by indices over t, any tensor from outside; `stacks[i]` has a first axis of `trip` and y of iteration t at t.

    results = choose(condition, then, otherwise)            then() -> [y], otherwise() -> [y]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sardonyx.base.bounds import greatest
from sardonyx.base.dtypes import boolean, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, Symbol, evaluate, product, substitute, symbols, value
from sardonyx.expr import require
from sardonyx.expr.dependence import closure
from sardonyx.expr.draws import iteration
from sardonyx.expr.require import not_below_zero, require_equal
from sardonyx.expr.scalar import apply
from sardonyx.expr.tensor import Read, Tensor, compute, input_tensor, next_id, operands

_count = itertools.count()

ENDLESS = 1 << 62
"""The number of iterations of a loop that only its condition ends."""
LARGEST = 1 << 40
"""Elements of a tensor that no machine holds."""


@dataclass(frozen=True, slots=True)
class Carried:
    """State: `initial` before the first iteration, read as `state` inside one, `update` after it, `final` after the last."""

    initial: Tensor
    state: Tensor
    update: Tensor
    final: Tensor


@dataclass(frozen=True, slots=True)
class Stacked:
    """`value` of iteration t is `whole[t]`; of a branch, `whole`."""

    value: Tensor
    whole: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Iterations t in [0, trip), as long as `proceed` (a bool scalar: its initial value, then its update) holds, if there is one.

    Of the tensors that an iteration makes, those that depend on neither state nor t are computed once, before; unless `pinned`. With
    `proceed` the number of iterations done is `done`, and `count`'s only element (i64), and rows of the stacks past it are undefined.

    made    ids of the tensors made by the body: from the first to the one after the last; None for a region that has none of its own
    flag    of a branch: whether it runs (a bool scalar)
    before  of the second of two branches: the first one; they write the same wholes
    """

    step: Symbol
    trip: Dim
    carried: tuple[Carried, ...]
    stacked: tuple[Stacked, ...]
    proceed: Carried | None = None
    count: Tensor | None = None
    done: Symbol | None = None
    made: tuple[float, float] | None = None
    pinned: bool = False
    flag: Tensor | None = None
    before: Region | None = None

    @property
    def both(self) -> tuple[Region, ...]:
        """The regions that make the outputs: this one, and the branch before it."""
        return (self,) if self.before is None else (self.before, self)

    @property
    def states(self) -> tuple[Carried, ...]:
        """All that is carried, the condition too."""
        return self.carried + ((self.proceed,) if self.proceed else ())

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What must be there before the first iteration; the body's other operands are found by walking it."""
        return tuple(c.initial for c in self.states) + ((self.flag,) if self.flag else ())

    @property
    def results(self) -> tuple[Tensor, ...]:
        """What an iteration computes."""
        return tuple(c.update for c in self.carried) + tuple(s.value for s in self.stacked) + self.conditions

    @property
    def conditions(self) -> tuple[Tensor, ...]:
        return (self.proceed.update,) if self.proceed else ()

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        counts = (self.count,) if self.count else ()
        return tuple(c.final for c in self.carried) + tuple(s.whole for s in self.stacked) + counts

    @property
    def at(self) -> float:
        """Its place among the ids of the tensors around it: after all that its body makes, before its outputs."""
        return self.made[1] if self.made is not None else min(t.id for t in self.outputs)


Step = Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]]


def scan(trip: Dim, initial: Sequence[Tensor], step: Step) -> tuple[list[Tensor], list[Tensor]]:
    """(final states, stacks) of `trip` iterations. Raises Fail if a state changes its dtype, Unsupported if one, or what is stacked,
    changes its shape."""
    first, t = next_id(), Symbol(f"t{next(_count)}", trip)
    states = [input_tensor(f"{t.name}.state{i}", x.dtype, x.shape) for i, x in enumerate(initial)]
    with iteration(value(t)):
        updates, values = step(value(t), *states)
    made = first, next_id()
    carried, finals = carry_all(initial, states, updates)
    _, stacks = attach(Region(t, trip, carried, stack(t, trip, values), made=made))
    return finals, stacks


def while_loop(trip: Dim, proceed: Tensor, initial: Sequence[Tensor], step: Step) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Like `scan`, but only as long as a condition holds: step's first update is the next condition (a bool scalar).

    -> (final states, stacks of `trip` rows of which only the first count[0] are defined, count: i64[])
    """
    first, t = next_id(), Symbol(f"t{next(_count)}", trip)
    holds = input_tensor(f"{t.name}.proceed", boolean, ())
    states = [input_tensor(f"{t.name}.state{i}", x.dtype, x.shape) for i, x in enumerate(initial)]
    with iteration(value(t)):
        (condition, *updates), values = step(value(t), *states)
    if trip == ENDLESS:
        require_bounded([condition, *updates, *values], t, first)
    made = first, next_id()
    carried, finals = carry_all(initial, states, updates)
    region = Region(
        t,
        trip,
        carried,
        stack(t, trip, values),
        carry(require_condition(proceed), holds, require_condition(condition)),
        count=Tensor(i64, ()),
        done=Symbol(f"{t.name}.done", trip + 1),
        made=made,
    )
    _, stacks = attach(region)
    assert region.count is not None
    return finals, stacks, region.count


def choose(
    condition: Tensor,
    then: Callable[[], Sequence[Tensor]],
    otherwise: Callable[[], Sequence[Tensor]],
    merge: Callable[[Tensor, Tensor], Sequence[Dim]],
) -> list[Tensor]:
    """then's tensors if the condition (a bool scalar) holds, else those of otherwise; all of a branch is computed only if it is taken.

    merge: the shape of what is the one or the other.
    """
    flags = [require_condition(condition), compute(boolean, (), lambda: apply("not", Read(condition, ())))]
    branches: list[tuple[Symbol, Sequence[Tensor], tuple[float, float]]] = []
    for body in (then, otherwise):
        first, t = next_id(), Symbol(f"t{next(_count)}", 1)
        with require.only_if(t):
            results = body()
        branches.append((t, results, (first, next_id())))
    wholes = [Tensor(x.dtype, merge(x, y)) for x, y in zip(branches[0][1], branches[1][1], strict=True)]
    before: Region | None = None
    for (t, results, made), flag in zip(branches, flags, strict=True):
        written = tuple(Stacked(x, whole) for x, whole in zip(results, wholes, strict=True))
        before = Region(t, 1, (), written, made=made, pinned=True, flag=flag, before=before)
    assert before is not None
    return attach(before)[1]


def require_condition(t: Tensor) -> Tensor:
    """Raises Fail if t is no bool scalar."""
    if t.dtype is not boolean or t.rank != 0:
        raise Fail(f"a condition must be a bool scalar, not {t}")
    return t


def require_bounded(results: Sequence[Tensor], t: Symbol, first: float) -> None:
    """Raises Unsupported if a tensor made since `first` may become larger and larger with the iterations."""
    waiting, seen = list(results), set(results)
    while waiting:
        x = waiting.pop()
        size = greatest(product(x.shape), t, 0, ENDLESS)
        if evaluate(size, lambda s: 256) > LARGEST:
            raise Unsupported(f"a tensor that grows with the iterations of a loop without a trip count: {x}")
        fresh = [o for o in operands(x) if o.id >= first and o not in seen]
        waiting += fresh
        seen.update(fresh)


def carry_all(
    initial: Sequence[Tensor], states: Sequence[Tensor], updates: Sequence[Tensor]
) -> tuple[tuple[Carried, ...], list[Tensor]]:
    """(what is carried, the final states). A state that no iteration changes is not carried: it is the initial value everywhere, so that
    what follows from it alone (a packed copy of weights that a loop passes on) is computed once, before the loop."""
    carried: list[Carried] = []
    finals: list[Tensor] = []
    for x, s, u in zip(initial, states, updates, strict=True):
        if is_identity(u, s):
            s.body = Read(x, s.axes)
            finals.append(x)
        else:
            carried.append(carry(x, s, u))
            finals.append(carried[-1].final)
    return tuple(carried), finals


def is_identity(t: Tensor, source: Tensor) -> bool:
    """Is t the source itself, all of it, however often it was named anew?"""
    if t.shape != source.shape:
        return False
    while t is not source:
        body = t.body
        if t.fn or not isinstance(body, Read) or body.guard is not None or body.indices != t.axes:
            return False
        t = body.tensor
    return True


def carry(initial: Tensor, state: Tensor, update: Tensor) -> Carried:
    """Raises Fail for another dtype, Unsupported for another shape, which is allowed, but has no compiled form."""
    if update.dtype is not initial.dtype:
        raise Fail(f"a loop's state begins as {initial} and goes on as {update}")
    if update.shape != initial.shape:
        raise Unsupported(f"a loop's state that begins as {initial} and goes on as {update}")
    return Carried(initial, state, update, Tensor(initial.dtype, initial.shape))


def stack(t: Symbol, trip: Dim, values: Sequence[Tensor]) -> tuple[Stacked, ...]:
    """All rows have the shape of the first: what may differ is required not to, at each iteration. Raises Unsupported where the first
    row's shape can't be told."""
    out = []
    for v in values:
        row = [not_below_zero(substitute(n, {t: 0})) for n in v.shape]
        if t in closure(frozenset().union(*map(symbols, row))):
            raise Unsupported(f"rows of a loop's result that differ in shape: {v}")
        for n, m in zip(v.shape, row, strict=True):
            require_equal(n, m, "the rows of a loop's result differ in shape: {} and {}", row, v.shape)
        out.append(Stacked(v, Tensor(v.dtype, (trip, *row))))
    return tuple(out)


def attach(region: Region) -> tuple[list[Tensor], list[Tensor]]:
    for t in region.outputs:
        t.region = region
    return [c.final for c in region.carried], [s.whole for s in region.stacked]
