"""Emits loops as basic blocks: conditional regions, counted loops with carried values, and vector loops with their remainders.

A vector loop over [lo, hi) with L lanes and `unroll` accumulators, for hi > lo, becomes

    for i = lo, step L unroll, as far as whole steps go: `unroll` bodies        (if unroll > 1)
    for i = ..., step L, as far as whole steps go:       body
    if i < hi:  body under a mask, where masked accesses are cheap; else        for i < hi: body on one lane
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Symbol
from sardonyx.codegen import arithmetic
from sardonyx.codegen.checks import leave_or
from sardonyx.codegen.integers import integer
from sardonyx.codegen.llvm_types import I1, I32, Block, Value
from sardonyx.codegen.scopes import Bound, Frame, Lanes, Scope, Spine
from sardonyx.loop.nodes import Buffer

States = list[Value]
Body = Callable[[States], States]
Stores = frozenset[Buffer]


def region(f: Frame, condition: Value | None, states: Sequence[Value], body: Body, fenced: bool = True) -> States:
    """Emit `if condition: states = body(states)`. Without a condition the body always runs, in the enclosing scope.

    fenced: the body's loads may not be hoisted above the condition.
    """
    if condition is None:
        return body(list(states))
    w = f.builder
    inside, after = w.block("then"), w.block("after")
    f.push(Scope(Spine(inside), fenced=fenced))
    inner = body(list(states))
    end = f.pop()
    close(f, end, after)
    before = w.b.block
    w.b.cbranch(condition, inside, after)
    w.b.position_at_end(after)
    return merged(f, [(before, list(states)), (end, inner)])


def when(f: Frame, condition: Value | None, body: Callable[[], None]) -> None:
    """Emit `if condition: body`."""

    def run(states: States) -> States:
        body()
        return states

    region(f, condition, [], run)


def close(f: Frame, end: Block, target: Block) -> None:
    """Branch from a finished block to target."""
    here = f.builder.b.block
    f.builder.b.position_at_end(end)
    f.builder.b.branch(target)
    f.builder.b.position_at_end(here)


def merged(f: Frame, ways: Sequence[tuple[Block, States]]) -> States:
    """Emit phis at the start of the current block for the states that each predecessor brings."""
    out: States = []
    for values in zip(*(states for _, states in ways), strict=True):
        if all(v is values[0] for v in values):
            out.append(values[0])
            continue
        phi = f.builder.b.phi(values[0].type)
        for (block, _), v in zip(ways, values, strict=True):
            phi.add_incoming(v, block)
        out.append(phi)
    return out


def joined(f: Frame, symbol: Symbol, bound: Bound, body: Body, states: States) -> States:
    """Emit body in a scope of its own, in which the symbol has this value, without starting a new block."""
    f.push(Scope(f.scopes[-1].spine))
    f.bind(symbol, bound)
    out = body(states)
    f.pop()
    return out


class Counter(Struct, frozen=True):
    """The values start, start + step, ... below stop.

    trips: how many there are, if known. poll_interval: the iterations between two polls of should_stop (None: it never polls).
    """

    symbol: Symbol
    start: Value
    stop: Value
    step: int
    trips: int | None
    poll_interval: int | None = None


def counted(f: Frame, counter: Counter, stores: Stores, states: Sequence[Value], body: Body) -> tuple[Value, States]:
    """Emit a loop that runs body(states) at least once; if `trips` is known, stop is start + trips step.

    -> (the first value for which the body didn't run, states)
    """
    w = f.builder
    if counter.trips == 1:
        return counter.stop, joined(f, counter.symbol, Bound(counter.start), body, list(states))
    head, after = w.block("loop"), w.block("done")
    strips = _strips(f, counter, states, head)
    f.forget(stores)
    f.push(Scope(Spine(head), stores=stores))
    variable = w.b.phi(w.index)
    phis = [w.b.phi(v.type) for v in states]
    f.bind(counter.symbol, Bound(variable))
    out = body(list(phis))
    following = w.b.add(variable, w.number(counter.step))
    w.b.cbranch(w.b.icmp_signed("<", following, counter.stop if strips is None else strips.limit), head, after)
    end = f.pop()
    before, begin = w.b.block, [counter.start, *states]
    if strips is not None:
        w.b.branch(strips.block)
        for phi, first in zip(strips.phis, begin, strict=True):
            phi.add_incoming(first, before)
        before, begin = strips.block, strips.phis
    else:
        w.b.branch(head)
    for phi, first, later in zip([variable, *phis], begin, [following, *out], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, end)
    w.b.position_at_end(after)
    if strips is not None:
        _ask_after(f, strips, counter, [following, *out])
    return following if counter.trips is None else counter.stop, out


class Strips(Struct, frozen=True):
    """A loop divided into strips: the block before each strip, the start and the states there, and where the strip ends."""

    block: Block
    phis: list[Value]
    limit: Value


def _strips(f: Frame, counter: Counter, states: Sequence[Value], head: Block) -> Strips | None:
    """Emit the block `strip`, which sets limit = min(start + poll_interval step, stop) and enters the loop; None if the loop
    doesn't poll.
    """
    w, trips = f.builder, counter.poll_interval
    if trips is None or (counter.trips is not None and counter.trips <= trips):
        return None
    here, strip = w.b.block, w.block("strip")
    w.b.position_at_end(strip)
    phis = [w.b.phi(w.index), *(w.b.phi(v.type) for v in states)]
    end = w.b.add(phis[0], w.number(trips * counter.step))
    limit = w.b.select(w.b.icmp_signed("<", end, counter.stop), end, counter.stop)
    w.b.branch(head)
    w.b.position_at_end(here)
    return Strips(strip, phis, limit)


def _ask_after(f: Frame, strips: Strips, counter: Counter, states: Sequence[Value]) -> None:
    """After a strip, if iterations are left: leave the kernel if should_stop says so, else begin the next strip."""
    w = f.builder
    more, on = w.block("more"), w.block("on")
    w.b.cbranch(w.b.icmp_signed("<", states[0], counter.stop), more, on)
    w.b.position_at_end(more)
    leave_or(f, strips.block)
    for phi, value in zip(strips.phis, states, strict=True):
        phi.add_incoming(value, more)
    w.b.position_at_end(on)


def maybe_counted(f: Frame, counter: Counter, stores: Stores, states: States, body: Body) -> tuple[Value, States]:
    """Emit a counted loop that may run no iteration; the region around it is known to run."""
    if counter.trips is not None:
        return (counter.start, states) if counter.trips == 0 else counted(f, counter, stores, states, body)

    def loop(states: States) -> States:
        position, out = counted(f, counter, stores, states[1:], body)
        return [position, *out]

    condition = f.builder.b.icmp_signed("<", counter.start, counter.stop)
    position, *out = region(f, condition, [counter.start, *states], loop, fenced=False)
    return position, out


def nonempty(f: Frame, lo: Dim, hi: Dim) -> Value | None:
    """Emit lo < hi; None where it certainly holds."""
    count = hi - lo
    if isinstance(count, int) and count > 0:
        return None
    return f.builder.b.icmp_signed("<", integer(f, lo), integer(f, hi))


class SerialLoop(Struct, frozen=True):
    """for symbol in range(lo, hi). stores: the buffers that it stores to. poll_interval: as in Counter."""

    symbol: Symbol
    lo: Dim
    hi: Dim
    stores: Stores
    poll_interval: int | None


def serial(f: Frame, loop: SerialLoop, states: Sequence[Value], body: Body) -> States:
    """Emit `for symbol in range(lo, hi): states = body(states)`."""
    if is_empty(loop.lo, loop.hi):
        return list(states)
    return region(f, nonempty(f, loop.lo, loop.hi), states, lambda s: iterate(f, loop, s, body))


def iterate(f: Frame, loop: SerialLoop, states: Sequence[Value], body: Body) -> States:
    """Emit the loop where lo < hi is known."""
    count = loop.hi - loop.lo
    known = count if isinstance(count, int) else None
    counter = Counter(loop.symbol, integer(f, loop.lo), integer(f, loop.hi), 1, known, loop.poll_interval)
    return counted(f, counter, loop.stores, states, body)[1]


def is_empty(lo: Dim, hi: Dim) -> bool:
    """Is range(lo, hi) certainly empty?"""
    count = hi - lo
    return isinstance(count, int) and count <= 0


# ---- vector loops ---------------------------------------------------------------------------------------------------------


class Reduction(Struct, frozen=True):
    """A value that a vector loop accumulates: the operation and its dtype."""

    fn: str
    dtype: DType


class VectorLoop(Struct, frozen=True):
    """for symbol in range(lo, hi), `lanes` iterations at a time.

    stores: the buffers that it stores to. reductions: the values that it accumulates. masked: its remainder runs under a
    mask, else one lane at a time. unroll: accumulators per reduction. poll_interval: counted in single iterations, as in
    Counter.
    """

    symbol: Symbol
    lo: Dim
    hi: Dim
    lanes: int
    stores: Stores
    reductions: tuple[Reduction, ...]
    masked: bool
    unroll: int = 1
    poll_interval: int | None = None

    @property
    def trips(self) -> Dim:
        return self.hi - self.lo

    @property
    def exact(self) -> bool:
        """Is the number of iterations certainly a multiple of the lanes?"""
        return multiple_of(self.trips, self.lanes)

    @property
    def has_tail(self) -> bool:
        """Does the loop also accumulate scalars, for a remainder of single lanes?"""
        return not self.masked and not self.exact


def multiple_of(dim: Dim, number: int) -> bool:
    """Is dim certainly a multiple of number?"""
    return dim % number == 0 if isinstance(dim, int) else all(c % number == 0 for c in dim.terms.values())


def begin(f: Frame, loop: VectorLoop) -> States:
    """Return the accumulators before a vector loop: a vector per reduction, then a scalar per reduction if there is a tail."""
    vectors = [arithmetic.neutral(f.builder, r.fn, r.dtype, loop.lanes) for r in loop.reductions]
    return vectors + ([arithmetic.neutral(f.builder, r.fn, r.dtype, None) for r in loop.reductions] if loop.has_tail else [])


def finish(f: Frame, reduction: Reduction, lanes: Value, tail: Value | None) -> Value:
    """Return the value of a reduction: its lanes combined, then combined with the tail's scalar."""
    fn, dtype = reduction.fn, reduction.dtype
    total = arithmetic.across_lanes(f.builder, fn, dtype, lanes)
    return total if tail is None else arithmetic.emit(f.builder, fn, dtype, (total, tail))


def vector(f: Frame, loop: VectorLoop, states: States, body: Body) -> States:
    """Emit a vector loop of at least one iteration. states: the accumulators, as `begin` returns them; body maps those of one
    iteration.
    """
    n = len(loop.reductions)
    vectors, scalars = states[:n], states[n:]
    position, done = integer(f, loop.lo), 0
    if loop.unroll > 1:
        counter = _stretch(f, loop, position, done, loop.unroll * loop.lanes)
        position, vectors = _unrolled(f, loop, counter, vectors, body)
        done = (counter.trips or 0) * counter.step
        if loop.masked and not loop.exact:
            return _masked_iterations(f, loop, position, done, vectors, body)
    counter = _stretch(f, loop, position, done, loop.lanes)
    position, vectors = maybe_counted(f, counter, loop.stores, vectors, _in_lanes(f, loop, body))
    if loop.exact:
        return vectors + scalars
    if loop.masked:
        return _masked(f, loop, position, vectors, body)
    counter = _stretch(f, loop, position, done + (counter.trips or 0) * counter.step, 1)
    return vectors + maybe_counted(f, counter, loop.stores, scalars, body)[1]


def _stretch(f: Frame, loop: VectorLoop, position: Value, done: int, step: int) -> Counter:
    """Return the counter of the next part of the loop: from position, as many whole steps as fit.

    done: how many iterations lie before position, if that is known.
    """
    w, trips = f.builder, loop.trips
    poll_interval = None if loop.poll_interval is None else max(loop.poll_interval // step, 1)
    if isinstance(trips, int):
        count = (trips - done) // step
        return Counter(loop.symbol, position, w.add(position, w.number(count * step)), step, count, poll_interval)
    if step == 1:  # the remainder after whole vectors
        return Counter(
            loop.symbol,
            position,
            w.add(integer(f, loop.lo), integer(f, trips)),
            step,
            None,
            poll_interval if loop.lanes == 1 else None,
        )
    whole = w.b.and_(integer(f, trips), w.number(-step))
    return Counter(loop.symbol, position, w.add(integer(f, loop.lo), whole), step, None, poll_interval)


def _in_lanes(f: Frame, loop: VectorLoop, body: Body, mask: Value | None = None) -> Body:
    """Return body, run as an iteration of the vector loop under a mask."""

    def run(states: States) -> States:
        assert f.vector is None
        f.vector = Lanes(loop.symbol, loop.lanes, f.home[loop.symbol], mask)
        out = body(states)
        f.vector = None
        return out

    return run


def _unrolled(f: Frame, loop: VectorLoop, counter: Counter, states: States, body: Body) -> tuple[Value, States]:
    """Emit the unrolled part: `unroll` bodies per iteration, each with its own accumulators, which are combined in order at the
    end.
    """
    n = len(states)
    neutral = [arithmetic.neutral(f.builder, r.fn, r.dtype, loop.lanes) for r in loop.reductions]
    run = _in_lanes(f, loop, body)

    def several(states: States) -> States:
        value = f.scopes[f.home[loop.symbol]].bound[loop.symbol].value
        out: States = []
        for u in range(loop.unroll):
            out += joined(f, loop.symbol, Bound(value, u * loop.lanes), run, states[u * n : u * n + n])
        return out

    position, flat = maybe_counted(f, counter, loop.stores, states + neutral * (loop.unroll - 1), several)
    total = flat[:n]
    for u in range(1, loop.unroll):
        total = [arithmetic.emit(f.builder, r.fn, r.dtype, (total[i], flat[u * n + i])) for i, r in enumerate(loop.reductions)]
    return position, total


def _masked(f: Frame, loop: VectorLoop, position: Value, states: States, body: Body) -> States:
    """Emit the remainder, fewer than `lanes` iterations, under a mask."""
    if isinstance(loop.trips, int):
        mask = f.builder.listed(I1, [int(i < loop.trips % loop.lanes) for i in range(loop.lanes)])
        return joined(f, loop.symbol, Bound(position), _in_lanes(f, loop, body, mask), states)
    stop = integer(f, loop.hi)

    def last(states: States) -> States:
        return joined(f, loop.symbol, Bound(position), _under_mask(f, loop, position, stop, body), states)

    return region(f, f.builder.b.icmp_signed("<", position, stop), states, last, fenced=False)


def _masked_iterations(f: Frame, loop: VectorLoop, position: Value, done: int, states: States, body: Body) -> States:
    """Emit the remainder of an unrolled loop, perhaps several vectors: every iteration runs under a mask, so that the code is
    emitted once.
    """
    stop = integer(f, loop.hi)
    trips = -(-(loop.trips - done) // loop.lanes) if isinstance(loop.trips, int) else None
    counter = Counter(loop.symbol, position, stop, loop.lanes, trips)

    def iteration(states: States) -> States:
        here = f.scopes[f.home[loop.symbol]].bound[loop.symbol].value
        return _under_mask(f, loop, here, stop, body)(states)

    return maybe_counted(f, counter, loop.stores, states, iteration)[1]


def _under_mask(f: Frame, loop: VectorLoop, position: Value, stop: Value, body: Body) -> Body:
    """Return body under a mask of the lanes that lie before stop."""
    w = f.builder
    left = w.b.sub(stop, position)
    left = w.b.select(w.b.icmp_signed("<", left, w.number(loop.lanes)), left, w.number(loop.lanes))
    small = w.b.trunc(left, I32) if w.index != I32 else left
    mask = w.b.icmp_signed("<", w.iota(I32, loop.lanes), w.splat(small, loop.lanes))
    return _in_lanes(f, loop, body, mask)
