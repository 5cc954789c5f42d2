"""Find the symbols that a loop IR statement depends on, and the buffers that it writes."""

from __future__ import annotations

from sardonyx.base.symbolic import Dim, Symbol, symbols
from sardonyx.loop.nodes import Alloc, Buffer, Check, For, If, Seq, Stmt, Store, Tile, While


def free_symbols(s: Stmt) -> frozenset[Symbol]:
    """Collect the symbols in s that no loop inside s binds."""
    if isinstance(s, For):
        return (free_symbols(s.body) | of_dims(s.lo, s.hi)) - {s.variable}
    if isinstance(s, Seq):
        return frozenset().union(*map(free_symbols, s.body))
    if isinstance(s, Store):
        guard = s.guard.symbols if s.guard is not None else frozenset[Symbol]()
        return of_dims(s.offset) | s.value.symbols | guard
    if isinstance(s, Alloc):
        return of_dims(s.size) | free_symbols(s.body)
    if isinstance(s, While):
        return s.condition.symbols | free_symbols(s.body)
    if isinstance(s, If):
        return s.condition.symbols | free_symbols(s.then) | (free_symbols(s.otherwise) if s.otherwise else frozenset())
    if isinstance(s, Check):
        return s.condition.symbols.union(*(d.symbols for d in s.details))
    if isinstance(s, Tile):
        steps = [d for q in s.steps for d in (q.extent, q.a, q.b)]
        ahead = [] if s.ahead is None else [s.ahead]
        return of_dims(s.rows, s.a_offset, s.a_row, s.b_offset, s.c_offset, s.c_row, *steps, *ahead)
    raise TypeError(f"{s} is no statement")


def written_buffers(s: Stmt) -> frozenset[Buffer]:
    """Collect the buffers that s stores to."""
    if isinstance(s, Store):
        return frozenset([s.buffer])
    if isinstance(s, Tile):
        return frozenset([s.c])
    if isinstance(s, Seq):
        return frozenset().union(*map(written_buffers, s.body))
    if isinstance(s, If):
        return written_buffers(s.then) | (written_buffers(s.otherwise) if s.otherwise else frozenset())
    return written_buffers(s.body) if isinstance(s, (For, While, Alloc)) else frozenset()


def of_dims(*dims: Dim) -> frozenset[Symbol]:
    """Collect the symbols in these dims."""
    return frozenset().union(*map(symbols, dims))
