"""The interpreter of a segment's step table (runtime.steps), which every thread of a run executes; emitted once, in the team's
module.

void walk(ptr context, i64 tid, i64 nt):
    row = since = context[STEPS]; ticket = since_ticket = context[TICKET] / 2; return if context[TICKET] is odd: the run is over
    loop:
        what, a, b, c = row
        what >= 0 (a kernel's address), b = count << COUNT_BITS | chunks << 1 | barrier:
            if barrier: barrier()
            chunks > 0:  run_range(row, of this thread); ticket += nt * chunks; row += 1
            chunks == 0: run_group(row); ticket += 1; row += count
            c != 0:      thread 0 awaits the end of the call, and adds the cycles since it began to slot c
        BARRIER: barrier(); row += 1
        CLEAR, COUNT, WHILE: the thread that takes the group's ticket executes the group; the others await it and follow
        JUMP: row = steps[a]
        END: steal as at a barrier; thread 0 also awaits the ticket and marks the run as over
    barrier():
        if not reached(ticket): steal(since, row, since_ticket); await(ticket)
        since, since_ticket = row, ticket

Once the run's status is not 0, kernels are skipped and loops end; every few rows should_stop is polled (codegen.stop). With one
thread (nt = 1) each kernel is called once, as chunk 0 of 1, and no tickets are used. See codegen.tickets and codegen.chunks.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from sardonyx.codegen import chunks
from sardonyx.codegen.chunks import WORD
from sardonyx.codegen.llvm_types import I1, I8, I64, PTR, VOID
from sardonyx.codegen.stop import emit_should_stop
from sardonyx.codegen.tickets import emit_await, emit_finish, emit_reached, emit_take
from sardonyx.codegen.waiting import byte_offset
from sardonyx.runtime import abi

POSITION = abi.SYNC + abi.SYNC_POSITION // WORD


def emit_walk(module: ir.Module) -> None:
    """Emit `walk`, and the functions that it calls, into the team's module."""
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, I64, I64]), "walk")
    function.attributes.add("nounwind")
    _Walk(function).emit()


class _Walk:
    """Emits the body of `walk`: one block per kind of row."""

    def __init__(self, function: ir.Function) -> None:
        self.function, module = function, function.module
        self.stop = emit_should_stop(module)
        self.take, self.finish = emit_take(module), emit_finish(module)
        self.reached, self.await_ = emit_reached(module), emit_await(module, self.stop)
        self.run_range, self.run_group = (
            emit(module, self.take, self.finish, self.stop) for emit in (chunks.emit_run_range, chunks.emit_run_group)
        )
        self.steal = chunks.emit_steal(module, self.run_range, self.run_group)
        self.context, self.tid, self.nt = function.args
        self.b = ir.IRBuilder(function.append_basic_block("entry"))

    def emit(self) -> None:
        """Emit the loop over rows: read a row, and branch to the code for its kind."""
        b = self.b
        self.position, self.ticket, self.single = b.alloca(PTR), b.alloca(I64), b.alloca(I1)
        self.since, self.since_ticket, self.left = b.alloca(PTR), b.alloca(I64), b.alloca(I64)
        b.store(I1(0), self.single)
        b.store(I64(chunks.CALLS), self.left)
        self.asks = b.select(b.icmp_signed("==", self.tid, I64(0)), self.context, PTR(None))
        self.scratch = byte_offset(b, self.slot_value(abi.SCRATCH, PTR), b.mul(self.slot_value(abi.SCRATCH_BYTES), self.tid))
        self.sync, self.together = self.slot(abi.SYNC), b.icmp_signed(">", self.nt, I64(1))
        self.look, self.decided = self.block("look"), self.block("decided")
        over, begin, kernel, other = map(self.block, ("over", "begin", "kernel", "other"))
        start = b.load_atomic(self.slot(abi.TICKET), "acquire", WORD, typ=I64)
        is_over = b.icmp_unsigned("!=", b.and_(start, I64(1)), I64(0))
        b.cbranch(b.and_(is_over, self.together), over, begin)
        b.position_at_end(over)
        b.ret_void()

        b.position_at_end(begin)
        b.store(b.ashr(start, I64(1)), self.ticket)
        self.jump_to(I64(0))
        b.position_at_end(self.look)
        b.store(chunks.poll_now_and_then(b, b.load(self.left, typ=I64), self.stop, self.context), self.left)
        self.row = b.load(self.position, typ=PTR)
        what = self.operand(0)
        b.cbranch(b.icmp_signed(">=", what, I64(0)), kernel, other)
        b.position_at_end(kernel)
        self.call()
        b.position_at_end(other)
        self.choose(what)
        b.position_at_end(self.decided)
        self.adopt()

    def choose(self, what: ir.Value) -> None:
        """Emit a switch over the rows that are not calls."""
        kinds = {
            abi.BARRIER: self.barrier,
            abi.CLEAR: self.clear,
            abi.COUNT: self.count,
            abi.WHILE: self.decide,
            abi.JUMP: self.jump,
        }
        end = self.block("end")
        switch = self.b.switch(what, end)
        for kind, emit in kinds.items():
            block = self.block(emit.__name__)
            switch.add_case(I64(kind), block)
            self.b.position_at_end(block)
            emit()
        self.b.position_at_end(end)
        self.end()

    # ---- memory -------------------------------------------------------------------------------------------------------------

    def slot(self, number: ir.Value | int) -> ir.Value:
        """Return the address of a slot of the context."""
        return chunks.slot(self.b, self.context, number)

    def slot_value(self, number: ir.Value | int, kind: ir.Type = I64) -> ir.Value:
        """Load a slot of the context."""
        return self.b.load(self.slot(number), typ=kind, align=WORD)

    def operand(self, index: int) -> ir.Value:
        """Load one of the current row's numbers."""
        return chunks.operand(self.b, self.row, index)

    def now(self) -> ir.Value:
        """Load the current ticket."""
        return self.b.load(self.ticket, typ=I64)

    # ---- control ------------------------------------------------------------------------------------------------------------

    def block(self, name: str) -> ir.Block:
        return self.function.append_basic_block(name)

    def follow(self, row: ir.Value) -> None:
        """Continue at `row`."""
        self.b.store(row, self.position)
        self.b.branch(self.look)

    def after(self, rows: ir.Value | int = 1) -> ir.Value:
        """Return the address of the row `rows` rows after the current one."""
        return chunks.row_after(self.b, self.row, rows)

    def all_done(self, row: ir.Value) -> None:
        """Record that every call before `row` is finished, so that stealing starts from this row."""
        self.b.store(row, self.since)
        self.b.store(self.now(), self.since_ticket)

    def steal_first(self, then: Callable[[], None], row: ir.Value | None = None) -> None:
        """If calls before this row (by default the current one) are unfinished, steal what is left of them, then run `then`."""
        b = self.b
        before = self.row if row is None else row
        with b.if_then(b.not_(b.call(self.reached, [self.sync, self.now()])), likely=False):
            since = b.load(self.since, typ=PTR), b.load(self.since_ticket, typ=I64)
            b.call(self.steal, [since[0], before, self.context, self.scratch, self.tid, self.nt, since[1]])
            then()

    def wait(self) -> None:
        """Wait until every call before this row is finished."""
        self.b.call(self.await_, [self.sync, self.now(), self.asks])

    def barrier_all(self) -> None:
        """Emit a barrier of all threads; it does nothing when the run has one thread."""
        self.await_calls_before(self.row)

    def await_calls_before(self, row: ir.Value) -> None:
        """Let this thread help with the calls before `row`, then wait until they are finished."""
        with self.b.if_then(self.together):
            self.steal_first(self.wait, row)
            self.all_done(row)

    def advance(self, count: ir.Value) -> None:
        """Add `count` chunks to the ticket."""
        self.b.store(self.b.add(self.now(), count), self.ticket)

    def by_one(self, do: Callable[[], None]) -> None:
        """Run `do` on the one thread that takes the ticket of this group of rows; the other threads await the end of the group."""
        b = self.b
        ask, won, passed, run = map(self.block, ("ask", "won", "passed", "run"))
        b.cbranch(b.or_(b.load(self.single, typ=I1), b.not_(self.together)), run, ask)
        b.position_at_end(ask)
        part = b.call(self.take, [chunks.group_word(b, self.context), self.now(), I64(1)])
        b.cbranch(b.icmp_signed(">=", part, I64(0)), won, passed)
        b.position_at_end(won)
        b.store(I1(1), self.single)
        b.branch(run)
        b.position_at_end(passed)
        b.call(self.await_, [self.sync, b.add(self.now(), I64(1)), self.asks])
        b.branch(self.decided)
        b.position_at_end(run)
        do()

    # ---- rows ---------------------------------------------------------------------------------------------------------------

    def call(self) -> None:
        """Emit a call row: the barrier if there is one, the kernel, and the count of cycles."""
        b = self.b
        how, ticks = self.operand(2), self.operand(3)
        with b.if_then(b.icmp_unsigned("!=", b.and_(how, I64(1)), I64(0))):
            self.barrier_all()
        timed = b.and_(b.icmp_unsigned("!=", ticks, I64(0)), b.icmp_signed("==", self.tid, I64(0)))
        before = self.cycles(timed)
        rows = self.called()
        with b.if_then(timed):
            self.await_calls_before(self.after(rows))
            taken = b.sub(self.read_cycles(), before)
            b.store(b.add(self.slot_value(ticks), taken), self.slot(ticks), align=WORD)
        self.follow(self.after(rows))

    def called(self) -> ir.Value:
        """Run the row's kernel: whole if this is the only thread, in chunks, or as a group. -> the number of rows that were run"""
        b, row, ticket = self.b, self.row, self.now()
        alone, team, shared, one, after = map(self.block, ("alone", "team", "shared", "one", "after"))
        b.cbranch(self.together, team, alone)
        b.position_at_end(alone)
        chunks.emit_call(b, row, self.context, self.scratch, I64(0), I64(1), self.stop)
        alone = b.block
        b.branch(after)
        b.position_at_end(team)
        divided = chunks.chunks_in(b, row)
        b.cbranch(b.icmp_unsigned("!=", divided, I64(0)), shared, one)
        b.position_at_end(shared)
        b.call(self.run_range, [row, self.context, self.scratch, self.tid, self.nt, ticket])
        self.advance(b.mul(self.nt, divided))
        b.branch(after)
        b.position_at_end(one)
        b.call(self.run_group, [row, self.context, self.scratch, ticket])
        count = chunks.count_of(b, row)
        self.advance(I64(1))
        b.branch(after)
        b.position_at_end(after)
        rows = b.phi(I64)
        for number, block in ((I64(1), alone), (I64(1), shared), (count, one)):
            rows.add_incoming(number, block)
        return rows

    def barrier(self) -> None:
        self.barrier_all()
        self.all_done(self.after())
        self.follow(self.after())

    def clear(self) -> None:
        self.by_one(lambda: self.b.store(I64(0), self.slot(self.operand(1)), align=WORD))
        self.follow(self.after())

    def count(self) -> None:
        def count_up() -> None:
            slot = self.slot(self.operand(1))
            self.b.store(self.b.add(self.b.load(slot, typ=I64, align=WORD), I64(1)), slot, align=WORD)

        self.by_one(count_up)
        self.follow(self.after())

    def decide(self) -> None:
        """Emit the end of a group: the thread that runs it decides where all threads go on, and publishes the position."""
        self.by_one(lambda: None)
        b = self.b
        row, team, alone = self.following(), self.block("decides"), self.block("goes")
        b.cbranch(self.together, team, alone)
        b.position_at_end(alone)
        self.follow(row)
        b.position_at_end(team)
        start = b.ptrtoint(self.slot_value(abi.STEPS, PTR), I64)
        number = b.sdiv(b.sub(b.ptrtoint(row, I64), start), I64(abi.ROW_BYTES))
        word = b.or_(b.shl(b.add(self.now(), I64(1)), I64(abi.POSITION_BITS)), number)
        b.atomic_rmw("xchg", self.slot(POSITION), word, "release")
        b.store(I1(0), self.single)
        b.call(self.finish, [self.sync, I64(1)])
        b.branch(self.decided)

    def adopt(self) -> None:
        """Continue at the position that was published last; a late thread has then caught up."""
        b = self.b
        word = b.load_atomic(self.slot(POSITION), "acquire", WORD, typ=I64)
        b.store(b.lshr(word, I64(abi.POSITION_BITS)), self.ticket)
        self.jump_to(b.and_(word, I64((1 << abi.POSITION_BITS) - 1)))

    def following(self) -> ir.Value:
        """Return the row after the next if the loop goes on, else the next row."""
        b = self.b
        iterations = self.slot_value(self.operand(1))
        more = b.and_(b.icmp_signed("<", iterations, self.slot_value(self.operand(2))), chunks.is_running(b, self.context))
        condition = self.operand(3)
        asked, known = map(self.block, ("asked", "known"))
        before = b.block
        b.cbranch(b.icmp_unsigned("==", condition, I64(0)), known, asked)
        b.position_at_end(asked)
        flag = b.load(byte_offset(b, self.slot_value(condition, PTR), b.and_(iterations, I64(1))), typ=I8, align=1)
        both = b.and_(more, b.icmp_unsigned("!=", flag, I8(0)))
        b.branch(known)
        b.position_at_end(known)
        holds = b.phi(more.type)
        holds.add_incoming(more, before)
        holds.add_incoming(both, asked)
        return b.select(holds, self.after(2), self.after())

    def jump(self) -> None:
        self.jump_to(self.operand(1))

    def jump_to(self, number: ir.Value) -> None:
        """Continue at a row of the table, given its number. Every call before it is finished."""
        row = chunks.row_after(self.b, self.slot_value(abi.STEPS, PTR), number)
        self.all_done(row)
        self.follow(row)

    def end(self) -> None:
        """Emit the end of the run: steal what is left; thread 0 waits for all chunks and sets the lowest bit of TICKET."""
        b = self.b
        with b.if_then(self.together):
            self.steal_first(lambda: None)
            with b.if_then(b.icmp_signed("==", self.tid, I64(0))):
                self.wait()
                b.atomic_rmw("xchg", self.slot(abi.TICKET), b.or_(b.shl(self.now(), I64(1)), I64(1)), "release")
        b.ret_void()

    # ---- cycles -------------------------------------------------------------------------------------------------------------

    def cycles(self, wanted: ir.Value) -> ir.Value:
        """Read the processor's cycle counter where `wanted` is true, else return 0."""
        b, before = self.b, self.b.block
        read, on = self.block("timed"), self.block("untimed")
        b.cbranch(wanted, read, on)
        b.position_at_end(read)
        count = self.read_cycles()
        b.branch(on)
        b.position_at_end(on)
        found = b.phi(I64)
        found.add_incoming(I64(0), before)
        found.add_incoming(count, read)
        return found

    def read_cycles(self) -> ir.Value:
        name, module = "llvm.readcyclecounter", self.function.module
        return self.b.call(module.globals.get(name) or ir.Function(module, ir.FunctionType(I64, []), name), [])
