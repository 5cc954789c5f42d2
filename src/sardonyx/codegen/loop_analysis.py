"""Facts about loop bodies that decide how a loop is emitted: lanes, masks, what is stored, what can be accumulated in registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace as with_fields

from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, Symbol, coefficient, substitute, symbols
from sardonyx.codegen.features import Target
from sardonyx.loop.nodes import (
    Alloc,
    Buffer,
    Check,
    Expr,
    For,
    If,
    Index,
    Load,
    Op,
    Reduce,
    Seq,
    Step,
    Stmt,
    Store,
    Tile,
    While,
    replace,
    sequence,
    walk,
)

Place = tuple[Buffer, Dim, str]
"""A location that a loop accumulates into: buffer, offset, and the operation that combines values there."""

SHORT = 12
"""A loop body with at most this many nodes is limited by the latency of its accumulation, so that several accumulators pay."""


def lanes_for(target: Target, symbol: Symbol, exprs: Iterable[Expr], stored: Iterable[Buffer] = ()) -> int:
    """Choose the lanes of a vector loop so that the widest dtype fills a register. i64 and u64 count only where they are loaded or
    stored.
    """
    widest = max((8 * b.dtype.itemsize for b in stored), default=8)
    for node in nodes_of(exprs):
        bits = 8 * node.dtype.itemsize
        if bits <= widest or node.dtype.kind == "bool" or symbol not in node.symbols:
            continue
        if isinstance(node, Load) or (not isinstance(node, Index) and node.dtype.name not in ("i64", "u64")):
            widest = bits
    return target.vector_bits // widest


def masks_fit(target: Target, symbol: Symbol, exprs: Iterable[Expr], stored: Iterable[Buffer] = ()) -> bool:
    """Does the target have masked loads and stores for every buffer whose offset depends on the loop's variable?"""
    widths = {8 * b.dtype.itemsize for b in stored}
    widths |= {8 * n.dtype.itemsize for n in nodes_of(exprs) if isinstance(n, Load) and symbol in n.symbols}
    return bool(target.masked_bits) and widths <= target.masked_bits


def nodes_of(exprs: Iterable[Expr]) -> set[Expr]:
    """Return the set of all nodes of the expressions, including those inside offsets and reductions."""
    return set().union(*map(walk, exprs))


def is_short(exprs: Iterable[Expr]) -> bool:
    """Is the body so short that the latency of accumulating bounds the loop, so that several accumulators pay?"""
    nodes = nodes_of(exprs)
    return len(nodes) <= SHORT and not any(isinstance(n, Reduce) for n in nodes)


# ---- statements -----------------------------------------------------------------------------------------------------------


def children(stmt: Stmt) -> tuple[Stmt, ...]:
    """Return the statements directly inside a statement."""
    if isinstance(stmt, Seq):
        return stmt.body
    if isinstance(stmt, If):
        return (stmt.then,) if stmt.otherwise is None else (stmt.then, stmt.otherwise)
    return (stmt.body,) if isinstance(stmt, (For, While, Alloc)) else ()


def all_statements(stmt: Stmt) -> Iterator[Stmt]:
    yield stmt
    for inner in children(stmt):
        yield from all_statements(inner)


def own_expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """Return the expressions of a statement, without those of the statements inside it."""
    if isinstance(stmt, Store):
        return (stmt.value,) if stmt.guard is None else (stmt.value, stmt.guard)
    if isinstance(stmt, (While, If)):
        return (stmt.condition,)
    return (stmt.condition, *stmt.details) if isinstance(stmt, Check) else ()


def unrolled(stmt: Stmt) -> Stmt:
    """Replace each unrolled loop in stmt by one copy of its body per iteration. Raises Unsupported if a bound isn't a number."""
    if isinstance(stmt, Seq):
        return Seq(tuple(unrolled(s) for s in stmt.body))
    if isinstance(stmt, If):
        otherwise = None if stmt.otherwise is None else unrolled(stmt.otherwise)
        return If(stmt.condition, unrolled(stmt.then), otherwise)
    if not isinstance(stmt, (For, While, Alloc)):
        return stmt
    body = unrolled(stmt.body)
    if not isinstance(stmt, For) or stmt.kind != "unrolled":
        return with_fields(stmt, body=body)
    if not isinstance(stmt.lo, int) or not isinstance(stmt.hi, int):
        raise Unsupported(
            f"the loop over {stmt.variable} from {stmt.lo} to {stmt.hi} can't be unrolled: its bounds must be numbers"
        )
    return sequence(substituted(body, {stmt.variable: i}) for i in range(stmt.lo, stmt.hi))


def stored_by(stmt: Stmt) -> frozenset[Buffer]:
    """Return the buffers that stmt may write to."""
    found: set[Buffer] = set()
    for inner in all_statements(stmt):
        if isinstance(inner, Store):
            found.add(inner.buffer)
        elif isinstance(inner, Tile):
            found.add(inner.c)
    return frozenset(found)


def substituted(stmt: Stmt, env: Mapping[Symbol, Dim]) -> Stmt:
    """Replace symbols (loop variables) in stmt by what env maps them to."""

    def dim(d: Dim) -> Dim:
        return substitute(d, env)

    if isinstance(stmt, Store):
        guard = None if stmt.guard is None else replace(stmt.guard, env)
        return Store(stmt.buffer, dim(stmt.offset), replace(stmt.value, env), stmt.combine, guard)
    if isinstance(stmt, Seq):
        return Seq(tuple(substituted(s, env) for s in stmt.body))
    if isinstance(stmt, For):
        return For(stmt.variable, dim(stmt.lo), dim(stmt.hi), stmt.kind, substituted(stmt.body, env))
    if isinstance(stmt, If):
        otherwise = None if stmt.otherwise is None else substituted(stmt.otherwise, env)
        return If(replace(stmt.condition, env), substituted(stmt.then, env), otherwise)
    if isinstance(stmt, While):
        return While(replace(stmt.condition, env), substituted(stmt.body, env))
    if isinstance(stmt, Alloc):
        return Alloc(stmt.buffer, dim(stmt.size), substituted(stmt.body, env))
    if isinstance(stmt, Check):
        return Check(replace(stmt.condition, env), stmt.code, tuple(replace(d, env) for d in stmt.details))
    if isinstance(stmt, Tile):
        return _substituted_tile(stmt, env)
    return stmt


def _substituted_tile(tile: Tile, env: Mapping[Symbol, Dim]) -> Tile:
    def dim(d: Dim) -> Dim:
        return substitute(d, env)

    return with_fields(
        tile,
        rows=dim(tile.rows),
        a_offset=dim(tile.a_offset),
        a_row=dim(tile.a_row),
        b_offset=dim(tile.b_offset),
        c_offset=dim(tile.c_offset),
        c_row=dim(tile.c_row),
        steps=tuple(Step(dim(s.extent), dim(s.a), dim(s.b)) for s in tile.steps),
        ahead=None if tile.ahead is None else dim(tile.ahead),
    )


def is_vectorisable(loop: For) -> bool:
    """Can the loop run in lanes? It must contain only stores and loops with bounds equal in all lanes, and no two lanes may
    overwrite one element.
    """
    v = loop.variable
    for stmt in all_statements(loop.body):
        if isinstance(stmt, Store):
            if stmt.combine is None and coefficient(stmt.offset, v) == 0:
                return False
            if any(_loops_vary(e, v) for e in own_expressions(stmt)):
                return False
        elif isinstance(stmt, For):
            if v in symbols(stmt.lo) | symbols(stmt.hi):
                return False
        elif not isinstance(stmt, Seq):
            return False
    return True


def _loops_vary(expr: Expr, v: Symbol) -> bool:
    reductions = [n for n in walk(expr) if isinstance(n, Reduce)]
    return any(v in symbols(0 if s.extent is None else s.extent) for r in reductions for s, _ in r.loops)


# ---- accumulators ---------------------------------------------------------------------------------------------------------


def accumulators(body: Stmt, variable: Symbol) -> tuple[Place, ...]:
    """Return the places that iterations of a loop only combine values into, so that a register can hold the total during the
    loop.
    """
    statements = list(_statements(body, True))
    combining = [s for s, direct in statements if isinstance(s, Store) and s.combine is not None and direct]
    if not combining:
        return ()
    places: dict[Place, None] = dict.fromkeys((s.buffer, s.offset, s.combine) for s in combining)  # type: ignore[misc]
    bound = {variable}
    others: set[Buffer] = set()
    for stmt, direct in statements:
        if isinstance(stmt, For):
            bound.add(stmt.variable)
        elif isinstance(stmt, Store) and (stmt.combine is None or not direct):
            others.add(stmt.buffer)
        elif isinstance(stmt, Tile):
            others |= {stmt.a, stmt.b, stmt.c}
        others |= {n.buffer for n in nodes_of(own_expressions(stmt)) if isinstance(n, Load)}
    free = [p for p in places if p[0] not in others and bound.isdisjoint(symbols(p[1]))]
    return tuple(p for p in free if all(q is p or _apart(p, q) for q in places))


def _apart(p: Place, q: Place) -> bool:
    """Are two places certainly different memory?"""
    distance = p[1] - q[1]
    return p[0] is not q[0] or (isinstance(distance, int) and distance != 0)


def _statements(stmt: Stmt, direct: bool) -> Iterator[tuple[Stmt, bool]]:
    """Yield each statement with a flag: is it reached through Seq and For alone?"""
    yield stmt, direct
    for inner in children(stmt):
        yield from _statements(inner, direct and isinstance(stmt, (Seq, For)))


def op_nodes(exprs: Iterable[Expr]) -> int:
    """Count the operations in the expressions; a shared node counts once."""
    return sum(isinstance(n, Op) for n in nodes_of(exprs))
