"""The floating-point mode of a thread: rounding, and whether subnormal numbers are flushed to zero.

A library may have changed the mode on some threads, and a new thread inherits it. Results must not depend on that, so every
thread of a run sets the run's mode.
"""

from __future__ import annotations

from llvmlite import ir
from msgspec import Struct

from sardonyx.codegen.llvm_types import I32, I64, PTR, VOID
from sardonyx.codegen.waiting import architecture, intrinsic


class FloatModes(Struct, frozen=True):
    """Values of the control register: IEEE's default (round to nearest, subnormals, no traps), and with subnormals flushed to 0."""

    kind: ir.Type
    ieee: int
    flushing: int


MODES = {
    "x86_64": FloatModes(I32, 0x1F80, 0x1F80 | 0x8040),  # MXCSR; its bits FZ and DAZ
    "aarch64": FloatModes(I64, 0, 1 << 24),  # FPCR; its bit FZ
}


def emit_get_mode(builder: ir.IRBuilder, word: ir.Value) -> ir.Value | None:
    """Read the thread's mode; None on a target without a row in MODES. word: address of an i32 on the stack."""
    match architecture(builder.module):
        case "x86_64":
            builder.call(intrinsic(builder.module, "llvm.x86.sse.stmxcsr", VOID, (PTR,)), [word])
            return builder.load(word, typ=I32)
        case "aarch64":
            return builder.call(intrinsic(builder.module, "llvm.aarch64.get.fpcr", I64, ()), [])
        case _:
            return None


def emit_set_mode(builder: ir.IRBuilder, word: ir.Value, mode: ir.Value | None) -> None:
    """Set the thread's mode to what `emit_get_mode` or `choose_mode` returned. word: address of an i32 on the stack."""
    match architecture(builder.module):
        case "x86_64":
            builder.store(mode, word)
            builder.call(intrinsic(builder.module, "llvm.x86.sse.ldmxcsr", VOID, (PTR,)), [word])
        case "aarch64":
            builder.call(intrinsic(builder.module, "llvm.aarch64.set.fpcr", VOID, (I64,)), [mode])


def choose_mode(builder: ir.IRBuilder, flushes: ir.Value) -> ir.Value | None:
    """Return the mode of a run; flushes (i1): whether it flushes subnormals to 0. None on a target without a row in MODES."""
    row = MODES.get(architecture(builder.module))
    return None if row is None else builder.select(flushes, row.kind(row.flushing), row.kind(row.ieee))
