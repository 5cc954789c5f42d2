"""The native half of the thread team: what a worker does from its start to its end, and how a run borrows workers.

The code refers to no external symbol. Byte offsets and the states of a worker are defined in runtime.abi.
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen.float_mode import choose_mode, emit_get_mode, emit_set_mode
from sardonyx.codegen.llvm_types import I32, I64, PTR, VOID
from sardonyx.codegen.replay import emit_replay
from sardonyx.codegen.stop import emit_thread_pointer
from sardonyx.codegen.waiting import (
    byte_offset,
    emit_sleep,
    emit_spin,
    emit_wake,
    emit_yield,
    internal_function,
    is_flag,
    spin_rounds,
)
from sardonyx.codegen.walk import emit_walk
from sardonyx.runtime import abi

LEAVING = 200
"""Rounds for which `dispatch` spins for workers that are about to leave."""


def emit_team(triple: str) -> ir.Module:
    """Emit the module with the team's entries: worker(control, index), dispatch(control, entry, context, most) and stop(control),
    the interpreter of step tables (codegen.walk), should_stop (codegen.stop), and the function that replays a run
    (codegen.replay).

    triple: LLVM's target triple. Raises ValueError if it is empty.
    """
    module = ir.Module("team")
    module.triple = triple
    _emit_worker(module)
    _emit_dispatch(module)
    _emit_stop(module)
    emit_walk(module)
    emit_replay(module)
    return module


def _emit_worker(module: ir.Module) -> None:
    """Emit `void worker(ptr control, i64 index)`: the loop of a worker, from its start until `stop`.

    state = IDLE
    loop:
        seen = spin(state, IDLE), without spinning before the first job and after a job with NO_SPIN
        IDLE:    state = ASLEEP if it is still IDLE
        ASLEEP:  if stop: state = ABSENT if it is still ASLEEP, then return
                 sleep while state is ASLEEP
        JOB:     entry(context, tid, nt) in the job's float mode; state = IDLE; context.inside -= 1
        claimed: yield, because the job is about to be published
    """
    spin = emit_spin(module)
    function = _entry_point(module, "worker", (PTR, I64))
    control, index = function.args
    names = ("born", "look", "idle", "asleep", "leave", "sleep", "claimed", "job", "gone")
    born, look, idle, asleep, leave, sleep, claimed, job, gone = map(function.append_basic_block, names)
    builder = ir.IRBuilder(born)
    record = _record(builder, control, index)
    state = byte_offset(builder, record, abi.RECORD_STATE)
    word, flags_of_last = builder.alloca(I32), builder.alloca(I64)
    builder.store(I64(abi.NO_SPIN), flags_of_last)
    builder.atomic_rmw("xchg", state, I32(abi.IDLE), "release")
    builder.branch(look)

    builder.position_at_end(look)
    rounds = spin_rounds(builder, is_flag(builder, builder.load(flags_of_last, typ=I64), abi.NO_SPIN))
    switch = builder.switch(builder.call(spin, [state, I32(abi.IDLE), rounds]), claimed)
    for value, block in ((abi.IDLE, idle), (abi.ASLEEP, asleep), (abi.JOB, job)):
        switch.add_case(I32(value), block)

    builder.position_at_end(idle)
    _exchange(builder, state, I32(abi.IDLE), I32(abi.ASLEEP))
    builder.branch(look)

    builder.position_at_end(asleep)
    stop = builder.load_atomic(byte_offset(builder, control, abi.CONTROL_STOP), "seq_cst", 4, typ=I32)
    builder.cbranch(builder.icmp_unsigned("==", stop, I32(0)), sleep, leave)
    builder.position_at_end(leave)
    builder.cbranch(_exchange(builder, state, I32(abi.ASLEEP), I32(abi.ABSENT)), gone, look)
    builder.position_at_end(sleep)
    emit_sleep(builder, state, I32(abi.ASLEEP))
    builder.branch(look)

    builder.position_at_end(claimed)
    emit_yield(builder)
    builder.branch(look)

    builder.position_at_end(job)
    builder.store(_emit_job(builder, record, word), flags_of_last)
    builder.branch(look)

    builder.position_at_end(gone)
    builder.ret_void()


def _emit_job(builder: ir.IRBuilder, record: ir.Value, word: ir.Value) -> ir.Value:
    """Run the job in a worker's record. word: the address of an i32 on the worker's stack. -> the flags of the job's context"""
    entry, tid, nt = (
        builder.load(byte_offset(builder, record, offset), typ=I64) for offset in (abi.RECORD_ENTRY, abi.RECORD_TID, abi.RECORD_NT)
    )
    context = builder.load(byte_offset(builder, record, abi.RECORD_CONTEXT), typ=PTR)
    flags = _flags_of(builder, context)
    emit_set_mode(builder, word, choose_mode(builder, is_flag(builder, flags, abi.FLUSH)))
    _call_entry(builder, entry, context, tid, nt)
    builder.atomic_rmw("xchg", byte_offset(builder, record, abi.RECORD_STATE), I32(abi.IDLE), "release")
    inside = byte_offset(builder, context, abi.INSIDE * abi.SLOT_BYTES)
    builder.atomic_rmw("sub", inside, I64(1), "release")  # the worker doesn't touch the context after this
    return flags


def _emit_dispatch(module: ir.Module) -> None:
    """Emit `void dispatch(ptr control, i64 entry, ptr context, i64 most)`: run an entry on at most `most` threads.

    It borrows those workers that are idle, perhaps none; the caller is thread 0. It returns when the calling thread has left
    the entry. Workers that are late, or have not begun, still count as inside; no worker may be inside the context when
    dispatch is called.

    inside = claim idle workers; clear the bit that says that the run is over; publish; entry(context, 0, nt); spin briefly for
    workers that are leaving
    """
    claim, publish, spin = _emit_claim(module), _emit_publish(module), emit_spin(module)
    function = _entry_point(module, "dispatch", (PTR, I64, PTR, I64))
    control, entry, context, most = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    newest, word = builder.alloca(PTR), builder.alloca(I32)
    borrowed = builder.call(claim, [control, builder.sub(most, I64(1)), newest])
    inside, ticket = (byte_offset(builder, context, slot * abi.SLOT_BYTES) for slot in (abi.INSIDE, abi.TICKET))
    builder.store(emit_thread_pointer(builder), byte_offset(builder, context, abi.STOP_CALLER * abi.SLOT_BYTES), align=8)
    builder.store(borrowed, inside, align=8)
    builder.store(builder.and_(builder.load(ticket, typ=I64), I64(~1)), ticket, align=8)
    builder.call(publish, [builder.load(newest, typ=PTR), entry, context, borrowed])
    mode = emit_get_mode(builder, word)
    emit_set_mode(builder, word, choose_mode(builder, is_flag(builder, _flags_of(builder, context), abi.FLUSH)))
    _call_entry(builder, entry, context, I64(0), builder.add(borrowed, I64(1)))
    emit_set_mode(builder, word, mode)
    left = builder.load_atomic(inside, "acquire", 4, typ=I32)
    with builder.if_then(builder.icmp_unsigned("!=", left, I32(0))):
        builder.call(spin, [inside, left, I32(LEAVING)])
    builder.ret_void()


def _emit_claim(module: ir.Module) -> ir.Function:
    """Emit `i64 claim(ptr control, i64 most, ptr newest)`: claim idle workers; return how many.

    The claimed records form a linked list, from the one that was claimed last to the first.

    for index in range(workers) while claimed < most:
        while (seen = state) is IDLE or ASLEEP:
            if state exchanged from seen to seen + CLAIM: link the record; break
    """
    function = internal_function(module, "claim", I64, (PTR, I64, PTR))
    control, most, newest = function.args
    names = ("entry", "search", "look", "take", "link", "skip", "done")
    entry, search, look, take, link, skip, done = map(function.append_basic_block, names)
    builder = ir.IRBuilder(entry)
    builder.store(PTR(None), newest)
    word = byte_offset(builder, control, abi.CONTROL_WORKERS)
    workers = builder.load_atomic(word, "acquire", 8, typ=I64)
    builder.branch(search)

    builder.position_at_end(search)
    index, claimed = builder.phi(I64), builder.phi(I64)
    left = builder.icmp_signed("<", index, workers)
    builder.cbranch(builder.and_(left, builder.icmp_signed("<", claimed, most)), look, done)

    builder.position_at_end(look)
    record = _record(builder, control, index)
    state = byte_offset(builder, record, abi.RECORD_STATE)
    seen = builder.load_atomic(state, "monotonic", 4, typ=I32)
    is_free = builder.icmp_unsigned("<=", builder.sub(seen, I32(abi.IDLE)), I32(abi.ASLEEP - abi.IDLE))
    builder.cbranch(is_free, take, skip)
    builder.position_at_end(take)
    builder.cbranch(_exchange(builder, state, seen, builder.add(seen, I32(abi.CLAIM))), link, look)
    builder.position_at_end(link)
    builder.store(builder.load(newest, typ=PTR), byte_offset(builder, record, abi.RECORD_NEXT))
    builder.store(record, newest)
    more = builder.add(claimed, I64(1))
    builder.branch(skip)
    builder.position_at_end(skip)
    total = builder.phi(I64)
    total.add_incoming(claimed, look)
    total.add_incoming(more, link)
    following = builder.add(index, I64(1))
    builder.branch(search)
    for phi, value in ((index, following), (claimed, total)):
        phi.add_incoming(I64(0), entry)
        phi.add_incoming(value, skip)

    builder.position_at_end(done)
    builder.ret(claimed)
    return function


def _emit_publish(module: ir.Module) -> ir.Function:
    """Emit `void publish(ptr record, i64 entry, ptr context, i64 borrowed)`: give the job to the claimed workers.

    tid = borrowed
    while record:
        next = record.next; fill in the job
        if exchange(state, JOB) was CLAIMED_ASLEEP: wake the worker
        record = next; tid -= 1
    """
    function = internal_function(module, "publish", VOID, (PTR, I64, PTR, I64))
    first, entry, context, borrowed = function.args
    names = ("start", "search", "give", "wake", "on", "done")
    start, search, give, wake, on, done = map(function.append_basic_block, names)
    builder = ir.IRBuilder(start)
    nt = builder.add(borrowed, I64(1))
    builder.branch(search)

    builder.position_at_end(search)
    record, tid = builder.phi(PTR), builder.phi(I64)
    builder.cbranch(builder.icmp_unsigned("==", record, PTR(None)), done, give)

    builder.position_at_end(give)
    following = builder.load(byte_offset(builder, record, abi.RECORD_NEXT), typ=PTR)
    job = ((abi.RECORD_ENTRY, entry), (abi.RECORD_CONTEXT, context), (abi.RECORD_TID, tid), (abi.RECORD_NT, nt))
    for offset, value in job:
        builder.store(value, byte_offset(builder, record, offset))
    state = byte_offset(builder, record, abi.RECORD_STATE)
    before = builder.atomic_rmw("xchg", state, I32(abi.JOB), "acq_rel")
    builder.cbranch(builder.icmp_unsigned("==", before, I32(abi.CLAIMED_ASLEEP)), wake, on)
    builder.position_at_end(wake)
    emit_wake(builder, state, 1)
    builder.branch(on)
    builder.position_at_end(on)
    lower = builder.sub(tid, I64(1))
    builder.branch(search)
    for phi, value, initial in ((record, following, first), (tid, lower, borrowed)):
        phi.add_incoming(initial, start)
        phi.add_incoming(value, on)

    builder.position_at_end(done)
    builder.ret_void()
    return function


def _emit_stop(module: ir.Module) -> None:
    """Emit `void stop(ptr control)`: tell every worker to leave, at once or after its job. It doesn't wait for them.

    stop = 1
    for each worker: if state exchanged from ASLEEP to IDLE: wake it

    A worker that is about to sleep reads the flag first. The flag and the states are accessed in sequentially consistent order,
    so that no worker sleeps on after `stop`.
    """
    function = _entry_point(module, "stop", (PTR,))
    (control,) = function.args
    names = ("entry", "search", "rouse", "wake", "on", "done")
    entry, search, rouse, wake, on, done = map(function.append_basic_block, names)
    builder = ir.IRBuilder(entry)
    builder.atomic_rmw("xchg", byte_offset(builder, control, abi.CONTROL_STOP), I32(1), "seq_cst")
    workers = builder.load_atomic(byte_offset(builder, control, abi.CONTROL_WORKERS), "acquire", 8, typ=I64)
    builder.branch(search)

    builder.position_at_end(search)
    index = builder.phi(I64)
    builder.cbranch(builder.icmp_signed("<", index, workers), rouse, done)
    builder.position_at_end(rouse)
    state = byte_offset(builder, _record(builder, control, index), abi.RECORD_STATE)
    builder.cbranch(_exchange(builder, state, I32(abi.ASLEEP), I32(abi.IDLE)), wake, on)
    builder.position_at_end(wake)
    emit_wake(builder, state, 1)
    builder.branch(on)
    builder.position_at_end(on)
    following = builder.add(index, I64(1))
    builder.branch(search)
    index.add_incoming(I64(0), entry)
    index.add_incoming(following, on)

    builder.position_at_end(done)
    builder.ret_void()


def _entry_point(module: ir.Module, name: str, arguments: tuple[ir.Type, ...]) -> ir.Function:
    """Declare a function that the runtime calls by its address."""
    function = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    function.attributes.add("nounwind")
    return function


def _record(builder: ir.IRBuilder, control: ir.Value, index: ir.Value) -> ir.Value:
    """Return the address of a worker's record in the control block."""
    offset = builder.add(builder.mul(index, I64(abi.RECORD_BYTES)), I64(abi.CONTROL_RECORDS))
    return byte_offset(builder, control, offset)


def _flags_of(builder: ir.IRBuilder, context: ir.Value) -> ir.Value:
    """Load the flags of a context."""
    return builder.load(byte_offset(builder, context, abi.FLAGS * abi.SLOT_BYTES), typ=I64)


def _exchange(builder: ir.IRBuilder, word: ir.Value, expected: ir.Value, value: ir.Value) -> ir.Value:
    """Compare and exchange an i32, sequentially consistent. -> i1: whether it was exchanged"""
    return builder.extract_value(builder.cmpxchg(word, expected, value, "seq_cst", "seq_cst"), 1)


def _call_entry(builder: ir.IRBuilder, entry: ir.Value, context: ir.Value, tid: ir.Value, nt: ir.Value) -> None:
    """Call the function at this address (an i64). llvmlite wants a typed callee, so the address is cast to a function pointer."""
    signature = ir.FunctionType(VOID, (PTR, I64, I64))
    builder.call(builder.inttoptr(entry, signature.as_pointer()), [context, tid, nt])
