"""The floating-point mode of a thread: rounding, and what becomes of subnormal numbers.

A library of the process may have changed it on some threads, and a new thread inherits it; results must not depend on
that, so every thread of a run takes on the run's mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from sardonyx.codegen.llvm_types import I32, I64, PTR, VOID
from sardonyx.codegen.waiting import architecture, intrinsic


@dataclass(frozen=True, slots=True)
class FloatModes:
    """Values of the control register: IEEE's default (nearest, subnormals kept, no traps), and subnormals taken as 0."""

    kind: ir.Type
    ieee: int
    flushing: int


MODES = {
    "x86_64": FloatModes(I32, 0x1F80, 0x1F80 | 0x8040),  # MXCSR; its bits FZ and DAZ
    "aarch64": FloatModes(I64, 0, 1 << 24),  # FPCR; its bit FZ
}


def emit_get_mode(builder: ir.IRBuilder, word: ir.Value) -> ir.Value | None:
    """The thread's mode; None on a target without a row. word: room for an i32."""
    match architecture(builder.module):
        case "x86_64":
            builder.call(intrinsic(builder.module, "llvm.x86.sse.stmxcsr", VOID, (PTR,)), [word])
            return builder.load(word, typ=I32)
        case "aarch64":
            return builder.call(intrinsic(builder.module, "llvm.aarch64.get.fpcr", I64, ()), [])
        case _:
            return None


def emit_set_mode(builder: ir.IRBuilder, word: ir.Value, mode: ir.Value | None) -> None:
    """Take on a mode, as `emit_get_mode` or `choose_mode` returned it. word: room for an i32."""
    match architecture(builder.module):
        case "x86_64":
            builder.store(mode, word)
            builder.call(intrinsic(builder.module, "llvm.x86.sse.ldmxcsr", VOID, (PTR,)), [word])
        case "aarch64":
            builder.call(intrinsic(builder.module, "llvm.aarch64.set.fpcr", VOID, (I64,)), [mode])


def choose_mode(builder: ir.IRBuilder, flushes: ir.Value) -> ir.Value | None:
    """The mode for a run; flushes: i1, whether it takes subnormals as 0. None on a target without a row."""
    row = MODES.get(architecture(builder.module))
    return None if row is None else builder.select(flushes, row.kind(row.flushing), row.kind(row.ieee))
