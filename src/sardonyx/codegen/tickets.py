"""How the threads of a run take tickets at its calls, so that none of them waits for one that the system does not let run.

Each call is dealt out as ranges, one a thread, and each range as chunks. A thread takes the chunks of its own range one after the other,
and goes on to the next call. Where all have to meet, it does not wait for long before it looks at what is left of its victims' ranges
of the calls since they met last (codegen.chunks). The *ticket* of a call is the number of chunks dealt out before it, counted through all
runs in a context: it only grows. A range's word holds ticket << CLAIM_BITS | chunks taken, of the last call of which a chunk was taken;
whoever takes of a range has seen that all its chunks of the calls before are taken.

    take(word, ticket, chunks):    while taken < chunks of the word at this ticket, 0 at an older one: exchange it for taken + 1 -> taken
                                -1 if all are taken, or the word is at a later ticket: this thread comes late
    finish(sync, count):        done += count; if sleepers: wake everyone
    reached(sync, ticket):        done >= ticket, at once or after a short spin?
    await(sync, ticket, context): until done >= ticket: spin, then sleep; with a context, look every 20 ms whether the run is to end

What a call reads was finished before anybody awaited its ticket. A thread that comes late takes nothing, touches no memory but its own, and
walks on until it is with the others again.
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen.llvm_types import I1, I32, I64, PTR, VOID
from sardonyx.codegen.waiting import (
    EVERYONE,
    byte_offset,
    emit_sleep,
    emit_spin,
    emit_wake,
    emit_words,
    internal_function,
    is_flag,
    spin_rounds,
)
from sardonyx.runtime import abi

CLAIM_BITS = abi.MOST_CHUNKS.bit_length()


def emit_take(module: ir.Module) -> ir.Function:
    """`i64 take(ptr word, i64 ticket, i64 chunks)`: a chunk of a range that nobody has taken, or -1."""
    function = internal_function(module, "take", I64, (PTR, I64, I64))
    word, ticket, chunks = function.args
    entry, look, swap, won, none = map(function.append_basic_block, ("entry", "look", "swap", "won", "none"))
    builder = ir.IRBuilder(entry)
    base = builder.shl(ticket, I64(CLAIM_BITS))
    builder.branch(look)

    builder.position_at_end(look)
    seen = builder.load_atomic(word, "monotonic", 8, typ=I64)
    older = builder.icmp_signed("<", seen, base)
    taken = builder.select(older, I64(0), builder.sub(seen, base))
    builder.cbranch(builder.icmp_signed("<", taken, chunks), swap, none)
    builder.position_at_end(swap)
    following = builder.add(builder.add(base, taken), I64(1))
    exchanged = builder.cmpxchg(word, seen, following, "acq_rel", "monotonic")
    builder.cbranch(builder.extract_value(exchanged, 1), won, look)

    builder.position_at_end(won)
    builder.ret(taken)
    builder.position_at_end(none)
    builder.ret(I64(-1))
    return function


def emit_finish(module: ir.Module) -> ir.Function:
    """`void finish(ptr sync, i64 count)`: this thread has done so many chunks.

    Either it sees the sleeper, or the sleeper what is done: both orders are sequential.
    """
    function = internal_function(module, "finish", VOID, (PTR, I64))
    sync, count = function.args
    entry, some, wake, end = map(function.append_basic_block, ("entry", "some", "wake", "end"))
    builder = ir.IRBuilder(entry)
    builder.cbranch(builder.icmp_signed("==", count, I64(0)), end, some)
    builder.position_at_end(some)
    done = byte_offset(builder, sync, abi.SYNC_DONE)
    builder.atomic_rmw("add", done, builder.trunc(count, I32), "seq_cst")
    asleep = builder.load_atomic(byte_offset(builder, sync, abi.SYNC_SLEEPERS), "seq_cst", 4, typ=I32)
    builder.cbranch(builder.icmp_unsigned("==", asleep, I32(0)), end, wake)
    builder.position_at_end(wake)
    emit_wake(builder, done, EVERYONE)
    builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return function


def emit_reached(module: ir.Module) -> ir.Function:
    """`i1 reached(ptr sync, i64 ticket)`: are all chunks before this ticket done, or will they be in a moment?"""
    spin = emit_spin(module)
    function = internal_function(module, "reached", I1, (PTR, I64))
    sync, ticket = function.args
    entry, wait, end = map(function.append_basic_block, ("entry", "wait", "end"))
    builder = ir.IRBuilder(entry)
    done, target = byte_offset(builder, sync, abi.SYNC_DONE), builder.trunc(ticket, I32)
    seen = builder.load_atomic(done, "acquire", 4, typ=I32)
    builder.cbranch(_is_reached(builder, seen, target), end, wait)
    builder.position_at_end(wait)
    later = _is_reached(builder, builder.call(spin, [done, seen, I32(MOMENT)]), target)
    builder.branch(end)
    builder.position_at_end(end)
    found = builder.phi(I1)
    found.add_incoming(I1(1), entry)
    found.add_incoming(later, wait)
    builder.ret(found)
    return function


MOMENT = 32
"""Pauses of the processor, half a microsecond or so: to look at victims' words sooner costs them more than it helps."""


def _is_reached(builder: ir.IRBuilder, seen: ir.Value, target: ir.Value) -> ir.Value:
    """Of two counts modulo 2**32, is the first one later, or the same?"""
    return builder.icmp_signed(">=", builder.sub(seen, target), I32(0))


PATIENCE = 20_000_000
"""Nanoseconds that the thread which has called a run sleeps before it looks whether the run is to end."""


def emit_await(module: ir.Module, should_stop: ir.Function) -> ir.Function:
    """`void await(ptr sync, i64 ticket, ptr context)`: returns once all chunks before this ticket are done.

    context: the run's, for the thread that has called it, which looks meanwhile whether it is to end; null for others.
    """
    spin = emit_spin(module)
    function = internal_function(module, "await", VOID, (PTR, I64, PTR))
    sync, ticket, context = function.args
    names = ("entry", "look", "wait", "doze", "check", "sleep", "ask", "awake", "end")
    entry, look, wait, doze, check, sleep, ask, awake, end = map(function.append_basic_block, names)
    builder = ir.IRBuilder(entry)
    target, most = builder.trunc(ticket, I32), emit_words(builder, 2)
    for i, chunk in enumerate((0, PATIENCE)):
        builder.store(I64(chunk), byte_offset(builder, most, 8 * i))
    done, sleepers, flags = (byte_offset(builder, sync, o) for o in (abi.SYNC_DONE, abi.SYNC_SLEEPERS, abi.SYNC_FLAGS))
    builder.branch(look)

    builder.position_at_end(look)
    seen = builder.load_atomic(done, "acquire", 4, typ=I32)
    builder.cbranch(_is_reached(builder, seen, target), end, wait)
    builder.position_at_end(wait)
    rounds = spin_rounds(builder, is_flag(builder, builder.load(flags, typ=I64), abi.NO_SPIN))
    later = builder.call(spin, [done, seen, rounds])
    builder.cbranch(builder.icmp_unsigned("==", later, seen), doze, look)

    builder.position_at_end(doze)
    builder.atomic_rmw("add", sleepers, I32(1), "seq_cst")
    builder.branch(check)
    builder.position_at_end(check)
    current = builder.load_atomic(done, "seq_cst", 4, typ=I32)
    builder.cbranch(_is_reached(builder, current, target), awake, sleep)
    builder.position_at_end(sleep)
    asks = builder.icmp_unsigned("!=", context, PTR(None))
    emit_sleep(builder, done, current, builder.select(asks, most, PTR(None)))
    builder.cbranch(asks, ask, check)
    builder.position_at_end(ask)
    builder.call(should_stop, [context])
    builder.branch(check)
    builder.position_at_end(awake)
    builder.atomic_rmw("sub", sleepers, I32(1), "monotonic")
    builder.branch(end)

    builder.position_at_end(end)
    builder.ret_void()
    return function
