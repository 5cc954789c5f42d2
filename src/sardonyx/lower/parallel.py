"""The parallel loops of kernels. Each chunk of a call runs the kernel once and executes a range of the parallel loop's
iterations."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sardonyx.base.symbolic import Dim, Symbol, product, value
from sardonyx.loop.nodes import Alloc, For, If, Seq, Stmt, While
from sardonyx.lower.values import extent

TINY = 4096
"""Operations that take no longer than one barrier of the threads."""
LEAST_SHARED_WORK = 1 << 16
"""Elements from which sharing work with a second thread pays: 5 to 50 microseconds of work; a thread needs about 5 to take
its part."""


def parallel(loops: Sequence[Symbol], body: Stmt) -> Stmt:
    """Put one parallel loop over all combinations of the loops around the body; outermost first. Inside, each loop has a
    single iteration."""
    if not loops:
        return body
    if len(loops) == 1:
        return For(loops[0], 0, extent(loops[0]), "parallel", body)
    total = product(extent(s) for s in loops)
    flat = Symbol(".".join(s.name for s in loops), total)
    rest: Dim = value(flat)
    for s in reversed(loops[1:]):
        body = For(s, rest % extent(s), rest % extent(s) + 1, "serial", body)
        rest = rest // extent(s)
    body = For(loops[0], rest, rest + 1, "serial", body)
    return For(flat, 0, total, "parallel", body)


def ensure_parallel_loop(body: Stmt) -> Stmt:
    """Return body if it has a parallel loop, else wrap it in a parallel loop of one iteration, so that one thread runs it."""
    return body if has_parallel_loop(body) else For(Symbol("once", 1), 0, 1, "parallel", body)


def has_parallel_loop(s: Stmt) -> bool:
    """Tell whether the statement contains a parallel loop."""
    if isinstance(s, Seq):
        return any(map(has_parallel_loop, s.body))
    if isinstance(s, If):
        return has_parallel_loop(s.then) or (s.otherwise is not None and has_parallel_loop(s.otherwise))
    return isinstance(s, (Alloc, For, While)) and ((isinstance(s, For) and s.kind == "parallel") or has_parallel_loop(s.body))


def is_tiny(work: Dim) -> bool:
    """Tell whether the work is done sooner than a second thread could start on it."""
    return isinstance(work, int) and work <= TINY


def on_one_thread(body: Stmt) -> Stmt:
    """Make the body's parallel loop serial, if it is the outermost and only one, so that one thread computes everything."""
    if isinstance(body, Alloc):
        return replace(body, body=on_one_thread(body.body))
    if not isinstance(body, For) or body.kind != "parallel" or has_parallel_loop(body.body) or is_single_threaded(body):
        return body
    return For(Symbol("once", 1), 0, 1, "parallel", replace(body, kind="serial"))


def is_single_threaded(body: Stmt) -> bool:
    """Tell whether the body is a parallel loop of one iteration, so that one thread, always the same, runs it."""
    if isinstance(body, Alloc):
        return is_single_threaded(body.body)
    return isinstance(body, For) and body.kind == "parallel" and not has_parallel_loop(body.body) and body.hi - body.lo == 1
