"""The team's native half: the barrier of every program, and the life of a worker, its dispatch and its end.

All of it is emitted through the builder and refers to no external symbol. Offsets and states are runtime.abi's.
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen.float_mode import choose_mode, emit_get_mode, emit_set_mode
from sardonyx.codegen.replay import emit_replay
from sardonyx.codegen.waiting import (
    EVERYONE,
    byte_offset,
    emit_sleep,
    emit_spin,
    emit_wake,
    emit_yield,
    internal_function,
    spin_rounds,
)
from sardonyx.codegen.walk import emit_walk
from sardonyx.codegen.words import I32, I64, PTR, VOID
from sardonyx.runtime import abi

HOST_SLEEPS = 1 << 30  # in a count of pending workers: the last of them wakes the dispatcher


def emit_team(triple: str) -> ir.Module:
    """A module with the team's entries: worker(control, index), dispatch(control, entry, context, most, flags),
    stop(control), the walk along a program's steps (codegen.walk), and what Python calls for a run like one before it (codegen.replay).

    triple: LLVM's target triple. Raises ValueError if it is empty.
    """
    module = ir.Module("team")
    module.triple = triple
    emit_barrier(module)
    _emit_worker(module)
    _emit_dispatch(module)
    _emit_stop(module)
    emit_walk(module)
    emit_replay(module)
    return module


def emit_barrier(module: ir.Module) -> ir.Function:
    """`void barrier(ptr sync, i64 nt)`, internal to the module and emitted once: nt threads meet, then all go on.

    sync: a context's sync area, zero before its first barrier; any number of barriers of the same threads may follow.

    if nt <= 1: return
    generation = load generation
    if fetch_add(arrived, 1) + 1 == nt:
        arrived = 0; generation += 1; if sleepers: wake everyone
    elif generation is still the same after spinning (unless no_spin):
        sleepers += 1; while generation is still the same: sleep on it; sleepers -= 1

    Either the last to arrive sees the sleeper, or the sleeper sees the new generation: both orders are sequential.
    """
    found = module.globals.get("barrier")
    if found is not None:
        return found
    spin = emit_spin(module)
    function = internal_function(module, "barrier", VOID, (PTR, I64))
    function.attributes.add("noinline")
    sync, nt = function.args
    names = ("alone", "arrive", "last", "wake", "wait", "doze", "look", "sleep", "awake", "done")
    alone, arrive, last, wake, wait, doze, look, sleep, awake, done = map(function.append_basic_block, names)
    builder = ir.IRBuilder(alone)
    offsets = (abi.SYNC_ARRIVED, abi.SYNC_GENERATION, abi.SYNC_SLEEPERS, abi.SYNC_NO_SPIN)
    arrived, word, sleepers, no_spin = (byte_offset(builder, sync, offset) for offset in offsets)
    builder.cbranch(builder.icmp_signed("<=", nt, I64(1)), done, arrive)

    builder.position_at_end(arrive)
    generation = builder.load_atomic(word, "monotonic", 4, typ=I32)
    before = builder.atomic_rmw("add", arrived, I32(1), "acq_rel")
    is_last = builder.icmp_unsigned("==", builder.add(before, I32(1)), builder.trunc(nt, I32))
    builder.cbranch(is_last, last, wait)

    builder.position_at_end(last)
    builder.atomic_rmw("xchg", arrived, I32(0), "monotonic")
    builder.atomic_rmw("add", word, I32(1), "seq_cst")
    asleep = builder.load_atomic(sleepers, "seq_cst", 4, typ=I32)
    builder.cbranch(builder.icmp_unsigned("==", asleep, I32(0)), done, wake)
    builder.position_at_end(wake)
    emit_wake(builder, word, EVERYONE)
    builder.branch(done)

    builder.position_at_end(wait)
    rounds = spin_rounds(builder, _is_set(builder, builder.load(no_spin, typ=I32), 1))
    seen = builder.call(spin, [word, generation, rounds])
    builder.cbranch(builder.icmp_unsigned("==", seen, generation), doze, done)
    builder.position_at_end(doze)
    builder.atomic_rmw("add", sleepers, I32(1), "seq_cst")
    builder.branch(look)
    builder.position_at_end(look)
    seen = builder.load_atomic(word, "seq_cst", 4, typ=I32)
    builder.cbranch(builder.icmp_unsigned("==", seen, generation), sleep, awake)
    builder.position_at_end(sleep)
    emit_sleep(builder, word, generation)
    builder.branch(look)
    builder.position_at_end(awake)
    builder.atomic_rmw("sub", sleepers, I32(1), "monotonic")
    builder.branch(done)

    builder.position_at_end(done)
    builder.ret_void()
    return function


def _emit_worker(module: ir.Module) -> None:
    """`void worker(ptr control, i64 index)`: a worker's life, from its start until stop.

    state = IDLE
    loop:
        seen = spin(state, IDLE), not at all before the first job or after one with NO_SPIN
        IDLE:    state = ASLEEP if it is still IDLE
        ASLEEP:  if stop: state = ABSENT if it is still ASLEEP, then return
                 sleep while state is ASLEEP
        JOB:     entry(context, tid, nt) in the job's float mode; state = IDLE
                 one pending less, the last wakes a sleeping dispatcher
        claimed: yield, the job is about to come
    """
    spin = emit_spin(module)
    function = _entry_point(module, "worker", (PTR, I64))
    control, index = function.args
    names = ("born", "look", "idle", "asleep", "leave", "sleep", "claimed", "job", "wake", "gone")
    born, look, idle, asleep, leave, sleep, claimed, job, wake, gone = map(function.append_basic_block, names)
    builder = ir.IRBuilder(born)
    record = _record(builder, control, index)
    state = byte_offset(builder, record, abi.RECORD_STATE)
    word, flags_of_last = builder.alloca(I32), builder.alloca(I64)
    builder.store(I64(abi.NO_SPIN), flags_of_last)
    builder.atomic_rmw("xchg", state, I32(abi.IDLE), "release")
    builder.branch(look)

    builder.position_at_end(look)
    rounds = spin_rounds(builder, _is_set(builder, builder.load(flags_of_last, typ=I64), abi.NO_SPIN))
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
    entry = builder.load(byte_offset(builder, record, abi.RECORD_ENTRY), typ=I64)
    context = builder.load(byte_offset(builder, record, abi.RECORD_CONTEXT), typ=PTR)
    tid = builder.load(byte_offset(builder, record, abi.RECORD_TID), typ=I64)
    nt = builder.load(byte_offset(builder, record, abi.RECORD_NT), typ=I64)
    flags = builder.load(byte_offset(builder, record, abi.RECORD_FLAGS), typ=I64)
    pending = builder.load(byte_offset(builder, record, abi.RECORD_PENDING), typ=PTR)
    builder.store(flags, flags_of_last)
    emit_set_mode(builder, word, choose_mode(builder, _is_set(builder, flags, abi.FLUSH)))
    _call_entry(builder, entry, context, tid, nt)
    builder.atomic_rmw("xchg", state, I32(abi.IDLE), "release")  # before the count: the next dispatch finds it idle
    before = builder.atomic_rmw("sub", pending, I32(1), "acq_rel")
    builder.cbranch(builder.icmp_unsigned("==", before, I32(HOST_SLEEPS + 1)), wake, look)
    builder.position_at_end(wake)
    emit_wake(builder, pending, 1)  # the word may be gone by now; waking needs its address only
    builder.branch(look)

    builder.position_at_end(gone)
    builder.ret_void()


def _emit_dispatch(module: ir.Module) -> None:
    """`void dispatch(ptr control, i64 entry, ptr context, i64 most, i64 flags)`: run an entry on at most that many threads.

    Borrows the workers that are idle, down to none; the caller is thread 0. Returns when all have left the entry.
    """
    claim, publish, wait = _emit_claim(module), _emit_publish(module), _emit_wait(module)
    function = _entry_point(module, "dispatch", (PTR, I64, PTR, I64, I64))
    control, entry, context, most, flags = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    pending, newest, word = builder.alloca(I32), builder.alloca(PTR), builder.alloca(I32)
    borrowed = builder.call(claim, [control, builder.sub(most, I64(1)), newest])
    builder.store(builder.trunc(borrowed, I32), pending)
    builder.call(publish, [builder.load(newest, typ=PTR), entry, context, borrowed, flags, pending])
    mode = emit_get_mode(builder, word)
    emit_set_mode(builder, word, choose_mode(builder, _is_set(builder, flags, abi.FLUSH)))
    _call_entry(builder, entry, context, I64(0), builder.add(borrowed, I64(1)))
    emit_set_mode(builder, word, mode)
    builder.call(wait, [pending, spin_rounds(builder, _is_set(builder, flags, abi.NO_SPIN))])
    builder.ret_void()


def _emit_claim(module: ir.Module) -> ir.Function:
    """`i64 claim(ptr control, i64 most, ptr newest)`: claim idle workers; returns how many.

    They hang together by their next, from the newest claimed to the first.

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
    """`void publish(ptr record, i64 entry, ptr context, i64 borrowed, i64 flags, ptr pending)`: give out the job.

    tid = borrowed
    while record:
        next = record.next; fill in the job
        if exchange(state, JOB) was CLAIMED_ASLEEP: wake it
        record = next; tid -= 1
    """
    function = internal_function(module, "publish", VOID, (PTR, I64, PTR, I64, I64, PTR))
    first, entry, context, borrowed, flags, pending = function.args
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
    job = (
        (abi.RECORD_ENTRY, entry),
        (abi.RECORD_CONTEXT, context),
        (abi.RECORD_TID, tid),
        (abi.RECORD_NT, nt),
        (abi.RECORD_FLAGS, flags),
        (abi.RECORD_PENDING, pending),
    )
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


def _emit_wait(module: ir.Module) -> ir.Function:
    """`void wait(ptr pending, i32 rounds)`: return when no borrowed worker is left in the entry.

    left = pending
    while left:
        seen = spin(pending, left, rounds)
        if seen == left: break
        left = seen
    if left: left = fetch_or(pending, HOST_SLEEPS) | HOST_SLEEPS
    while left & ~HOST_SLEEPS: sleep while pending is left; left = pending
    """
    spin = emit_spin(module)
    function = internal_function(module, "wait", VOID, (PTR, I32))
    pending, rounds = function.args
    names = ("start", "look", "turn", "announce", "check", "sleep", "done")
    start, look, turn, announce, check, sleep, done = map(function.append_basic_block, names)
    builder = ir.IRBuilder(start)
    initial = builder.load_atomic(pending, "acquire", 4, typ=I32)
    builder.branch(look)

    builder.position_at_end(look)
    left = builder.phi(I32)
    builder.cbranch(builder.icmp_unsigned("==", left, I32(0)), done, turn)
    builder.position_at_end(turn)
    seen = builder.call(spin, [pending, left, rounds])
    builder.cbranch(builder.icmp_unsigned("==", seen, left), announce, look)
    left.add_incoming(initial, start)
    left.add_incoming(seen, turn)

    builder.position_at_end(announce)
    announced = builder.or_(builder.atomic_rmw("or", pending, I32(HOST_SLEEPS), "acq_rel"), I32(HOST_SLEEPS))
    builder.branch(check)
    builder.position_at_end(check)
    current = builder.phi(I32)
    builder.cbranch(builder.icmp_unsigned("==", current, I32(HOST_SLEEPS)), done, sleep)
    builder.position_at_end(sleep)
    emit_sleep(builder, pending, current)
    now = builder.load_atomic(pending, "acquire", 4, typ=I32)
    builder.branch(check)
    current.add_incoming(announced, announce)
    current.add_incoming(now, sleep)

    builder.position_at_end(done)
    builder.ret_void()
    return function


def _emit_stop(module: ir.Module) -> None:
    """`void stop(ptr control)`: every worker leaves, at once or after its job. Does not wait for it.

    stop = 1
    for each worker: if state exchanged from ASLEEP to IDLE: wake it

    A worker that falls asleep later sees the flag first: both orders are sequential.
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
    function = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    function.attributes.add("nounwind")
    return function


def _record(builder: ir.IRBuilder, control: ir.Value, index: ir.Value) -> ir.Value:
    offset = builder.add(builder.mul(index, I64(abi.RECORD_BYTES)), I64(abi.CONTROL_RECORDS))
    return byte_offset(builder, control, offset)


def _exchange(builder: ir.IRBuilder, word: ir.Value, expected: ir.Value, value: ir.Value) -> ir.Value:
    """Compare and exchange an i32, sequentially consistent; i1: did it happen."""
    return builder.extract_value(builder.cmpxchg(word, expected, value, "seq_cst", "seq_cst"), 1)


def _call_entry(builder: ir.IRBuilder, entry: ir.Value, context: ir.Value, tid: ir.Value, nt: ir.Value) -> None:
    """Call the entry at this address, an i64: llvmlite wants a callee's type, which an opaque pointer has not."""
    signature = ir.FunctionType(VOID, (PTR, I64, I64))
    builder.call(builder.inttoptr(entry, signature.as_pointer()), [context, tid, nt])


def _is_set(builder: ir.IRBuilder, flags: ir.Value, flag: int) -> ir.Value:
    """i1: is this one of the flags?"""
    return builder.icmp_unsigned("!=", builder.and_(flags, flags.type(flag)), flags.type(0))
