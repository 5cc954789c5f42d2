"""What a thread does of the calls that a run is divided out as (codegen.tickets), by their rows in the table of steps; emitted for the walk.

run_range(row, context, scratch, owner, nt, ticket):          kernel(arguments, context, scratch, owner * chunks + chunk, nt * chunks) for each chunk
                                                        of the owner's run_range that nobody has taken; finish(how many)
run_group(row, context, scratch, ticket):                     if nobody has: kernel(arguments, context, scratch, 0, 1) of this row and those
                                                        after it that one thread does; finish(1)
steal(row, end, context, scratch, tid, nt, ticket):        for each row from `row` to `end`: its neighbours' shares, or the run_group

Once the run's status says that it has failed or is to end, kernels are passed over; that is looked for between long chunks, and in groups.
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.codegen.llvm_types import I64, PTR, VOID
from sardonyx.codegen.waiting import byte_offset, internal_function
from sardonyx.runtime import abi

KERNEL = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64])
WORD = abi.SLOT_BYTES
VICTIMS = 7
"""Whose shares a thread looks at: each run_range then has so many takers, and large teams don't read all words at each meeting."""


def slot(b: ir.IRBuilder, context: ir.Value, number: ir.Value | int) -> ir.Value:
    """The address of a slot."""
    return b.gep(context, [I64(number) if isinstance(number, int) else number], source_etype=I64)


def operand(b: ir.IRBuilder, row: ir.Value, index: int) -> ir.Value:
    """A number of a row."""
    return b.load(byte_offset(b, row, index * WORD), typ=I64, align=WORD)


def chunks_in(b: ir.IRBuilder, row: ir.Value) -> ir.Value:
    """Into how many chunks each run_range of a call is divided; 0: one thread does it, and the rows after it as `count_of` says."""
    return b.and_(b.lshr(operand(b, row, 2), I64(1)), I64((1 << abi.COUNT_BITS - 1) - 1))


def count_of(b: ir.IRBuilder, row: ir.Value) -> ir.Value:
    return b.lshr(operand(b, row, 2), I64(abi.COUNT_BITS))


def row_after(b: ir.IRBuilder, row: ir.Value, rows: ir.Value | int) -> ir.Value:
    return byte_offset(b, row, b.mul(I64(rows) if isinstance(rows, int) else rows, I64(abi.ROW_BYTES)))


MOST_STRIPS = 1 << 16
"""Into which a chunk is divided: then each is a thousandth of a chunk of a minute."""


def emit_call(
    b: ir.IRBuilder, row: ir.Value, context: ir.Value, scratch: ir.Value, chunk: ir.Value, of: ir.Value, should_stop: ir.Function
) -> None:
    """Calls the row's kernel, unless the run has failed: once, or where there is much to do for each of the chunk's strips, and asks between.

    Before the call's arguments stands in how many strips all of it is to be done, at least.
    """
    entry, once, many, strip, on = (b.append_basic_block(name) for name in ("call", "once", "many", "strip", "on"))
    b.cbranch(is_well(b, context), entry, on)
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


def is_well(b: ir.IRBuilder, context: ir.Value) -> ir.Value:
    """i1: has nothing failed, and is the run not to end?"""
    return b.icmp_unsigned("==", b.load_atomic(slot(b, context, abi.STATUS), "monotonic", WORD, typ=I64), I64(0))


def group_word(b: ir.IRBuilder, context: ir.Value) -> ir.Value:
    """The address of the word of what one thread does; those of the threads' shares come after it."""
    return b.load(slot(b, context, abi.CLAIMS), typ=PTR, align=WORD)


CALLS = 16
"""Rows after which a thread asks whether the run is to end; a kernel that takes longer asks by itself."""


def poll_now_and_then(b: ir.IRBuilder, left: ir.Value, should_stop: ir.Function, context: ir.Value) -> ir.Value:
    """One of so many rows less is left until the thread asks; how many are then."""
    fewer = b.sub(left, I64(1))
    over = b.icmp_unsigned("==", fewer, I64(0))
    with b.if_then(over, likely=False):
        b.call(should_stop, [context])
    return b.select(over, I64(CALLS), fewer)


def emit_run_range(module: ir.Module, take: ir.Function, finish: ir.Function, should_stop: ir.Function) -> ir.Function:
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
    with b.if_then(b.icmp_unsigned(">", chunks, I64(1))):  # then a chunk takes a while
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
