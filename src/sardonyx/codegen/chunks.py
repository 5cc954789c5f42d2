"""Functions by which a thread runs its range of a call, runs a group of small calls, or steals from other threads; emitted for the
walk.

    run_range(row, context, scratch, owner, nt, ticket):
        for each chunk of the owner's range that nobody has taken:
            kernel(arguments, context, scratch, owner * chunks + chunk, nt * chunks)
        finish(number of chunks run)
    run_group(row, context, scratch, ticket):
        if no other thread has taken the group: call the kernels of `count` rows from this one on, each as chunk 0 of 1; finish(1)
    steal(row, end, context, scratch, tid, nt, ticket):
        for each row from `row` to `end`: run what is left of other threads' ranges, or the group

`row` is a row of the step table (runtime.steps), `ticket` the ticket of its call (codegen.tickets). Once the run's status is
not 0, kernels are skipped. The status is read before each kernel; should_stop is polled after long chunks and every few kernels
of a group.
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen.llvm_types import I64, PTR, VOID
from sardonyx.codegen.waiting import byte_offset, internal_function
from sardonyx.runtime import abi

KERNEL = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64])
WORD = abi.SLOT_BYTES
VICTIMS = 7
"""How many other threads' ranges a thread tries to steal from: enough takers for each range, while a large team doesn't read every
claim word at every barrier.
"""


def slot(b: ir.IRBuilder, context: ir.Value, number: ir.Value | int) -> ir.Value:
    """Return the address of a slot of the context."""
    return b.gep(context, [I64(number) if isinstance(number, int) else number], source_etype=I64)


def operand(b: ir.IRBuilder, row: ir.Value, index: int) -> ir.Value:
    """Load one of a row's four numbers."""
    return b.load(byte_offset(b, row, index * WORD), typ=I64, align=WORD)


def chunks_in(b: ir.IRBuilder, row: ir.Value) -> ir.Value:
    """Return the number of chunks in each thread's range of a call; 0 means that one thread runs this row and those after it
    (`count_of`).
    """
    return b.and_(b.lshr(operand(b, row, 2), I64(1)), I64((1 << abi.COUNT_BITS - 1) - 1))


def count_of(b: ir.IRBuilder, row: ir.Value) -> ir.Value:
    """Return the number of rows in a group that one thread runs."""
    return b.lshr(operand(b, row, 2), I64(abi.COUNT_BITS))


def row_after(b: ir.IRBuilder, row: ir.Value, rows: ir.Value | int) -> ir.Value:
    """Return the address of the row that lies `rows` rows further."""
    return byte_offset(b, row, b.mul(I64(rows) if isinstance(rows, int) else rows, I64(abi.ROW_BYTES)))


MOST_STRIPS = 1 << 16
"""The most strips of a chunk. A chunk that takes a minute is still divided into strips of one millisecond."""


def emit_call(
    b: ir.IRBuilder, row: ir.Value, context: ir.Value, scratch: ir.Value, chunk: ir.Value, of: ir.Value, should_stop: ir.Function
) -> None:
    """Call the row's kernel for chunk `chunk` of `of`, unless the run has failed.

    The number before the call's arguments says into how many strips the whole call should be divided. If that is more than
    `of`, the chunk runs strip by strip, and should_stop is polled after each strip.
    """
    entry, once, many, strip, on = (b.append_basic_block(name) for name in ("call", "once", "many", "strip", "on"))
    b.cbranch(is_running(b, context), entry, on)
    b.position_at_end(entry)
    arguments = slot(b, context, operand(b, row, 1))
    strips = b.load(byte_offset(b, arguments, -WORD), typ=I64, align=WORD)
    kernel = b.inttoptr(operand(b, row, 0), KERNEL.as_pointer())
    b.cbranch(b.icmp_signed("<=", strips, of), once, many)
    b.position_at_end(once)
    b.call(kernel, [arguments, context, scratch, chunk, of])
    b.branch(on)

    b.position_at_end(many)
    wanted = b.sdiv(strips, of)
    each = b.select(b.icmp_signed("<", wanted, I64(MOST_STRIPS)), wanted, I64(MOST_STRIPS))
    first, total = b.mul(chunk, each), b.mul(of, each)
    b.branch(strip)
    b.position_at_end(strip)
    number = b.phi(I64)
    b.call(kernel, [arguments, context, scratch, b.add(first, number), total])
    stop = b.call(should_stop, [context])
    following = b.add(number, I64(1))
    number.add_incoming(I64(0), many)
    number.add_incoming(following, strip)
    b.cbranch(b.or_(stop, b.icmp_signed(">=", following, each)), on, strip)
    b.position_at_end(on)


def is_running(b: ir.IRBuilder, context: ir.Value) -> ir.Value:
    """Test whether the run's status is 0: no check has failed, and nobody has asked the run to end; i1."""
    return b.icmp_unsigned("==", b.load_atomic(slot(b, context, abi.STATUS), "monotonic", WORD, typ=I64), I64(0))


def group_word(b: ir.IRBuilder, context: ir.Value) -> ir.Value:
    """Return the address of the claim word for groups, which the claim words of the threads' ranges follow."""
    return b.load(slot(b, context, abi.CLAIMS), typ=PTR, align=WORD)


CALLS = 16
"""Rows after which a thread polls should_stop; a kernel that takes longer polls by itself."""


def poll_now_and_then(b: ir.IRBuilder, left: ir.Value, should_stop: ir.Function, context: ir.Value) -> ir.Value:
    """Count down `left` by one row, and poll should_stop when it reaches 0. -> the new count"""
    fewer = b.sub(left, I64(1))
    over = b.icmp_unsigned("==", fewer, I64(0))
    with b.if_then(over, likely=False):
        b.call(should_stop, [context])
    return b.select(over, I64(CALLS), fewer)


def emit_run_range(module: ir.Module, take: ir.Function, finish: ir.Function, should_stop: ir.Function) -> ir.Function:
    """Emit `run_range`; see the module's docstring."""
    function = internal_function(module, "run_range", VOID, (PTR, PTR, PTR, I64, I64, I64))
    row, context, scratch, owner, nt, ticket = function.args
    entry, look, call, end = map(function.append_basic_block, ("entry", "look", "call", "end"))
    b = ir.IRBuilder(entry)
    chunks = chunks_in(b, row)
    word = byte_offset(b, group_word(b, context), b.mul(b.add(owner, I64(1)), I64(abi.CLAIM_BYTES)))
    first, total = b.mul(owner, chunks), b.mul(nt, chunks)
    b.branch(look)

    b.position_at_end(look)
    count = b.phi(I64)
    chunk = b.call(take, [word, ticket, chunks])
    b.cbranch(b.icmp_signed(">=", chunk, I64(0)), call, end)
    b.position_at_end(call)
    emit_call(b, row, context, scratch, b.add(first, chunk), total, should_stop)
    with b.if_then(b.icmp_unsigned(">", chunks, I64(1))):  # such a chunk is long
        b.call(should_stop, [context])
    following = b.add(count, I64(1))
    count.add_incoming(I64(0), entry)
    count.add_incoming(following, b.block)
    b.branch(look)

    b.position_at_end(end)
    b.call(finish, [slot(b, context, abi.SYNC), count])
    b.ret_void()
    return function


def emit_run_group(module: ir.Module, take: ir.Function, finish: ir.Function, should_stop: ir.Function) -> ir.Function:
    """Emit `run_group`; see the module's docstring."""
    function = internal_function(module, "run_group", VOID, (PTR, PTR, PTR, I64))
    row, context, scratch, ticket = function.args
    entry, call, done, end = map(function.append_basic_block, ("entry", "call", "done", "end"))
    b = ir.IRBuilder(entry)
    last = row_after(b, row, count_of(b, row))
    b.cbranch(b.icmp_signed(">=", b.call(take, [group_word(b, context), ticket, I64(1)]), I64(0)), call, end)

    b.position_at_end(call)
    here, left = b.phi(PTR), b.phi(I64)
    emit_call(b, here, context, scratch, I64(0), I64(1), should_stop)
    fewer = poll_now_and_then(b, left, should_stop, context)
    following = row_after(b, here, 1)
    for phi, initial, later in ((here, row, following), (left, I64(CALLS), fewer)):
        phi.add_incoming(initial, entry)
        phi.add_incoming(later, b.block)
    b.cbranch(b.icmp_unsigned("!=", following, last), call, done)
    b.position_at_end(done)
    b.call(finish, [slot(b, context, abi.SYNC), I64(1)])
    b.branch(end)
    b.position_at_end(end)
    b.ret_void()
    return function


def emit_steal(module: ir.Module, run_range: ir.Function, run_group: ir.Function) -> ir.Function:
    """Emit `steal`; see the module's docstring."""
    function = internal_function(module, "steal", VOID, (PTR, PTR, PTR, PTR, I64, I64, I64))
    first, last, context, scratch, tid, nt, ticket = function.args
    names = ("entry", "look", "some", "divided", "victim", "over", "alone", "next", "end")
    entry, look, some, divided, victim, over, alone, on, end = map(function.append_basic_block, names)
    b = ir.IRBuilder(entry)
    most = b.select(b.icmp_signed("<=", nt, I64(VICTIMS)), nt, I64(VICTIMS + 1))
    b.branch(look)

    b.position_at_end(look)
    row, at = b.phi(PTR), b.phi(I64)
    b.cbranch(b.icmp_unsigned("==", row, last), end, some)
    b.position_at_end(some)
    chunks = chunks_in(b, row)
    b.cbranch(b.icmp_unsigned("!=", chunks, I64(0)), divided, alone)

    b.position_at_end(divided)
    b.branch(victim)
    b.position_at_end(victim)
    offset = b.phi(I64)
    b.call(run_range, [row, context, scratch, b.urem(b.add(tid, offset), nt), nt, at])
    further = b.add(offset, I64(1))
    offset.add_incoming(I64(1), divided)
    offset.add_incoming(further, victim)
    b.cbranch(b.icmp_signed("<", further, most), victim, over)
    b.position_at_end(over)
    total = b.mul(nt, chunks)
    b.branch(on)
    b.position_at_end(alone)
    b.call(run_group, [row, context, scratch, at])
    count = count_of(b, row)
    b.branch(on)

    b.position_at_end(on)
    rows, tickets = b.phi(I64), b.phi(I64)
    for phi, shared, single in ((rows, I64(1), count), (tickets, total, I64(1))):
        phi.add_incoming(shared, over)
        phi.add_incoming(single, alone)
    following, later = row_after(b, row, rows), b.add(at, tickets)
    b.branch(look)
    for phi, initial, later_value in ((row, first, following), (at, ticket, later)):
        phi.add_incoming(initial, entry)
        phi.add_incoming(later_value, on)
    b.position_at_end(end)
    b.ret_void()
    return function
