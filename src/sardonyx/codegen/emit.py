"""Emits a kernel as an LLVM module with one exported function.

    void NAME(ptr args, ptr context, ptr scratch, i64 tid, i64 nt)

args: i64 slots: the call's id, the addresses of the kernel's buffers, then its sizes, each in the kernel's order. context: the
context of the run, where a failed check is recorded (codegen.checks). scratch: this thread's piece of `scratch_bytes(kernel)`
bytes. tid, nt: which part of a parallel loop to run, of how many.
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen import statements
from sardonyx.codegen.expressions import element
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import I64, PTR, VOID, Value
from sardonyx.codegen.loop_analysis import unrolled
from sardonyx.codegen.scopes import Bound, Frame, Scope, Spine
from sardonyx.loop.nodes import Kernel


def emit(kernel: Kernel, target: Target, tiles_elsewhere: bool = False) -> ir.Module:
    """Emit the kernel's module. It contains the tiles that the kernel calls, unless tiles_elsewhere says that `tile.library`
    provides them.

    Raises Unsupported for what the target can't compute.
    """
    module = ir.Module(kernel.name)
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64]), kernel.name)
    function.attributes.add("nounwind")
    f = Frame(kernel, function, target, element, tiles_elsewhere)
    start = f.builder.block("start")
    f.push(Scope(Spine(start)))
    _bind_arguments(f)
    statements.run(f, unrolled(kernel.body))
    f.builder.b.ret_void()
    f.builder.b.position_at_end(f.entry)
    f.builder.b.branch(start)
    return module


def _bind_arguments(f: Frame) -> None:
    """Load the addresses of the buffers and the sizes from the slots of args."""
    f.call = _slot(f, 0, I64)
    for i, buffer in enumerate(f.kernel.buffers, 1):
        f.bases[buffer] = _slot(f, i, PTR)
    for i, size in enumerate(f.kernel.sizes, 1 + len(f.kernel.buffers)):
        f.bind(size, Bound(_slot(f, i, f.builder.index)))


def _slot(f: Frame, i: int, t: object) -> Value:
    """Load slot i of args as type t. If t is narrower than 64 bits, the slot's low bytes are the value (little endian)."""
    w = f.builder
    return w.b.load(w.b.gep(f.arguments, [w.const(I64, i)], source_etype=I64), typ=t, align=8)
