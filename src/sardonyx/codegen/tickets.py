"""Synchronisation of the threads of a run: how they claim chunks of work, and how they wait at a barrier.

Each call of a kernel is divided into one range per thread, and each range into chunks. A thread runs the chunks of its own
range, then goes on to the next call without waiting. At a barrier it first waits for a moment; if calls before the barrier are
still unfinished it steals chunks from other threads' ranges (codegen.chunks), so that a thread which the operating system has
suspended delays the run by one chunk at most.

The *ticket* of a call is the number of chunks that were handed out before it, counted over all runs of a context, so it only
grows. Each range has a claim word: `ticket << CLAIM_BITS | chunks taken`, for the last call from which a chunk was taken.

    take(word, ticket, chunks):   take the next chunk of a range by compare-and-exchange -> its number
                                  -1 if all are taken, or if the word is at a later ticket: this thread is late
    finish(sync, count):          done += count; if threads sleep: wake them
    reached(sync, ticket):        is done >= ticket, now or after a short spin?
    await(sync, ticket, context): until done >= ticket: spin, then sleep; with a context, poll should_stop every 20 ms

A late thread takes no chunk and touches no memory but its own. It walks through the steps until it has caught up with the
others.
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
    """Emit `i64 take(ptr word, i64 ticket, i64 chunks)`: claim a chunk of a range and return its number, or -1 if none is left."""
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
    """Emit `void finish(ptr sync, i64 count)`: add `count` finished chunks and wake the threads that sleep.

    The addition and the load of the number of sleepers are both sequentially consistent, so that no wake-up is lost.
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
    """Emit `i1 reached(ptr sync, i64 ticket)`: are all chunks before this ticket finished, now or after a short spin?"""
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
"""Pauses (about half a microsecond) for which a thread spins at a barrier before it steals: reading other threads' claim words
sooner slows them down.
"""


def _is_reached(builder: ir.IRBuilder, seen: ir.Value, target: ir.Value) -> ir.Value:
    """Compare two counts modulo 2**32: is `seen` at or after `target`?"""
    return builder.icmp_signed(">=", builder.sub(seen, target), I32(0))


PATIENCE = 20_000_000
"""Nanoseconds for which the thread that called the run sleeps at a barrier before it polls should_stop again."""


def emit_await(module: ir.Module, should_stop: ir.Function) -> ir.Function:
    """Emit `void await(ptr sync, i64 ticket, ptr context)`: return once all chunks before this ticket are finished.

    context: the run's context on the thread that called the run, which polls should_stop while it waits; null on workers.
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
