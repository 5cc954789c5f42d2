"""A run that repeats one before it, as a function that Python calls: nothing of Python happens between its arrays and the kernels.

    PyObject* replay(PyObject* self, PyObject** arguments, i64 count)      a METH_FASTCALL function, called with the GIL

`self` is a uint8 array, its memory the request; the arguments are a list of the inputs and a list of the outputs. How they lie in memory
is in runtime.abi; runtime.replay offers the function only where Python and numpy agree with that.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from sardonyx.codegen.llvm_types import I32, I64, PTR, VOID
from sardonyx.codegen.waiting import byte_offset
from sardonyx.runtime import abi

WORD = 8


def emit_replay(module: ir.Module) -> None:
    """Emits the function into the team's module, where `dispatch` is.

    for each input: return UNLIKE unless it is an array of numpy's own whose type of elements, dimensions and flags are the row's
                    context[slot] = address of its numbers
    for each output: context[slot] = address of its numbers
    status = 0; plan(context); return FAILED if status: no kernel may see an address that is wrong
    if work <= LITTLE: dispatch(.., 1 thread), else without the GIL: dispatch(.., threads)
    return FAILED if status else DONE
    """
    function = ir.Function(module, ir.FunctionType(PTR, [PTR, PTR, I64]), "replay")
    function.attributes.add("nounwind")
    _Replay(function, module.globals["dispatch"]).emit()


class _Replay:
    def __init__(self, function: ir.Function, dispatch: ir.Function) -> None:
        self.function, self.dispatch = function, dispatch
        self.b = ir.IRBuilder(function.append_basic_block("entry"))

    def emit(self) -> None:
        own, arguments, _ = self.function.args
        self.request = self.load(own, abi.ARRAY_DATA)
        self.context = self.asked(abi.REPLAY_CONTEXT)
        inputs, outputs = (self.load(self.load(arguments, i * WORD), abi.LIST_ITEMS) for i in range(2))
        self.unlike = self.function.append_basic_block("unlike")
        rows = self.each(abi.REPLAY_INPUTS, inputs, byte_offset(self.b, self.request, abi.REPLAY_ROWS), self.take)
        self.each(abi.REPLAY_OUTPUTS, outputs, rows, self.place)
        self.b.store(I64(0), byte_offset(self.b, self.context, abi.STATUS * WORD))
        self.call(self.asked(abi.REPLAY_PLAN, I64), VOID, self.context)
        planned, failed = map(self.function.append_basic_block, ("planned", "failed"))
        self.b.cbranch(self.is_well(), planned, failed)
        self.b.position_at_end(planned)
        self.run()
        self.answer(self.b.select(self.is_well(), I64(abi.DONE), I64(abi.FAILED)))
        for block, number in ((failed, abi.FAILED), (self.unlike, abi.UNLIKE)):
            self.b.position_at_end(block)
            self.answer(I64(number))

    def is_well(self) -> ir.Value:
        """i1: has nothing failed so far?"""
        return self.b.icmp_unsigned("==", self.load(self.context, abi.STATUS * WORD, I64), I64(0))

    # ---- memory -------------------------------------------------------------------------------------------------------------

    def load(self, pointer: ir.Value, offset: int, kind: ir.Type = PTR) -> ir.Value:
        return self.b.load(byte_offset(self.b, pointer, offset), typ=kind, align=4 if kind is I32 else WORD)

    def asked(self, offset: int, kind: ir.Type = PTR) -> ir.Value:
        """A word of the request."""
        return self.load(self.request, offset, kind)

    # ---- control ------------------------------------------------------------------------------------------------------------

    def call(self, address: ir.Value, result: ir.Type, argument: ir.Value) -> ir.Value:
        """Calls the function at this address, an i64."""
        signature = ir.FunctionType(result, [argument.type])
        return self.b.call(self.b.inttoptr(address, signature.as_pointer()), [argument])

    def answer(self, number: ir.Value) -> None:
        """Returns the Python integer."""
        self.b.ret(self.call(self.asked(abi.REPLAY_INTEGER, I64), PTR, number))

    def require(self, condition: ir.Value) -> None:
        """Goes on if it holds; else the answer is UNLIKE."""
        alike = self.function.append_basic_block("alike")
        self.b.cbranch(condition, alike, self.unlike)
        self.b.position_at_end(alike)

    def repeat(self, count: ir.Value, start: ir.Value, turn: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """state = start; for i in range(count): state = turn(i, state); the last state, a pointer."""
        b, before = self.b, self.b.block
        head, body, after = map(self.function.append_basic_block, ("head", "turn", "after"))
        b.branch(head)
        b.position_at_end(head)
        i, state = b.phi(I64), b.phi(PTR)
        b.cbranch(b.icmp_signed("<", i, count), body, after)
        b.position_at_end(body)
        following = turn(i, state)
        for phi, initial, new in ((i, I64(0), b.add(i, I64(1))), (state, start, following)):
            phi.add_incoming(initial, before)
            phi.add_incoming(new, b.block)
        b.branch(head)
        b.position_at_end(after)
        return state

    # ---- steps --------------------------------------------------------------------------------------------------------------

    def each(self, count: int, items: ir.Value, row: ir.Value, step: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """step(array, row) -> the next row, for so many of a list's items; the row after the last."""

        def turn(i: ir.Value, row: ir.Value) -> ir.Value:
            return step(self.b.load(self.b.gep(items, [i], source_etype=PTR), typ=PTR), row)

        return self.repeat(self.asked(count, I64), row, turn)

    def take(self, array: ir.Value, row: ir.Value) -> ir.Value:
        """An input that is like the row: its address goes to the row's slot."""
        b = self.b
        self.require(b.icmp_unsigned("==", self.load(array, abi.OBJECT_TYPE), self.asked(abi.REPLAY_TYPE)))
        dtype = self.load(array, abi.ARRAY_DTYPE)
        self.require(b.icmp_unsigned("==", self.load(dtype, abi.DTYPE_TYPE), self.load(row, abi.ROW_TYPE)))
        kind = b.and_(self.load(dtype, abi.DTYPE_KIND, I64), I64(abi.KIND_MASK))
        self.require(b.icmp_unsigned("==", kind, self.load(row, abi.ROW_KIND, I64)))
        flags = b.and_(self.load(array, abi.ARRAY_FLAGS, I32), I32(abi.PLAIN))
        self.require(b.icmp_unsigned("==", flags, I32(abi.PLAIN)))
        rank = self.load(row, abi.ROW_RANK, I64)
        self.require(b.icmp_signed("==", b.sext(self.load(array, abi.ARRAY_RANK, I32), I64), rank))
        dimensions = self.load(array, abi.ARRAY_DIMENSIONS)

        def same(i: ir.Value, size: ir.Value) -> ir.Value:
            got = b.load(b.gep(dimensions, [i], source_etype=I64), typ=I64)
            self.require(b.icmp_signed("==", got, b.load(size, typ=I64)))
            return byte_offset(b, size, WORD)

        after = self.repeat(rank, byte_offset(b, row, abi.ROW_SIZES), same)
        self.place(array, row)
        return after

    def place(self, array: ir.Value, row: ir.Value) -> ir.Value:
        """The array's address goes to the slot that the row begins with; the word after it."""
        slot = self.b.gep(self.context, [self.load(row, abi.ROW_SLOT, I64)], source_etype=I64)
        self.b.store(self.load(array, abi.ARRAY_DATA), slot)
        return byte_offset(self.b, row, WORD)

    def run(self) -> None:
        """The program's steps; more than a little of them by the team, while other Python threads go on."""
        b = self.b
        alone, together, after = map(self.function.append_basic_block, ("alone", "together", "after"))
        job = [self.asked(abi.REPLAY_CONTROL), self.asked(abi.REPLAY_ENTRY, I64), self.context]
        work = self.load(self.context, abi.WORK * WORD, I64)
        b.cbranch(b.icmp_signed("<=", work, I64(abi.LITTLE)), alone, together)
        b.position_at_end(alone)
        b.call(self.dispatch, [*job, I64(1)])
        b.branch(after)
        b.position_at_end(together)
        release = ir.FunctionType(PTR, [])
        state = b.call(b.inttoptr(self.asked(abi.REPLAY_RELEASE, I64), release.as_pointer()), [])
        b.call(self.dispatch, [*job, self.asked(abi.REPLAY_THREADS, I64)])
        self.call(self.asked(abi.REPLAY_ACQUIRE, I64), VOID, state)
        b.branch(after)
        b.position_at_end(after)
