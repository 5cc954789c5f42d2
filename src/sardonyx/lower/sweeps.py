"""Loops for statements without a tile, inside a block of rows: one vector loop per row, shared by neighbouring statements
with equal loops.

    for each row: vector for j: the group's statements at j         a value read only within the group is never stored
    for each row: vector for j: reduce over k                       a reduction along another loop than the vector's
    for each row: start; vector for k: combine into lanes           a reduction along the vector's own loop

Long sums of floats are computed in blocks (loop.blocks). The loops outside the vector loop keep their order:

    for each row: start; for each block: part = 0; vector for k in it: part += ...; total += part
    for each row: vector for j: sum over the blocks of (sum over k in the block)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from sardonyx.base.dtypes import f32, f64
from sardonyx.base.symbolic import Dim, Symbol, ceil_divide, coefficient, minimum, product, substitute, symbols, value
from sardonyx.expr.pieces import at_iteration, deciding
from sardonyx.loop.blocks import BLOCK, find_blocks
from sardonyx.loop.nodes import Alloc, Buffer, Const, Expr, For, Load, Op, Reduce, Stmt, Store, replace, sequence
from sardonyx.lower.blocked_sums import UNROLLED, adds_floats, bounds, reduce_in_blocks
from sardonyx.lower.builder import Builder, Forward, Iteration
from sardonyx.lower.machine import Machine
from sardonyx.lower.maps import fold
from sardonyx.lower.place import MOST_OPERATIONS, is_short
from sardonyx.lower.values import Value, cost, extent, reads_of

MOST_UNROLLED = 32
"""Terms of a reduction of constant length that are fully unrolled."""
WINDOW_VECTORS = 2
"""Vectors of channels in a chunk, for reductions over sliding windows: a row of 112 pixels then takes 14 KiB."""
MOST_ROWS_UNROLLED = 8
"""Rows of sliding windows that are computed side by side in one iteration of the vector loop."""
LEAST_ROWS_UNROLLED = 4
"""Fewest rows side by side if a block is divided into groups of rows: with fewer, the loop over groups costs what it saves."""


def sweep_rows(statements: list[Value], builder: Builder) -> list[Stmt]:
    """Build the loops for the statements: they are grouped, and each group gets a loop over the block's rows."""
    out: list[Stmt] = []
    for group in groups(statements, builder):
        rows = builder.blocks.height
        if beside := rows_beside(rows) if has_window(group, builder) else 0:
            out.append(sweep(group, builder, rows_in_groups(rows, beside, f"lr{group[0].id}", builder)))
        else:
            r = Symbol(f"lr{group[0].id}", max(builder.blocks.heights))
            builder.set_row(value(r))
            out.append(For(r, 0, rows, "serial", sweep(group, builder)))
        builder.set_row(0)
    return out


def rows_beside(rows: Dim) -> int:
    """Return how many rows of windows to compute side by side: all, or a divisor of their number. 0 if the number is unknown
    or has none."""
    if not isinstance(rows, int):
        return 0
    most = next(n for n in range(MOST_ROWS_UNROLLED, 0, -1) if rows % n == 0)
    return most if most >= min(rows, LEAST_ROWS_UNROLLED) else 0


def rows_in_groups(rows: Dim, beside: int, name: str, builder: Builder) -> Callable[[Stmt], Stmt]:
    """Return a function that puts the loops over rows around a statement: serial over groups, unrolled over the `beside` rows
    of a group.

    The builder is set to the row that these loops select.
    """
    r, g = Symbol(name, beside), Symbol(f"{name}.group", rows // beside)
    builder.set_row(value(r) if rows == beside else value(g) * beside + value(r))

    def wrap(body: Stmt) -> Stmt:
        body = For(r, 0, beside, "unrolled", body)
        return body if rows == beside else For(g, 0, rows // beside, "serial", body)

    return wrap


def sweep(group: list[Value], builder: Builder, rows: Callable[[Stmt], Stmt] | None = None) -> Stmt:
    """Build the loops for one row of a group of statements. `rows`, if given, wraps loops over rows around the body of the
    vector loop."""
    if len(group) == 1 and group[0].fn and not reduces_inside(group[0], builder):
        return lane_reduction(group[0], builder)
    free = outer_free(group[0], builder)
    vector = best_vector(group, free, builder)
    inside: list[Stmt] = []
    totals: dict[Value, Expr] = {}
    forward: Forward = {}
    for v, iteration in [(m, iteration) for m in group for iteration in unrolled_iterations(m, builder)]:
        assert v.body is not None
        x = builder.expression(at_iteration(v.body, iteration), forward)
        if v.fn and not reduces_inside(v, builder):
            totals[v] = x
            continue
        if v.fn and v.loops:
            x = reduced(v, x, builder.machine)
        forward[v.tensor, tuple(substitute(a, iteration) for a in v.axes)] = x
        if is_read_outside(v, group, builder):
            inside.append(builder.store(v, x, iteration=iteration))
    if totals:
        return lanes_in_blocks([s for s in free if s is not vector], vector, inside, totals, builder)
    body = sequence(inside) if rows is None else rows(sequence(inside))
    return around([s for s in free if s is not vector], vector, body)


def window_chunks(body: Stmt, builder: Builder) -> tuple[Stmt, list[Symbol]]:
    """Split the vector loop of a block into chunks, if the whole block is one vector loop over sliding windows. -> (body,
    [loop over chunks])

    The loop over chunks goes outermost, so that what overlapping windows share stays in L1: a few vectors of some rows of the
    feature map. Feature maps larger than L2 are not chunked: they are read once, whole cache lines in order.
    """
    length = WINDOW_VECTORS * builder.machine.lanes
    windows = builder.nest.band and any(v.fn and has_short_reduction(v, builder.machine) for v in builder.nest.statements)
    if (
        not windows
        or not isinstance(body, For)
        or body.kind != "vector"
        or body.lo != 0
        or builder.machine.guess(body.hi) <= length
    ):
        return body, []
    if feature_map_bytes(builder) > builder.machine.l2:
        return body, []
    chunk = Symbol(f"{body.variable.name}.chunk", ceil_divide(body.hi, length))
    start = value(chunk) * length
    stop = start + length if isinstance(body.hi, int) and body.hi % length == 0 else minimum(body.hi, start + length)
    return For(body.variable, start, stop, "vector", body.body), [chunk]


def feature_map_bytes(builder: Builder) -> int:
    """Return the size of the largest memory region read in one iteration of the band's first loop, or in all iterations if
    its extent is constant."""
    first = builder.nest.band[0]
    count = n if isinstance(n := extent(first), int) else 1
    spans = [0]
    for r in (r for v in builder.nest.statements for r in reads_of(v)):
        step = coefficient(builder.place_of(r.tensor, r.indices)[1], first)
        spans.append(count * builder.machine.guess(step) * r.dtype.itemsize)
    return max(spans)


# ---- groups ---------------------------------------------------------------------------------------------------------------


def groups(statements: list[Value], builder: Builder) -> list[list[Value]]:
    """Group neighbouring statements that can share one vector loop; the loop variables of a group's members are unified."""
    out: list[list[Value]] = []
    for v in statements:
        if out and joins(v, out[-1], builder):
            rename(v, sweep_loop(v, builder), value(sweep_loop(out[-1][0], builder)))
            out[-1].append(v)
        else:
            out.append([v])
    return out


def joins(v: Value, group: list[Value], builder: Builder) -> bool:
    """Tell whether v can join the group: it runs over an equal single loop, and reads of the members only values of the same
    iteration."""
    own, shared = outer_free(v, builder), outer_free(group[0], builder)
    if len(own) != 1 or len(shared) != 1 or extent(own[0]) != extent(shared[0]):
        return False
    if sum(map(cost, [*group, v])) > MOST_OPERATIONS:
        return False
    members = {m.tensor: m for m in group}
    for read in reads_of(v):
        m = members.get(read.tensor)
        if m is None:
            continue
        out = {*fully_unrolled(m, builder)}
        at = [substitute(i, {own[0]: value(shared[0])}) for i in read.indices]
        here = all(i == a or symbols(a) & out for i, a in zip(at, m.axes, strict=True))
        if (m.fn is not None and not reduces_inside(m, builder)) or not here:
            return False
    return True


def rename(v: Value, own: Symbol, to: Dim) -> None:
    """Replace v's loop variable `own` by `to`, the loop of the group that v joins."""
    assert v.body is not None
    env: dict[Symbol, Dim] = {own: to}
    (shared,) = symbols(to)
    v.body, v.axes = replace(v.body, env), tuple(substitute(a, env) for a in v.axes)
    v.loops = tuple(shared if s is own else s for s in v.loops)
    v.into = v.into and (v.into[0], tuple(substitute(i, env) for i in v.into[1]))


def is_read_outside(v: Value, group: list[Value], builder: Builder) -> bool:
    """Tell whether v must be stored: it is the root, lies in a buffer, or is read by a statement outside the group."""
    if v is builder.nest.root or v.stored:
        return True
    others = [q for s in builder.nest.statements for q in (s, s.tile) if q and s not in group]
    return any(r.tensor is v.tensor for q in others for r in reads_of(q))


# ---- a statement's loops --------------------------------------------------------------------------------------------------


def free_loops(v: Value, builder: Builder) -> list[Symbol]:
    """List v's loops that are not in the band, those that it reduces over included."""
    return [s for s in v.all_loops if s not in builder.nest.band]


def fully_unrolled(v: Value, builder: Builder) -> list[Symbol]:
    """List the short loops of a piecewise statement, which are fully unrolled because each iteration selects another case."""
    return [s for s in free_loops(v, builder) if is_short(extent(s))] if deciding(v.body) and not v.fn else []


def unrolled_iterations(v: Value, builder: Builder) -> Iterator[Iteration]:
    """Yield the values of the fully unrolled loops' variables, one mapping for each iteration."""
    loops = fully_unrolled(v, builder)
    for at in itertools.product(*(range(builder.machine.guess(extent(s))) for s in loops)):
        yield dict(zip(loops, at, strict=True))


def outer_free(v: Value, builder: Builder) -> list[Symbol]:
    """List the loops around v's store: those of free_loops that are neither unrolled nor reduced inside the vector's lanes."""
    out = fully_unrolled(v, builder)
    free = [s for s in free_loops(v, builder) if s not in out]
    return [s for s in free if s not in v.loops] if not v.fn or reduces_inside(v, builder) else free


def sweep_loop(v: Value, builder: Builder) -> Symbol:
    """Return the outermost loop of outer_free."""
    return outer_free(v, builder)[0]


def around(loops: Sequence[Symbol], vector: Symbol | None, body: Stmt) -> Stmt:
    """Put a vector loop, if there is one, and then the serial loops around the body. loops: outermost first."""
    if vector is not None:
        body = For(vector, 0, extent(vector), "vector", body)
    for s in reversed(loops):
        body = For(s, 0, extent(s), "serial", body)
    return body


def best_vector(group: list[Value], free: Sequence[Symbol], builder: Builder) -> Symbol | None:
    """Choose the loop to vectorise: a long loop before a short one, then the loop along which most of the group's accesses
    are contiguous."""
    machine = builder.machine
    spots: list[Dim] = []
    for v in group:
        spots += [builder.place_of(r.tensor, r.indices)[1] for r in reads_of(v)] + [builder.place_of(v.tensor, v.axes)[1]]

    def score(s: Symbol) -> tuple[bool, int]:
        long = machine.guess(extent(s)) >= min(machine.lanes, 8)
        return long, sum(coefficient(a, s) == 1 for a in spots)

    return max(reversed(list(free)), key=score, default=None)


# ---- reductions -----------------------------------------------------------------------------------------------------------


def reduces_inside(v: Value, builder: Builder) -> bool:
    """Tell whether each lane computes a whole reduction of v, because the vectors run along another loop."""
    return v.fn is not None and best_vector([v], free_loops(v, builder), builder) not in v.loops


def has_short_reduction(v: Value, machine: Machine) -> bool:
    """Tell whether v reduces so few terms, in constant number, that the reduction is fully unrolled."""
    extents = [extent(s) for s in v.loops]
    return all(isinstance(n, int) for n in extents) and machine.guess(product(extents)) <= MOST_UNROLLED


def has_window(group: list[Value], builder: Builder) -> bool:
    """Tell whether the group is one vector loop around short reductions of constant length: rows side by side then share
    loads."""
    plain = all(not v.fn or reduces_inside(v, builder) for v in group)
    short = plain and any(v.fn and has_short_reduction(v, builder.machine) for v in group)
    return short and len(outer_free(group[0], builder)) == 1


def reduced(v: Value, x: Expr, machine: Machine) -> Expr:
    """Reduce x over v's loops, separately in each lane. A short sum of products becomes one product and a chain of
    multiply-adds."""
    assert v.fn is not None
    short = has_short_reduction(v, machine)
    product_of_floats = isinstance(x, Op) and x.fn == "mul" and x.dtype in (f32, f64)
    if not short or v.fn != "add" or not product_of_floats or not machine.fma:
        if short:
            return Reduce(v.fn, tuple((s, "unrolled") for s in v.loops), x)
        return reduce_in_blocks(v.fn, [(s, "serial") for s in v.loops], x, BLOCK)
    counts = [n for s in v.loops if isinstance(n := extent(s), int)]
    if 0 in counts:
        return neutral(v.fn, x)
    first, *terms = (replace(x, dict(zip(v.loops, at, strict=True))) for at in itertools.product(*map(range, counts)))
    for t in terms:
        first = Op("fma", *t.args, first)
    return first


def lane_reduction(v: Value, builder: Builder) -> Stmt:
    """Vectorise v along a loop that it reduces over: each lane sums a part, and the lanes are combined at the end.

    Loops around the vector loop are merged into it where the addresses allow that.
    """
    assert v.body is not None
    free = free_loops(v, builder)
    vector = best_vector([v], free, builder)
    assert vector is not None
    outside = [s for s in free if s not in v.loops]
    over = [*(s for s in v.loops if s is not vector), vector]
    loops, store = fold(over, builder.store(v, builder.expression(v.body)))
    return around(outside, None, lanes_in_blocks(loops[:-1], loops[-1], [], {v: store.value}, builder))


# ---- in blocks ------------------------------------------------------------------------------------------------------------


def lanes_in_blocks(
    serial: Sequence[Symbol], vector: Symbol | None, inside: Sequence[Stmt], totals: Mapping[Value, Expr], builder: Builder
) -> Stmt:
    """Build start values and the loops around `inside` that accumulate the totals per lane; sums of floats are computed in
    blocks.

    totals: {value: expression to combine into it}. serial: the loops around the vector loop, outermost first.
    """
    assert vector is not None
    loops = [*serial, vector]
    sums = [v for v, x in totals.items() if adds_floats(v.fn, x)]
    lanes = builder.machine.lanes
    blocks = find_blocks([extent(s) for s in loops], BLOCK * lanes, UNROLLED * lanes) if sums else None
    parts = {v: Buffer(f"part{v.id}", totals[v].dtype, "local") for v in sums} if blocks else {}
    start = [builder.store(v, neutral(v.fn or "", x)) for v, x in totals.items()]
    adding = [Store(parts[v], 0, x, v.fn) if v in parts else builder.store(v, x, v.fn) for v, x in totals.items()]
    body = sequence([*inside, *adding])
    if blocks is None:
        return sequence([*start, around(serial, vector, body)])
    lo, hi, count = bounds(loops[blocks.depth], blocks)
    divided = loops[blocks.depth]
    if divided is vector:
        body = For(vector, lo, hi, "vector", body)
    else:
        body = For(divided, lo, hi, "serial", around(loops[blocks.depth + 1 : -1], vector, body))
    zero = [Store(part, 0, neutral("add", totals[v])) for v, part in parts.items()]
    ends = [builder.store(v, Load(part, 0), v.fn) for v, part in parts.items()]
    body = around(loops[: blocks.depth], None, For(*count, "serial", sequence([*zero, body, *ends])))
    for part in parts.values():
        body = Alloc(part, 1, body)
    return sequence([*start, body])


def neutral(fn: str, like: Expr) -> Expr:
    """Return the neutral element of reduction fn in the dtype of `like`."""
    dtype = like.dtype
    if fn in ("min", "max"):
        if dtype.is_float:
            return Const(math.inf if fn == "min" else -math.inf, dtype)
        if dtype.kind == "bool":
            return Const(fn == "min", dtype)
        lo, hi = (0, (1 << dtype.bits) - 1) if dtype.kind == "uint" else (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1)
        return Const(hi if fn == "min" else lo, dtype)
    if dtype.kind == "bool":
        return Const(fn == "and", dtype)
    return Const({"add": 0, "mul": 1, "or": 0, "xor": 0, "and": -1 if dtype.kind == "int" else (1 << dtype.bits) - 1}[fn], dtype)
