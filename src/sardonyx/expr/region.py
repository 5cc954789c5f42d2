"""Repeated bodies: tensors computed once per iteration, with carried state, for RNN cells, Scan and Loop; and branches of an
If, which run once or not at all.

    finals, stacks = scan(trip, [h0], step)                 step(t, h) -> ([h_next], [y])

runs t = 0, 1, ... trip - 1 in order; the tensors of one iteration may be computed in parallel. A step reads the state that
the previous iteration left and, at indices over t, any tensor from outside. `stacks[i]` has a first axis of extent `trip`,
with y of iteration t at t.

    results = choose(condition, then, otherwise)            then() -> [y], otherwise() -> [y]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from msgspec import Struct

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
"""The trip count of a loop that only its condition ends."""
LARGEST = 1 << 40
"""Elements of a tensor that no machine can hold."""


class Carried(Struct, frozen=True):
    """A state: `initial` before the first iteration, read as `state` in an iteration, `update` at its end, `final` after the
    last iteration."""

    initial: Tensor
    state: Tensor
    update: Tensor
    final: Tensor


class Stacked(Struct, frozen=True):
    """A stacked result: iteration t writes `value` to `whole[t]`; a branch writes `value` to `whole`."""

    value: Tensor
    whole: Tensor


class Region(Struct, frozen=True, eq=False):
    """A repeated body: iterations t in [0, trip), while the bool scalar `proceed`, if given, is true. It is tested before
    each iteration.

    Tensors that depend on neither state nor t are computed once, before the loop, unless the region is `pinned`. With
    `proceed`, the number of iterations done is the symbol `done` and the only element of `count` (i64); rows of stacks beyond
    it are undefined.

        made    (first id, end id) of the body's tensors; None for a region without tensors of its own
        flag    for a branch: the bool scalar that says whether it runs
        before  for the second branch of an If: the first branch; both write the same wholes
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
        """The regions that make the outputs: this one and, for a second branch, the first one."""
        return (self,) if self.before is None else (self.before, self)

    @property
    def states(self) -> tuple[Carried, ...]:
        """Everything that is carried, the condition included."""
        return self.carried + ((self.proceed,) if self.proceed else ())

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors needed before the first iteration. Other operands of the body are found by walking its expressions."""
        return tuple(c.initial for c in self.states) + ((self.flag,) if self.flag else ())

    @property
    def results(self) -> tuple[Tensor, ...]:
        """The tensors that each iteration computes."""
        return tuple(c.update for c in self.carried) + tuple(s.value for s in self.stacked) + self.conditions

    @property
    def conditions(self) -> tuple[Tensor, ...]:
        """The condition that an iteration computes, if there is one."""
        return (self.proceed.update,) if self.proceed else ()

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that the region defines: final states, stacks, and the count."""
        counts = (self.count,) if self.count else ()
        return tuple(c.final for c in self.carried) + tuple(s.whole for s in self.stacked) + counts

    @property
    def at(self) -> float:
        """The region's position among the ids of the tensors around it: after everything that its body makes, before its
        outputs."""
        return self.made[1] if self.made is not None else min(t.id for t in self.outputs)


Step = Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]]


def scan(trip: Dim, initial: Sequence[Tensor], step: Step) -> tuple[list[Tensor], list[Tensor]]:
    """Run `trip` iterations of step. -> (final states, stacks). Raises Fail if a state changes its dtype, Unsupported if a
    state or stacked result changes its shape."""
    first, t = next_id(), Symbol(f"t{next(_count)}", trip)
    states = [input_tensor(f"{t.name}.state{i}", x.dtype, x.shape) for i, x in enumerate(initial)]
    with iteration(value(t)):
        updates, values = step(value(t), *states)
    made = first, next_id()
    carried, finals = carry_all(initial, states, updates)
    _, stacks = attach(Region(t, trip, carried, stack(t, trip, values), made=made))
    return finals, stacks


def while_loop(trip: Dim, proceed: Tensor, initial: Sequence[Tensor], step: Step) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Run iterations of step while a condition holds, at most `trip`. The first update of step is the next condition (a bool
    scalar).

    -> (final states, stacks of `trip` rows of which the first count[0] are defined, count: i64[])
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
    """Return then's tensors if the condition (a bool scalar) is true, else otherwise's. Only the branch that is taken is
    computed.

    merge: gives the shape of a result from its two variants.
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
    """Return t. Raises Fail if t is no bool scalar."""
    if t.dtype is not boolean or t.rank != 0:
        raise Fail(f"a condition must be a bool scalar, not {t}")
    return t


def require_bounded(results: Sequence[Tensor], t: Symbol, first: float) -> None:
    """Raise Unsupported if a tensor made since id `first` may grow with the iterations beyond any memory."""
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
    """Make the carried states. -> (carried, final states)

    A state that no iteration changes is not carried but replaced by its initial value. What depends on that alone, such as a
    packed copy of weights that a loop passes on, is then computed once, before the loop.
    """
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
    """Tell whether t is the whole source, possibly through several identity maps."""
    if t.shape != source.shape:
        return False
    while t is not source:
        body = t.body
        if t.fn or not isinstance(body, Read) or body.guard is not None or body.indices != t.axes:
            return False
        t = body.tensor
    return True


def carry(initial: Tensor, state: Tensor, update: Tensor) -> Carried:
    """Make a state. Raises Fail if its dtype changes. Raises Unsupported if its shape changes, which ONNX allows but which is
    not compiled."""
    if update.dtype is not initial.dtype:
        raise Fail(f"a loop's state begins as {initial} and goes on as {update}")
    if update.shape != initial.shape:
        raise Unsupported(f"a loop's state that begins as {initial} and goes on as {update}")
    return Carried(initial, state, update, Tensor(initial.dtype, initial.shape))


def stack(t: Symbol, trip: Dim, values: Sequence[Tensor]) -> tuple[Stacked, ...]:
    """Make the stacked results; all rows are required to have the shape of the first. Raises Unsupported if that shape
    depends on t."""
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
    """Set the region of its outputs. -> (final states, stacks)"""
    for t in region.outputs:
        t.region = region
    return [c.final for c in region.carried], [s.whole for s in region.stacked]
