"""Emits statements: loops, branches, stores, allocations and tiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace as with_fields

from sardonyx.base.dtypes import i64
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Symbol, is_nonnegative, value
from sardonyx.codegen import arithmetic, checks, loops, tile
from sardonyx.codegen.expressions import evaluate
from sardonyx.codegen.guards import under
from sardonyx.codegen.integers import integer
from sardonyx.codegen.llvm_types import I8, I64, Value, memory_type
from sardonyx.codegen.loop_analysis import (
    Place,
    accumulators,
    all_statements,
    is_short,
    is_vectorisable,
    lanes_for,
    masks_fit,
    own_expressions,
    stored_by,
)
from sardonyx.codegen.loops import Reduction, SerialLoop, States, VectorLoop
from sardonyx.codegen.memory import (
    all_masks,
    load_element,
    load_lanes,
    pointer,
    stack,
    store_element,
    store_lanes,
    varies,
)
from sardonyx.codegen.polling import at_once, iterations, poll_interval, strip
from sardonyx.codegen.scopes import Bound, Frame, Scope, Spine, Total
from sardonyx.codegen.scratch import allocated
from sardonyx.loop.nodes import (
    Alloc,
    Cast,
    Check,
    For,
    If,
    Load,
    Op,
    Reduce,
    Seq,
    Stmt,
    Store,
    Tile,
    While,
    first,
    walk,
)

LONG_SUM = 4
"""The least number of products for which sums are evaluated side by side."""


def run(f: Frame, stmt: Stmt) -> None:
    """Emit a statement. Raises Unsupported for what this target can't compute."""
    EMITTERS[type(stmt)](f, stmt)


def _seq(f: Frame, stmt: Seq) -> None:
    _interleave_sums(f, stmt.body)
    for inner in stmt.body:
        run(f, inner)


def _interleave_sums(f: Frame, statements: Sequence[Stmt]) -> None:
    """Interleave stores of equally long sums of products: evaluate one term of each sum, then the next term of each.

    An element that several sums use is then used while it is in a register, and each sum waits less for its own previous
    term.
    """
    stores = [s for s in statements if isinstance(s, Store) and s.combine is None and s.guard is None]
    nodes = [list(walk(s.value)) for s in stores]
    if len(stores) < max(2, len(statements)) or any(len(n) != len(nodes[0]) for n in nodes):
        return
    products = sum(isinstance(n, Op) and n.fn == "fma" for n in nodes[0])
    written = {s.buffer for s in stores}
    if products < LONG_SUM or any(not f.reads(s.value).isdisjoint(written) for s in stores):
        return
    if any(isinstance(n, Reduce) for n in nodes[0]):
        return
    for terms in zip(*nodes, strict=True):
        for term in terms:
            evaluate(f, term)


# ---- stores ---------------------------------------------------------------------------------------------------------------


def _store(f: Frame, stmt: Store) -> None:
    if stmt.combine is not None and Total((stmt.buffer, stmt.offset, stmt.combine)) in f.totals:
        _accumulate(f, stmt)
        return
    v = evaluate(f, stmt.value)
    guard = None if stmt.guard is None else evaluate(f, stmt.guard)
    stmt = with_fields(stmt, offset=under(stmt.offset, stmt.guard))
    if varies(f, stmt.offset):
        if stmt.combine is not None:
            old = load_lanes(f, stmt.buffer, stmt.offset, guard)
            v = arithmetic.emit(f.builder, stmt.combine, stmt.buffer.dtype, (old, v))
        v = f.builder.splat(v, f.vector.count)  # type: ignore[union-attr]
        store_lanes(f, v, stmt.buffer, stmt.offset, guard)
    else:
        v, guard = _one_value(f, stmt, v, guard)
        loops.when(f, guard, lambda: _store_one(f, stmt, v))
    f.forget([stmt.buffer])
    if guard is None and stmt.combine is None:
        _forward(f, stmt, v)


def _one_value(f: Frame, stmt: Store, v: Value, guard: Value | None) -> tuple[Value, Value | None]:
    """Combine the values of all lanes that store to one place. -> (the value, the guard that is left)"""
    if f.vector is None:
        return v, guard
    assert stmt.combine is not None
    v = f.builder.splat(v, f.vector.count)
    mask = all_masks(f, f.vector.mask, guard)
    if mask is not None:
        v = f.builder.b.select(mask, v, arithmetic.neutral(f.builder, stmt.combine, stmt.buffer.dtype, f.vector.count))
    return arithmetic.across_lanes(f.builder, stmt.combine, stmt.buffer.dtype, v), None


def _store_one(f: Frame, stmt: Store, v: Value) -> None:
    if stmt.combine is not None:
        old = load_element(f, stmt.buffer, stmt.offset, None)
        v = arithmetic.emit(f.builder, stmt.combine, stmt.buffer.dtype, (old, v))
    store_element(f, v, stmt.buffer, stmt.offset)


def _forward(f: Frame, stmt: Store, v: Value) -> None:
    """Let a load of what was just stored use the stored value, if the load would be computed in this very scope."""
    load = Load(stmt.buffer, stmt.offset)
    reads = f.reads(load)
    level = f.level(load.symbols, reads)
    if level == len(f.scopes) - 1:
        f.remember(level, load, v, reads)


def _accumulate(f: Frame, stmt: Store) -> None:
    """Combine a store's value into the register of its place; see `loop_analysis.accumulators`."""
    assert stmt.combine is not None
    key, dtype = Total((stmt.buffer, stmt.offset, stmt.combine)), stmt.buffer.dtype
    v = evaluate(f, stmt.value)
    total = f.totals[key]
    if stmt.guard is not None:
        neutral = arithmetic.neutral(f.builder, stmt.combine, dtype, None)
        guard, v, neutral = f.builder.alike(evaluate(f, stmt.guard), v, neutral)
        v = f.builder.b.select(guard, v, neutral)
    mask = f.vector.mask if f.vector is not None and not varies(f, stmt.offset) else None
    f.totals[key] = arithmetic.combine(f.builder, stmt.combine, dtype, total, v, mask)


# ---- loops ----------------------------------------------------------------------------------------------------------------


def _for(f: Frame, stmt: For) -> None:
    if stmt.kind == "parallel":
        _parallel(f, stmt)
    elif stmt.kind == "vector" and f.vector is None and is_vectorisable(stmt):
        _vector(f, stmt)
    else:
        _serial(f, stmt)


def _parallel(f: Frame, stmt: For) -> None:
    """Emit this thread's part: for variable in range(lo + n tid / nt, lo + n (tid + 1) / nt)."""
    w, b = f.builder, f.builder.b
    lo, trips = integer(f, stmt.lo), integer(f, stmt.hi - stmt.lo)
    if not is_nonnegative(stmt.hi - stmt.lo):
        trips = b.select(b.icmp_signed("<", trips, w.number(0)), w.number(0), trips)
    tid, team = (v if v.type == w.index else b.trunc(v, w.index) for v in (f.tid, f.team))
    limits = [b.udiv(b.mul(trips, t), team) for t in (tid, b.add(tid, w.number(1)))]
    start, stop = first(stmt.variable), Symbol(f"{stmt.variable.name}.last")

    def own_range(states: States) -> States:
        f.bind(stop, Bound(w.add(lo, limits[1])))
        _serial(f, For(stmt.variable, value(start), value(stop), "serial", stmt.body))
        return states

    loops.joined(f, start, Bound(w.add(lo, limits[0])), own_range, [])


def _serial(f: Frame, stmt: For) -> None:
    """Emit a loop, one iteration after the other. Places that its iterations only combine into are kept in registers."""
    if loops.is_empty(stmt.lo, stmt.hi):
        return
    strip = poll_interval(iterations(stmt.variable, stmt.lo, stmt.hi), f.efforts.statement(stmt.body))
    counted = SerialLoop(stmt.variable, stmt.lo, stmt.hi, stored_by(stmt.body), strip)
    places = _combined(stmt.body)
    outer = [k for k in f.totals if k.place in places]
    known = {k.place for k in outer}
    own = [p for p in accumulators(stmt.body, stmt.variable) if p not in known]
    wide = _lane_totals(f, stmt.body, own) if own and f.vector is None else {}
    keys = [k for p in own for k in _keys(p, wide.get(p))]

    def iteration(states: States) -> States:
        return _with_totals(f, [*outer, *keys], states, stmt.body)

    def loop(states: States) -> States:
        begin = states + [_first_total(f, k, wide.get(k.place)) for k in keys]
        totals = loops.iterate(f, counted, begin, iteration)
        found = dict(zip(keys, totals[len(outer) :], strict=True))
        for place in own:
            _store_total(f, place, wide.get(place), found)
        return totals[: len(outer)]

    totals = loops.region(f, loops.nonempty(f, stmt.lo, stmt.hi), [f.totals[k] for k in outer], loop)
    f.totals.update(zip(outer, totals, strict=True))


def _combined(stmt: Stmt) -> list[Place]:
    """Return the places that statements combine values into, one entry per statement."""
    stores = [s for s in all_statements(stmt) if isinstance(s, Store) and s.combine is not None]
    return [(s.buffer, s.offset, s.combine) for s in stores]  # type: ignore[misc]


def _with_totals(f: Frame, keys: Sequence[Total], totals: States, body: Stmt) -> States:
    """Emit body with these totals. -> the totals after it"""
    f.totals.update(zip(keys, totals, strict=True))
    run(f, body)
    return [f.totals.pop(k) for k in keys]


def _lane_totals(f: Frame, body: Stmt, places: Sequence[Place]) -> dict[Place, VectorLoop]:
    """Find places that one vector loop inside the body accumulates: their total stays a vector between two runs of that loop."""
    everywhere = Counter(_combined(body))
    found: dict[Place, VectorLoop] = {}
    for inner in all_statements(body):
        if isinstance(inner, For) and inner.kind == "vector" and is_vectorisable(inner):
            loop, own = _vector_loop(f, inner)
            inside = Counter(_combined(inner.body))
            found |= {p: loop for p in own if p in places and inside[p] == everywhere[p]}
    return found


def _keys(place: Place, wide: VectorLoop | None) -> list[Total]:
    """Return the registers of a place's total: one scalar, or a vector and, if the vector loop has a tail, a scalar."""
    if wide is None:
        return [Total(place)]
    return [Total(place, "lanes"), *([Total(place, "tail")] if wide.has_tail else [])]


def _first_total(f: Frame, key: Total, wide: VectorLoop | None) -> Value:
    buffer, offset, fn = key.place
    if wide is not None:
        return arithmetic.neutral(f.builder, fn, buffer.dtype, wide.lanes if key.part == "lanes" else None)
    return load_lanes(f, buffer, offset, None) if varies(f, offset) else load_element(f, buffer, offset, None)


def _store_total(f: Frame, place: Place, wide: VectorLoop | None, totals: Mapping[Total, Value]) -> None:
    """Store a place's total to memory."""
    buffer, offset, fn = place
    total = totals[_keys(place, wide)[0]]
    if wide is not None:
        total = loops.finish(f, Reduction(fn, buffer.dtype), total, totals.get(Total(place, "tail")))
        total = arithmetic.emit(f.builder, fn, buffer.dtype, (_first_total(f, Total(place), None), total))
    if varies(f, offset):
        store_lanes(f, total, buffer, offset, None)
    else:
        store_element(f, total, buffer, offset)
    f.forget([buffer])


def _vector(f: Frame, stmt: For) -> None:
    """Emit a vector loop. Places that all iterations combine into get a total per lane; the lanes are combined at the end."""
    if loops.is_empty(stmt.lo, stmt.hi):
        return
    loop, places = _vector_loop(f, stmt)
    parts = [Total(p, "lanes") for p in places] + [Total(p, "tail") for p in places if loop.has_tail]
    outer = [k for k in f.totals if k.place in places]  # totals that an enclosing loop keeps in registers
    single = [Total(p) for p in places]

    def iteration(states: States) -> States:
        return _with_totals(f, single, states, stmt.body)

    def whole(states: States) -> States:
        held = dict(zip(outer, states, strict=True))
        begin = [held.get(k, start) for k, start in zip(parts, loops.begin(f, loop), strict=True)]
        ends = dict(zip(parts, loops.vector(f, loop, begin, iteration), strict=True))
        for place in places:
            if Total(place, "lanes") in held:
                continue
            if Total(place) not in held:
                _store_total(f, place, loop, ends)
                continue
            fn, dtype = place[2], place[0].dtype
            total = loops.finish(f, Reduction(fn, dtype), ends[Total(place, "lanes")], ends.get(Total(place, "tail")))
            held[Total(place)] = arithmetic.emit(f.builder, fn, dtype, (held[Total(place)], total))
        return [ends.get(k, v) for k, v in held.items()]

    totals = loops.region(f, loops.nonempty(f, stmt.lo, stmt.hi), [f.totals[k] for k in outer], whole)
    f.totals.update(zip(outer, totals, strict=True))


def _vector_loop(f: Frame, stmt: For) -> tuple[VectorLoop, tuple[Place, ...]]:
    """Describe a vector loop and the places that it accumulates."""
    statements = list(all_statements(stmt.body))
    exprs = [e for s in statements for e in own_expressions(s)]
    moving = [s.buffer for s in statements if isinstance(s, Store)]
    places = accumulators(stmt.body, stmt.variable)
    only_sums = all(isinstance(s, Seq) or (isinstance(s, Store) and s.combine is not None) for s in statements)
    loop = VectorLoop(
        stmt.variable,
        stmt.lo,
        stmt.hi,
        lanes_for(f.target, stmt.variable, exprs, moving),
        stored_by(stmt.body) - {p[0] for p in places},
        tuple(Reduction(fn, buffer.dtype) for buffer, _, fn in places),
        masks_fit(f.target, stmt.variable, exprs, moving),
        unroll=4 if places and only_sums and is_short(exprs) else 1,
        poll_interval=poll_interval(
            iterations(stmt.variable, stmt.lo, stmt.hi), f.efforts.statement(stmt.body), at_once(stmt.kind)
        ),
    )
    return loop, places


# ---- control --------------------------------------------------------------------------------------------------------------


def _if(f: Frame, stmt: If) -> None:
    condition = evaluate(f, stmt.condition)
    if stmt.otherwise is None:
        loops.when(f, condition, lambda: run(f, stmt.then))
        return
    w = f.builder
    ways = [w.block("then"), w.block("otherwise")]
    after = w.block("after")
    for block, inner in zip(ways, (stmt.then, stmt.otherwise), strict=True):
        f.push(Scope(Spine(block), fenced=True))
        run(f, inner)
        loops.close(f, f.pop(), after)
    w.b.cbranch(condition, *ways)
    w.b.position_at_end(after)


def _while(f: Frame, stmt: While) -> None:
    w = f.builder
    stores = stored_by(stmt.body)
    head, body, after, full = w.block("while"), w.block("body"), w.block("after"), w.block("full")
    left, most = stack(f, I64, 1), w.const(I64, strip(f.efforts.statement(stmt.body)))
    w.b.store(most, left, align=8)
    f.forget(stores)
    f.push(Scope(Spine(head), fenced=True, stores=stores))
    condition = evaluate(f, stmt.condition)
    f.push(Scope(Spine(body), fenced=True))
    run(f, stmt.body)
    fewer = w.b.sub(w.b.load(left, typ=I64, align=8), w.const(I64, 1))
    w.b.store(fewer, left, align=8)
    w.b.cbranch(w.b.icmp_signed(">", fewer, w.const(I64, 0)), head, full)
    w.b.position_at_end(full)
    w.b.store(most, left, align=8)
    checks.leave_or(f, head)
    f.pop()
    w.b.cbranch(condition, body, after)
    f.pop()
    w.b.branch(head)
    w.b.position_at_end(after)


def _alloc(f: Frame, stmt: Alloc) -> None:
    start = f.scratch_used
    if stmt.buffer.space == "local":
        if not isinstance(stmt.size, int):
            raise Unsupported(f"{stmt.buffer} of {stmt.size} elements can't lie on the stack: its size must be a number")
        f.place(stmt.buffer, stack(f, memory_type(stmt.buffer.dtype), stmt.size))
    else:
        with f.at(0):
            address = f.builder.at(f.scratch, integer(f, start), I8)
        f.place(stmt.buffer, address)
        f.scratch_used = start + allocated(stmt)
    run(f, stmt.body)
    f.scratch_used = start


def _check(f: Frame, stmt: Check) -> None:
    good = evaluate(f, stmt.condition)
    details = [evaluate(f, Cast(d, i64)) for d in stmt.details]
    checks.unless(f, good, stmt.code, details)


def _tile(f: Frame, stmt: Tile) -> None:
    dynamic = tile.dynamic_sizes(stmt)
    a, b, c = (pointer(f, *at) for at in ((stmt.a, stmt.a_offset), (stmt.b, stmt.b_offset), (stmt.c, stmt.c_offset)))
    ahead = None if stmt.ahead is None else pointer(f, stmt.b, stmt.ahead)
    tile.call(f, stmt, a, b, c, ahead, integer(f, stmt.rows), [integer(f, d) for d in dynamic])
    f.forget([stmt.c])


EMITTERS: dict[type, Callable[[Frame, Any], None]] = {
    Seq: _seq,
    Store: _store,
    For: _for,
    While: _while,
    If: _if,
    Alloc: _alloc,
    Check: _check,
    Tile: _tile,
}
"""The function that emits each kind of statement."""
