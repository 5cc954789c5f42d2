"""How a run is ended early: by its `terminate` flag, by its deadline, or by an exception that a signal handler raises (Ctrl-C).

    i1 should_stop(ptr context):    has the run failed, or should it end? If so, the status says why.

Threads poll it between kernels and between chunks; kernels poll it in long loops; the thread that called the run also polls it
while it waits. Once it has returned true, kernels are skipped and loops end, so that the run is over within milliseconds.

    status is not 0                                    -> 1
    the word at STOP_WORD is not 0                     status = TERMINATED
    the clock has passed STOP_DEADLINE                 status = EXPIRED
    this thread has called the run, is the process's main thread, and has not looked at signals for CYCLES:
        with the GIL: PyErr_CheckSignals(), which runs handlers; if one raised: STOP_ERROR = the exception, status = INTERRUPTED

Python runs signal handlers in the main thread alone, and only when that thread asks for it; no other thread sees that a signal
has arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from sardonyx.codegen.float_mode import choose_mode, emit_get_mode, emit_set_mode
from sardonyx.codegen.llvm_types import I1, I32, I64, PTR, VOID
from sardonyx.codegen.waiting import SystemCalls, architecture, emit_system_call, emit_words, intrinsic, system_calls
from sardonyx.runtime import abi

MONOTONIC = 1  # of clock_gettime
SECOND = 1_000_000_000
CYCLES = {"x86_64": 1 << 26, "aarch64": 1 << 20}
"""Ticks of the counter between two checks for signals: 15 to 70 ms on x86-64, where it counts 1 to 4 GHz; the counter of aarch64
is slower.
"""
COUNTER = {"x86_64": "llvm.readcyclecounter", "aarch64": "llvm.readsteadycounter"}


def emit_should_stop(module: ir.Module) -> ir.Function:
    """Emit the function into the team's module; kernels call it by its address."""
    function = ir.Function(module, ir.FunctionType(I1, [PTR]), "should_stop")
    function.attributes.add("nounwind")
    function.attributes.add("noinline")
    function.attributes.add("cold")
    _Stop(function).emit()
    return function


def emit_cycles(builder: ir.IRBuilder) -> ir.Value | None:
    """Read a counter of the processor, i64; None if the architecture has none in COUNTER."""
    name = COUNTER.get(architecture(builder.module))
    return None if name is None else builder.call(intrinsic(builder.module, name, I64, ()), [])


def emit_thread_pointer(builder: ir.IRBuilder) -> ir.Value:
    """Return a number that differs between threads; 0 on a target that has none."""
    name = architecture(builder.module)
    if name == "x86_64":  # the first word of the thread's block, in the segment that LLVM calls 257, is its own address
        return builder.load(ir.Constant(ir.PointerType(I64, addrspace=257), None), typ=I64)
    if name == "aarch64":
        return builder.ptrtoint(builder.call(intrinsic(builder.module, "llvm.thread.pointer.p0", PTR, ()), []), I64)
    return I64(0)


class _Stop:
    """Emits the body of should_stop."""

    def __init__(self, function: ir.Function) -> None:
        self.function, self.calls = function, system_calls(function.module)
        (self.context,) = function.args
        self.b = ir.IRBuilder(function.append_basic_block("entry"))

    def emit(self) -> None:
        """Emit the tests in order: the status, the flag, the deadline, signals."""
        b = self.b
        self.time, self.word = emit_words(b, 2), b.alloca(I32)
        self.failed = self.function.append_basic_block("failed")
        self.go_on(b.icmp_unsigned("==", b.load_atomic(self.slot(abi.STATUS), "monotonic", 8, typ=I64), I64(0)), self.failed)
        self.look_at_word()
        if self.calls is not None:
            self.look_at_clock(self.calls)
            self.look_at_signals(self.calls)
        b.ret(I1(0))
        b.position_at_end(self.failed)
        b.ret(I1(1))

    # ---- causes -------------------------------------------------------------------------------------------------------------

    def look_at_word(self) -> None:
        """End the run with TERMINATED if the flag at STOP_WORD is set."""
        b = self.b
        word = self.value(abi.STOP_WORD, PTR)
        with b.if_then(b.icmp_unsigned("!=", word, PTR(None))):
            seen = b.load_atomic(word, "monotonic", 8, typ=I64)
            self.end_if(b.icmp_unsigned("!=", seen, I64(0)), abi.TERMINATED)

    def look_at_clock(self, calls: SystemCalls) -> None:
        """End the run with EXPIRED if the deadline has passed."""
        b = self.b
        deadline = self.value(abi.STOP_DEADLINE)
        with b.if_then(b.icmp_unsigned("!=", deadline, I64(0))):
            emit_system_call(b, calls, calls.clock_gettime, (I64(MONOTONIC), b.ptrtoint(self.time, I64)))
            seconds, rest = (b.load(b.gep(self.time, [I64(i)], source_etype=I64), typ=I64) for i in range(2))
            now = b.add(b.mul(seconds, I64(SECOND)), rest)
            self.end_if(b.icmp_signed(">=", now, deadline), abi.EXPIRED)

    def look_at_signals(self, calls: SystemCalls) -> None:
        """On the main thread, if CYCLES have passed since the last check: let Python run signal handlers, and end the run with
        INTERRUPTED if one raised.
        """
        b = self.b
        now = emit_cycles(b)
        assert now is not None, "a target with system calls but without a counter"
        python = self.value(abi.STOP_PYTHON, PTR)
        here = b.icmp_unsigned("==", self.value(abi.STOP_CALLER), emit_thread_pointer(b))
        since = b.sub(now, self.value(abi.STOP_LOOKED))
        due = b.icmp_unsigned(">", since, I64(CYCLES[architecture(b.module)]))
        with b.if_then(b.and_(b.and_(here, due), b.icmp_unsigned("!=", python, PTR(None)))):
            b.store(now, self.slot(abi.STOP_LOOKED))
            thread, process = (emit_system_call(b, calls, number, ()) for number in (calls.gettid, calls.getpid))
            with b.if_then(b.icmp_unsigned("==", thread, process)):
                self.end_if(b.icmp_unsigned("!=", self.raised(python), I32(0)), abi.INTERRUPTED)

    def raised(self, python: ir.Value) -> ir.Value:
        """Run Python's signal handlers. -> not 0 if one has raised an exception, which is then stored in STOP_ERROR"""
        b = self.b
        hold, look, fetch, release = (b.load(b.gep(python, [I64(i)], source_etype=I64), typ=I64) for i in range(4))
        mode = emit_get_mode(b, self.word)
        emit_set_mode(b, self.word, choose_mode(b, I1(0)))  # handlers run in the default float mode, not in the run's
        state = self.call(hold, I32, [])
        raised = self.call(look, I32, [])
        with b.if_then(b.icmp_unsigned("!=", raised, I32(0))):
            self.call(fetch, VOID, [self.slot(abi.STOP_ERROR + i) for i in range(3)])
        self.call(release, VOID, [state])
        emit_set_mode(b, self.word, mode)
        return raised

    # ---- control ------------------------------------------------------------------------------------------------------------

    def slot(self, number: int) -> ir.Value:
        return self.b.gep(self.context, [I64(number)], source_etype=I64)

    def value(self, number: int, kind: ir.Type = I64) -> ir.Value:
        return self.b.load(self.slot(number), typ=kind, align=8)

    def call(self, address: ir.Value, result: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
        signature = ir.FunctionType(result, [a.type for a in arguments])
        return self.b.call(self.b.inttoptr(address, signature.as_pointer()), arguments)

    def go_on(self, condition: ir.Value, otherwise: ir.Block) -> None:
        """Continue in a new block if `condition` holds, else branch to `otherwise`."""
        after = self.function.append_basic_block("on")
        self.b.cbranch(condition, after, otherwise)
        self.b.position_at_end(after)

    def end_if(self, condition: ir.Value, status: int) -> None:
        """If `condition` holds, set the status unless it is set already (the first cause counts), and return true."""
        b = self.b
        end = self.function.append_basic_block("end")
        self.go_on(b.not_(condition), end)
        here = b.block
        b.position_at_end(end)
        b.cmpxchg(self.slot(abi.STATUS), I64(0), I64(status), "acq_rel", "monotonic")
        b.branch(self.failed)
        b.position_at_end(here)
