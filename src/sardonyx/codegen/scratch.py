"""Where each scratch allocation of a kernel lies in a thread's piece: nested ones after each other, neighbours in the same place."""

from __future__ import annotations

import functools

from sardonyx.base.errors import Unsupported
from sardonyx.base.symbolic import Dim, maximum, round_up, symbols
from sardonyx.codegen.shape import children
from sardonyx.loop.nodes import Alloc, Buffer, Kernel, Stmt

LINE = 64


def scratch_bytes(kernel: Kernel) -> Dim:
    """Bytes of scratch that one thread needs, over the kernel's sizes; a multiple of 64."""
    return scratch_layout(kernel)[1]


@functools.lru_cache(maxsize=256)
def scratch_layout(kernel: Kernel) -> tuple[dict[Buffer, Dim], Dim]:
    """(byte offset of each scratch buffer, bytes in all). Raises Unsupported for a size that depends on a loop variable."""
    offsets: dict[Buffer, Dim] = {}
    sizes = frozenset(kernel.sizes)

    def visit(stmt: Stmt, used: Dim) -> Dim:
        if isinstance(stmt, Alloc) and stmt.buffer.space == "scratch":
            if not symbols(stmt.size) <= sizes:
                raise Unsupported(f"scratch of {stmt.size} elements, which a loop decides")
            offsets[stmt.buffer] = used
            used = used + round_up(stmt.size * stmt.buffer.dtype.itemsize, LINE)
        most = used
        for inner in children(stmt):
            most = maximum(most, visit(inner, used))
        return most

    return offsets, visit(kernel.body, 0)
