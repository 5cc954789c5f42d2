"""A program's own module: entries that call its kernels in order, and plans that compute its sizes.

    void run_I(ptr context, i64 tid, i64 nt)      the steps of part I, run by every thread of the team
    void NAME(ptr context)                        a plan: assignments of integers to slots, in order

    call       [barrier]  kernel(context + slot, context, scratch of this thread, tid, nt)
    repeat     [barrier]  while turn < trip and condition: steps; barrier; every counter's slot + 1 by one thread; barrier

A plan's arithmetic is checked: where it overflows, or divides by something that is not positive, the status becomes OVERFLOW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llvmlite import ir

from sardonyx.base.symbolic import Dim, Symbol
from sardonyx.codegen import sync
from sardonyx.codegen.features import Target
from sardonyx.codegen.plans import OVERFLOW, emit_plan
from sardonyx.codegen.words import I8, I64, PTR, VOID, Value, Words
from sardonyx.runtime import abi

KERNEL = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64])


@dataclass(frozen=True, slots=True)
class CallStep:
    """Call a kernel whose arguments start at a slot; barrier: the team meets first. ticks: the slot that adds up its cycles, if timed."""

    kernel: str
    slot: int
    barrier: bool = False
    ticks: int = 0


@dataclass(frozen=True, slots=True)
class RepeatStep:
    """Steps again and again, from turn 0: as often as slot `trip` says, while the bool whose address is in slot `condition` (if any) is True.

    counters: slots that hold the number of the turn, each counted up after a turn; the first is the one compared with `trip`.
    """

    trip: int
    counters: Sequence[int]
    condition: int | None
    steps: tuple[RunStep, ...]


RunStep: TypeAlias = CallStep | RepeatStep


def emit_program(
    target: Target,
    runs: Sequence[Sequence[RunStep]],
    plans: Mapping[str, Sequence[tuple[int, Dim]]],
    slots: Mapping[Symbol, int],
    timed: bool = False,
) -> ir.Module:
    """The module with run_0, run_1, ... and the plans. slots: where each symbol of the plans' integers is found.

    timed: thread 0 adds each call's cycles to its `ticks`.
    """
    module = ir.Module("program")
    module.triple = target.triple
    for i, steps in enumerate(runs):
        _Run(module, target, f"run_{i}", timed).emit(steps)
    for name, assignments in plans.items():
        emit_plan(module, target, name, assignments, slots)
    return module


class _Run:
    """A run function under construction."""

    def __init__(self, module: ir.Module, target: Target, name: str, timed: bool) -> None:
        self.timed = timed
        function = ir.Function(module, ir.FunctionType(VOID, [PTR, I64, I64]), name)
        function.attributes.add("nounwind")
        self.w = Words(function, target)
        self.context, self.tid, self.nt = function.args

    def emit(self, steps: Sequence[RunStep]) -> None:
        w = self.w
        w.b.position_at_end(w.block("entry"))
        own = w.b.mul(self.load(abi.SCRATCH_BYTES, I64), self.tid)
        self.scratch = w.b.gep(self.load(abi.SCRATCH, PTR), [own], source_etype=I8)
        self.sequence(steps)
        w.b.ret_void()

    def slot(self, number: int) -> Value:
        """The address of a slot."""
        return self.w.b.gep(self.context, [self.w.const(I64, number)], source_etype=I64)

    def load(self, number: int, t: object) -> Value:
        return self.w.b.load(self.slot(number), typ=t, align=8)

    def barrier(self) -> None:
        sync.barrier(self.w, self.context, self.nt)

    def sequence(self, steps: Sequence[RunStep]) -> None:
        for step in steps:
            if isinstance(step, CallStep):
                self.call(step)
            else:
                self.repeat(step)

    def call(self, step: CallStep) -> None:
        w = self.w
        kernel = w.module.globals.get(step.kernel) or ir.Function(w.module, KERNEL, step.kernel)
        if step.barrier:
            self.barrier()
        before = self.cycles() if self.timed else None
        w.b.call(kernel, [self.slot(step.slot), self.context, self.scratch, self.tid, self.nt])
        if before is not None:
            taken = w.b.sub(self.cycles(), before)
            with w.b.if_then(w.b.icmp_signed("==", self.tid, w.const(I64, 0))):
                w.b.store(w.b.add(self.load(step.ticks, I64), taken), self.slot(step.ticks), align=8)

    def cycles(self) -> Value:
        name = "llvm.readcyclecounter"
        return self.w.b.call(self.w.module.globals.get(name) or ir.Function(self.w.module, ir.FunctionType(I64, []), name), [])

    def repeat(self, step: RepeatStep) -> None:
        """barrier; counters = 0; barrier; while go on: steps; barrier; counters + 1; barrier

        Every thread reads the same turn and condition: what decides was written before the barrier.
        """
        w, b = self.w, self.w.b
        head, body, after = w.block("while"), w.block("turn"), w.block("after")
        self.barrier()
        with b.if_then(b.icmp_signed("==", self.tid, w.const(I64, 0))):
            for counter in step.counters:
                b.store(w.const(I64, 0), self.slot(counter), align=8)
        self.barrier()
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(self.goes_on(step), body, after)
        b.position_at_end(body)
        self.sequence(step.steps)
        self.barrier()
        self.count(step)
        self.barrier()
        b.branch(head)
        b.position_at_end(after)

    def goes_on(self, step: RepeatStep) -> Value:
        w, b = self.w, self.w.b
        more = b.icmp_signed("<", self.load(step.counters[0], I64), self.load(step.trip, I64))
        if step.condition is None:
            return more
        flag = b.load(self.load(step.condition, PTR), typ=I8, align=1)
        return b.and_(more, b.icmp_unsigned("!=", flag, w.const(I8, 0)))

    def count(self, step: RepeatStep) -> None:
        """One thread counts for all."""
        w, b = self.w, self.w.b
        with b.if_then(b.icmp_signed("==", self.tid, w.const(I64, 0))):
            for counter in step.counters:
                b.store(b.add(self.load(counter, I64), w.const(I64, 1)), self.slot(counter), align=8)


__all__ = ["OVERFLOW", "CallStep", "RepeatStep", "RunStep", "emit_program"]
