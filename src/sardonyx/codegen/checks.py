"""Run-time checks of a kernel: record the first failure in the run context and continue with a harmless value; and polling whether
to leave.

    record(context, call, code, a, b, c):
        if cmpxchg(status, 0, 1 + code + (call << 32)) succeeded: store a, b, c to the three slots after the status
    asked(context) -> i1:
        call should_stop (codegen.stop) by the address in the context; 0 if there is none
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from sardonyx.codegen.llvm_types import I1, I64, PTR, VOID, Block, FunctionBuilder, Value, int_type, lanes_of
from sardonyx.codegen.scopes import Frame
from sardonyx.runtime import abi

DETAILS = 3
"""Numbers that are recorded with a failure, for its message."""


def failure(code: int, call: int = 0) -> int:
    """Return the status that a failed check leaves: 1 + code in the low 32 bits, the call's id above them."""
    return 1 + code + (call << 32)


def record(w: FunctionBuilder, context: Value, call: Value, code: int, details: Sequence[Value]) -> None:
    """Emit the call that records a failure. details: at most three i64."""
    padded = [*details, *[w.const(I64, 0)] * (DETAILS - len(details))]
    w.b.call(_recorder(w), [context, call, w.const(I64, code), *padded])


def _recorder(w: FunctionBuilder) -> Value:
    """Return the module's `record` function, which is emitted once."""
    found = w.module.globals.get("record")
    if found is not None:
        return found
    function = ir.Function(w.module, ir.FunctionType(VOID, [PTR, I64, I64] + [I64] * DETAILS), "record")
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("cold")
    context, call, code, *details = function.args
    inner = FunctionBuilder(function, w.target)
    b = inner.b
    b.position_at_end(inner.block("entry"))
    status = b.add(b.add(code, inner.const(I64, 1)), b.shl(call, inner.const(I64, 32)))
    slot = b.gep(context, [inner.const(I64, abi.STATUS)], source_etype=I64)
    won = b.extract_value(b.cmpxchg(slot, inner.const(I64, 0), status, "acq_rel", "monotonic"), 1)
    with b.if_then(won):
        for i, detail in enumerate(details):
            b.store(detail, b.gep(context, [inner.const(I64, abi.DETAIL + i)], source_etype=I64), align=8)
    b.ret_void()
    return function


def unless(f: Frame, good: Value, code: int, details: Sequence[Value]) -> None:
    """Record `code` if `good` is false, or false in some lane. details: i64 values, or vectors, of which the first failing lane is
    recorded.
    """
    w, b = f.builder, f.builder.b
    bad = b.not_(good)
    lanes = lanes_of(bad)
    if lanes is not None:
        if f.vector is not None and f.vector.mask is not None:
            bad = b.and_(bad, f.vector.mask)
        bits = b.bitcast(bad, int_type(lanes))
        bad = b.icmp_unsigned("!=", bits, w.const(bits.type, 0))
    cold, after = w.block("bad"), w.block("good")
    b.cbranch(bad, cold, after)
    b.position_at_end(cold)
    if lanes is not None:
        first = w.intrinsic(f"llvm.cttz.i{lanes}", bits.type, bits, w.const(I1, False))
        details = [b.extract_element(d, first) if lanes_of(d) else d for d in details]
    record(w, f.context, f.call, code, details)
    b.branch(after)
    b.position_at_end(after)


def leave_or(f: Frame, target: Block) -> None:
    """End the current block: return from the kernel if should_stop says so, else branch to `target`."""
    w = f.builder
    if f.left is None:
        here, f.left = w.b.block, w.block("left")
        w.b.position_at_end(f.left)
        w.b.ret_void()
        w.b.position_at_end(here)
    w.b.cbranch(w.b.call(_asked(w), [f.context]), f.left, target)


CONVENTION = "preserve_mostcc"
"""Calling convention of the function that polls: the callee saves nearly all registers, so that loop variables stay in registers.
"""


def _asked(w: FunctionBuilder) -> Value:
    """Return the module's `asked` function, which is emitted once."""
    found = w.module.globals.get("asked")
    if found is not None:
        return found
    function = ir.Function(w.module, ir.FunctionType(I1, [PTR]), "asked")
    function.linkage, function.calling_convention = "internal", CONVENTION
    function.attributes.add("noinline")
    function.attributes.add("cold")
    (context,) = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    ask = b.load(b.gep(context, [I64(abi.STOP_FUNCTION)], source_etype=I64), typ=I64, align=8)
    with b.if_then(b.icmp_unsigned("==", ask, I64(0))):
        b.ret(I1(0))
    b.ret(b.call(b.inttoptr(ask, ir.FunctionType(I1, [PTR]).as_pointer()), [context]))
    return function
