"""The walk along a segment's steps (runtime.steps), run by every thread of the team; emitted once, beside the team.

void walk(ptr context, i64 tid, i64 nt):
    row = context[STEPS]
    loop:
        what, a, b, c = row
        if what >= 0:           a kernel's address
            if b and nt > 1: barrier
            what(context + a, context, scratch of this thread, tid, nt); with c, thread 0 adds its cycles to slot c
            row += 1
        else as runtime.steps says
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from llvmlite import ir

from sardonyx.codegen.waiting import byte_offset
from sardonyx.codegen.words import I8, I64, PTR, VOID
from sardonyx.runtime import abi

KERNEL = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64])
WORD = abi.SLOT_BYTES


def emit_walk(module: ir.Module) -> None:
    """Emits the function into the team's module, where `barrier` is."""
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, I64, I64]), "walk")
    function.attributes.add("nounwind")
    _Walk(function, module.globals["barrier"]).emit()


class _Walk:
    def __init__(self, function: ir.Function, barrier: ir.Function) -> None:
        self.function, self.barrier = function, barrier
        self.context, self.tid, self.nt = function.args
        self.b = ir.IRBuilder(function.append_basic_block("entry"))

    def emit(self) -> None:
        b = self.b
        self.scratch = byte_offset(b, self.slot_value(abi.SCRATCH, PTR), b.mul(self.slot_value(abi.SCRATCH_BYTES), self.tid))
        self.together = b.icmp_signed(">", self.nt, I64(1))
        start, entry = self.slot_value(abi.STEPS, PTR), b.block
        self.look, kernel, other = map(self.function.append_basic_block, ("look", "kernel", "other"))
        b.branch(self.look)
        b.position_at_end(self.look)
        self.row = b.phi(PTR)
        self.row.add_incoming(start, entry)
        what = self.operand(0)
        b.cbranch(b.icmp_signed(">=", what, I64(0)), kernel, other)
        b.position_at_end(kernel)
        self.call(b.inttoptr(what, KERNEL.as_pointer()))
        b.position_at_end(other)
        self.choose(what)

    def choose(self, what: ir.Value) -> None:
        """Every row that is no call."""
        kinds = {abi.MEET: self.meet, abi.CLEAR: self.clear, abi.COUNT: self.count, abi.WHILE: self.go_on, abi.GO: self.go}
        end = self.function.append_basic_block("end")
        switch = self.b.switch(what, end)
        for kind, emit in kinds.items():
            block = self.function.append_basic_block(emit.__name__)
            switch.add_case(I64(kind), block)
            self.b.position_at_end(block)
            emit()
        self.b.position_at_end(end)
        self.b.ret_void()

    # ---- memory -------------------------------------------------------------------------------------------------------------

    def slot(self, number: ir.Value | int) -> ir.Value:
        """The address of a slot."""
        return self.b.gep(self.context, [I64(number) if isinstance(number, int) else number], source_etype=I64)

    def slot_value(self, number: ir.Value | int, kind: ir.Type = I64) -> ir.Value:
        return self.b.load(self.slot(number), typ=kind, align=WORD)

    def operand(self, index: int) -> ir.Value:
        """A number of the row."""
        return self.b.load(byte_offset(self.b, self.row, index * WORD), typ=I64, align=WORD)

    # ---- control ------------------------------------------------------------------------------------------------------------

    def follow(self, row: ir.Value) -> None:
        """Goes on at a row."""
        self.row.add_incoming(row, self.b.block)
        self.b.branch(self.look)

    def after(self, rows: int = 1) -> ir.Value:
        """The row that so many rows lead to."""
        return byte_offset(self.b, self.row, rows * abi.ROW_BYTES)

    # ---- rows ---------------------------------------------------------------------------------------------------------------

    def call(self, kernel: ir.Value) -> None:
        b = self.b
        meets = b.icmp_unsigned("!=", self.operand(2), I64(0))
        with b.if_then(b.and_(meets, self.together)):
            self.meet_all()
        arguments = [self.slot(self.operand(1)), self.context, self.scratch, self.tid, self.nt]
        ticks = self.operand(3)
        plain, timed = map(self.function.append_basic_block, ("plain", "timed"))
        b.cbranch(b.icmp_unsigned("==", ticks, I64(0)), plain, timed)
        b.position_at_end(plain)
        b.call(kernel, arguments)
        self.follow(self.after())
        b.position_at_end(timed)
        before = self.cycles()
        b.call(kernel, arguments)
        self.add_alone(ticks, b.sub(self.cycles(), before))
        self.follow(self.after())

    def meet(self) -> None:
        self.meet_all()
        self.follow(self.after())

    def clear(self) -> None:
        with self.alone():
            self.b.store(I64(0), self.slot(self.operand(1)), align=WORD)
        self.follow(self.after())

    def count(self) -> None:
        self.add_alone(self.operand(1), I64(1))
        self.follow(self.after())

    def go_on(self) -> None:
        b = self.b
        more = b.icmp_signed("<", self.slot_value(self.operand(1)), self.slot_value(self.operand(2)))
        condition = self.operand(3)
        asked, decided = map(self.function.append_basic_block, ("asked", "decided"))
        before = b.block
        b.cbranch(b.icmp_unsigned("==", condition, I64(0)), decided, asked)
        b.position_at_end(asked)
        flag = b.load(self.slot_value(condition, PTR), typ=I8, align=1)
        both = b.and_(more, b.icmp_unsigned("!=", flag, I8(0)))
        b.branch(decided)
        b.position_at_end(decided)
        holds = b.phi(more.type)
        holds.add_incoming(more, before)
        holds.add_incoming(both, asked)
        self.follow(b.select(holds, self.after(2), self.after()))

    def go(self) -> None:
        start = self.slot_value(abi.STEPS, PTR)
        self.follow(byte_offset(self.b, start, self.b.mul(self.operand(1), I64(abi.ROW_BYTES))))

    # ---- what rows are made of ----------------------------------------------------------------------------------------------

    def meet_all(self) -> None:
        self.b.call(self.barrier, [self.slot(abi.SYNC), self.nt])

    def alone(self) -> AbstractContextManager[object]:
        """For one thread of the team."""
        block: AbstractContextManager[object] = self.b.if_then(self.b.icmp_signed("==", self.tid, I64(0)))
        return block

    def add_alone(self, slot: ir.Value, amount: ir.Value) -> None:
        with self.alone():
            self.b.store(self.b.add(self.slot_value(slot), amount), self.slot(slot), align=WORD)

    def cycles(self) -> ir.Value:
        name, module = "llvm.readcyclecounter", self.function.module
        return self.b.call(module.globals.get(name) or ir.Function(module, ir.FunctionType(I64, []), name), [])
