"""How much scratch memory a kernel needs per thread: nested allocations add up, allocations side by side share memory."""

from __future__ import annotations

from sardonyx.base.cache_line import LINE
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, maximum, round_up, symbols
from sardonyx.codegen.loop_analysis import children
from sardonyx.loop.nodes import Alloc, Kernel, Stmt


def scratch_bytes(kernel: Kernel) -> Dim:
    """Return the bytes of scratch that one thread needs, as a function of the kernel's sizes; a multiple of 64.

    Raises Unsupported for a size that depends on a loop variable.
    """
    sizes = frozenset(kernel.sizes)

    def most(stmt: Stmt) -> Dim:
        own: Dim = 0
        if isinstance(stmt, Alloc) and stmt.buffer.space == "scratch":
            if not symbols(stmt.size) <= sizes:
                raise Unsupported(f"the size of a scratch allocation, {stmt.size} elements, depends on a loop variable")
            own = allocated(stmt)
        inside: Dim = 0
        for inner in children(stmt):
            inside = maximum(inside, most(inner))
        return own + inside

    return most(kernel.body)


def allocated(stmt: Alloc) -> Dim:
    """Return the bytes that an allocation takes, rounded up to whole cache lines."""
    return round_up(stmt.size * stmt.buffer.dtype.itemsize, LINE)
