"""Calls of the team's barrier from emitted code."""

from __future__ import annotations

from sardonyx.codegen import team
from sardonyx.codegen.words import I8, I64, Value, Words
from sardonyx.runtime import abi


def barrier(w: Words, context: Value, threads: Value) -> None:
    """All `threads` of the team meet; the sync area is the context's."""
    area = w.b.gep(context, [w.const(I64, abi.SYNC * abi.SLOT_BYTES)], source_etype=I8)
    w.b.call(team.emit_barrier(w.module), [area, threads])
