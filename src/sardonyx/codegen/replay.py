"""A native function that repeats a run: Python calls it with arrays, and no Python code runs between that call and the kernels.

    PyObject* replay(PyObject* self, PyObject** arguments, i64 count)      METH_FASTCALL, called with the GIL

`self` is a uint8 array that holds the request (runtime.replay.request); the arguments are a list of the inputs and a list of
the outputs. The memory layout of these objects is stated in runtime.abi; runtime.replay offers the function only if Python
and numpy agree with it.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from sardonyx.codegen.llvm_types import I32, I64, PTR, VOID
from sardonyx.codegen.waiting import byte_offset
from sardonyx.runtime import abi

WORD = 8


def emit_replay(module: ir.Module) -> None:
    """Emit the function into the team's module, which has `dispatch`.

    for each input: return UNLIKE unless it is a numpy array with the dtype, shape and flags of the request
                    context[slot] = address of its elements
    for each output: context[slot] = address of its elements
    status = 0; plan(context); return FAILED if status is not 0: no kernel may see a wrong address
    if work <= LITTLE: dispatch(.., 1 thread), else without the GIL: dispatch(.., threads)
    return FAILED if status is not 0, else DONE
    """
    function = ir.Function(module, ir.FunctionType(PTR, [PTR, PTR, I64]), "replay")
    function.attributes.add("nounwind")
    _Replay(function, module.globals["dispatch"]).emit()


class _Replay:
    """Emits the body of `replay`: check the inputs, store addresses, run."""

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
        self.b.cbranch(self.is_running(), planned, failed)
        self.b.position_at_end(planned)
        self.run()
        self.answer(self.b.select(self.is_running(), I64(abi.DONE), I64(abi.FAILED)))
        for block, number in ((failed, abi.FAILED), (self.unlike, abi.UNLIKE)):
            self.b.position_at_end(block)
            self.answer(I64(number))

    def is_running(self) -> ir.Value:
        """Test whether the run's status is 0; i1."""
        return self.b.icmp_unsigned("==", self.load(self.context, abi.STATUS * WORD, I64), I64(0))

    # ---- memory -------------------------------------------------------------------------------------------------------------

    def load(self, pointer: ir.Value, offset: int, kind: ir.Type = PTR) -> ir.Value:
        return self.b.load(byte_offset(self.b, pointer, offset), typ=kind, align=4 if kind is I32 else WORD)

    def asked(self, offset: int, kind: ir.Type = PTR) -> ir.Value:
        """Load a word of the request."""
        return self.load(self.request, offset, kind)

    # ---- control ------------------------------------------------------------------------------------------------------------

    def call(self, address: ir.Value, result: ir.Type, argument: ir.Value) -> ir.Value:
        """Call the function at this address (an i64)."""
        signature = ir.FunctionType(result, [argument.type])
        return self.b.call(self.b.inttoptr(address, signature.as_pointer()), [argument])

    def answer(self, number: ir.Value) -> None:
        """Return `number` as a Python int."""
        self.b.ret(self.call(self.asked(abi.REPLAY_INTEGER, I64), PTR, number))

    def require(self, condition: ir.Value) -> None:
        """Return UNLIKE unless the condition holds."""
        alike = self.function.append_basic_block("alike")
        self.b.cbranch(condition, alike, self.unlike)
        self.b.position_at_end(alike)

    def repeat(self, count: ir.Value, start: ir.Value, iteration: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Emit `state = start; for i in range(count): state = iteration(i, state)`. -> the last state, a pointer"""
        b, before = self.b, self.b.block
        head, body, after = map(self.function.append_basic_block, ("head", "body", "after"))
        b.branch(head)
        b.position_at_end(head)
        i, state = b.phi(I64), b.phi(PTR)
        b.cbranch(b.icmp_signed("<", i, count), body, after)
        b.position_at_end(body)
        following = iteration(i, state)
        for phi, initial, new in ((i, I64(0), b.add(i, I64(1))), (state, start, following)):
            phi.add_incoming(initial, before)
            phi.add_incoming(new, b.block)
        b.branch(head)
        b.position_at_end(after)
        return state

    # ---- steps --------------------------------------------------------------------------------------------------------------

    def each(self, count: int, items: ir.Value, row: ir.Value, step: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Emit step(array, row) -> next row, for `count` items of a list. -> the row after the last"""

        def iteration(i: ir.Value, row: ir.Value) -> ir.Value:
            return step(self.b.load(self.b.gep(items, [i], source_etype=PTR), typ=PTR), row)

        return self.repeat(self.asked(count, I64), row, iteration)

    def take(self, array: ir.Value, row: ir.Value) -> ir.Value:
        """Require that an input is like the request's row, and store its address to the row's slot. -> the next row"""
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
        """Store the array's address to the slot that the row begins with. -> the address of the word after the slot's number"""
        slot = self.b.gep(self.context, [self.load(row, abi.ROW_SLOT, I64)], source_etype=I64)
        self.b.store(self.load(array, abi.ARRAY_DATA), slot)
        return byte_offset(self.b, row, WORD)

    def run(self) -> None:
        """Run the program's steps: on this thread if there is little work, else on the team, with the GIL released."""
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
