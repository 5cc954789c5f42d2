"""Where each scratch allocation of a kernel lies in a thread's piece: nested ones after each other, neighbours in the same place."""

from __future__ import annotations

from sardonyx.base.cache_line import LINE
from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, maximum, round_up, symbols
from sardonyx.codegen.loop_analysis import children
from sardonyx.loop.nodes import Alloc, Kernel, Stmt


def scratch_bytes(kernel: Kernel) -> Dim:
    """Bytes of scratch that one thread needs, over the kernel's sizes; a multiple of 64.

    Raises Unsupported for a size that depends on a loop variable.
    """
    sizes = frozenset(kernel.sizes)

    def most(stmt: Stmt) -> Dim:
        own: Dim = 0
        if isinstance(stmt, Alloc) and stmt.buffer.space == "scratch":
            if not symbols(stmt.size) <= sizes:
                raise Unsupported(f"scratch of {stmt.size} elements, which a loop decides")
            own = allocated(stmt)
        inside: Dim = 0
        for inner in children(stmt):
            inside = maximum(inside, most(inner))
        return own + inside

    return most(kernel.body)


def allocated(stmt: Alloc) -> Dim:
    """Bytes that an allocation takes: whole lines."""
    return round_up(stmt.size * stmt.buffer.dtype.itemsize, LINE)
