"""The program's own code: the run entries, which call kernels in order, and the plan entries, which evaluate sizes and addresses.

void run_i(ptr context, i64 tid, i64 nt)       steps of segment i, on every thread of the team
void plan_i(ptr context)                       assignments, slot = Dim over the symbols' slots, with checked arithmetic
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llvmlite import ir

from sardonyx.base.symbolic import Atom, Derived, Dim, Int, Symbol, terms
from sardonyx.codegen.features import Target
from sardonyx.codegen.team import emit_barrier
from sardonyx.runtime import abi

OVERFLOW = 0xFFFF_FFFF
"""The status that a plan sets where a size does not fit in 63 bits or a divisor is zero."""

i1, i64, ptr, void = ir.IntType(1), ir.IntType(64), ir.PointerType(), ir.VoidType()


@dataclass(frozen=True, slots=True)
class CallStep:
    """kernel(context + slot, context, this thread's scratch, tid, nt), after a barrier if asked for."""

    kernel: str
    slot: int
    barrier: bool


@dataclass(frozen=True, slots=True)
class RepeatStep:
    """The steps for t = 0, 1, ... below the number in trip_slot, t in every one of `counters`; as long as the byte whose address is in
    condition_slot (if there is one) is not zero. Each turn begins with a barrier; after the last one the counters hold the turns done.
    """

    trip_slot: int
    counters: tuple[int, ...]
    condition_slot: int | None
    steps: tuple[RunStep, ...]


RunStep = CallStep | RepeatStep
Assignments = Sequence[tuple[int, Dim]]


def emit_program(
    target: Target, runs: Sequence[Sequence[RunStep]], plans: Mapping[str, Assignments], slots: Mapping[Symbol, int]
) -> ir.Module:
    """One module with run_0, run_1, ... and the named plans."""
    module = ir.Module("program")
    module.triple = target.triple
    for i, steps in enumerate(runs):
        emit_run(module, f"run_{i}", steps)
    for name, assignments in plans.items():
        emit_plan(module, name, assignments, slots)
    return module


# ---- run ------------------------------------------------------------------------------------------------------------------


def emit_run(module: ir.Module, name: str, steps: Sequence[RunStep]) -> None:
    function = ir.Function(module, ir.FunctionType(void, [ptr, i64, i64]), name)
    context, tid, nt = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    base = b.load(slot_address(b, context, abi.SCRATCH), typ=ptr)
    each = b.load(slot_address(b, context, abi.SCRATCH_BYTES), typ=i64)
    scratch = b.gep(base, [b.mul(tid, each)], source_etype=ir.IntType(8))
    emit_steps(b, steps, (context, scratch, tid, nt))
    b.ret_void()


Entry = tuple[ir.Value, ir.Value, ir.Value, ir.Value]


def emit_steps(b: ir.IRBuilder, steps: Sequence[RunStep], entry: Entry) -> None:
    context, scratch, tid, nt = entry
    for step in steps:
        if isinstance(step, RepeatStep):
            emit_repeat(b, step, entry)
            continue
        if step.barrier:
            arrive(b, context, nt)
        kernel = declared(b.module, step.kernel)
        b.call(kernel, [slot_address(b, context, step.slot), context, scratch, tid, nt])


def emit_repeat(b: ir.IRBuilder, step: RepeatStep, entry: Entry) -> None:
    """t = 0; while barrier, t < trip and the condition holds: thread 0 writes t, barrier, the steps, t + 1. At the end t is written."""
    context, _, tid, nt = entry
    turn, body, out = (b.append_basic_block(n) for n in ("turn", "body", "out"))
    trip = b.load(slot_address(b, context, step.trip_slot), typ=i64)
    before = b.block
    b.branch(turn)
    b.position_at_end(turn)
    t = b.phi(i64, "t")
    t.add_incoming(i64(0), before)
    arrive(b, context, nt)
    with b.if_then(b.icmp_signed("==", tid, i64(0))):
        for slot in step.counters:
            b.store(t, slot_address(b, context, slot))
    go_on = b.icmp_signed("<", t, trip)
    if step.condition_slot is not None:
        byte = b.load(b.load(slot_address(b, context, step.condition_slot), typ=ptr), typ=ir.IntType(8))
        go_on = b.and_(go_on, b.icmp_unsigned("!=", byte, ir.IntType(8)(0)))
    arrive(b, context, nt)
    b.cbranch(go_on, body, out)
    b.position_at_end(body)
    emit_steps(b, step.steps, entry)
    t.add_incoming(b.add(t, i64(1)), b.block)
    b.branch(turn)
    b.position_at_end(out)


def arrive(b: ir.IRBuilder, context: ir.Value, nt: ir.Value) -> None:
    b.call(emit_barrier(b.module), [slot_address(b, context, abi.SYNC), nt])


def declared(module: ir.Module, name: str) -> ir.Function:
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(void, [ptr, ptr, ptr, i64, i64]), name)


def slot_address(b: ir.IRBuilder, context: ir.Value, slot: int) -> ir.Value:
    return b.gep(context, [i64(slot)], source_etype=i64)


# ---- plan -----------------------------------------------------------------------------------------------------------------


def emit_plan(module: ir.Module, name: str, assignments: Assignments, slots: Mapping[Symbol, int]) -> None:
    function = ir.Function(module, ir.FunctionType(void, [ptr]), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    plan = Plan(b, function.args[0], slots)
    for slot, dim in assignments:
        b.store(plan.integer(dim), slot_address(b, function.args[0], slot))
    status = slot_address(b, function.args[0], abi.STATUS)
    b.store(b.select(plan.failed, i64(OVERFLOW), b.load(status, typ=i64)), status)
    b.ret_void()


class Plan:
    """Dims as checked i64 arithmetic; `failed` says whether anything overflowed or was divided by zero."""

    def __init__(self, b: ir.IRBuilder, context: ir.Value, slots: Mapping[Symbol, int]) -> None:
        self.b, self.context, self.slots = b, context, slots
        self.failed: ir.Value = i1(0)
        self.memo: dict[Dim | Atom, ir.Value] = {}

    def integer(self, dim: Dim) -> ir.Value:
        if not isinstance(dim, Int):
            return i64(dim)
        if dim not in self.memo:
            total: ir.Value | None = None
            for monomial, factor in terms(dim).items():
                product: ir.Value = i64(factor)
                for i, atom in enumerate(monomial):
                    product = self.atom(atom) if i == 0 and factor == 1 else self.checked("smul", product, self.atom(atom))
                total = product if total is None else self.checked("sadd", total, product)
            assert total is not None
            self.memo[dim] = total
        return self.memo[dim]

    def atom(self, atom: Atom) -> ir.Value:
        if atom not in self.memo:
            if isinstance(atom, Symbol):
                self.memo[atom] = self.b.load(slot_address(self.b, self.context, self.slots[atom]), typ=i64)
            else:
                assert isinstance(atom, Derived)
                self.memo[atom] = self.derived(atom)
        return self.memo[atom]

    def derived(self, atom: Derived) -> ir.Value:
        b, left, right = self.b, self.integer(atom.left), self.integer(atom.right)
        if atom.op == "==":
            return b.zext(b.icmp_signed("==", left, right), i64)
        if atom.op in ("min", "max"):
            return b.select(b.icmp_signed("<" if atom.op == "min" else ">", left, right), left, right)
        bad = b.icmp_signed("<=", right, i64(0))
        self.failed = b.or_(self.failed, bad)
        by = b.select(bad, i64(1), right)
        quotient, rest = b.sdiv(left, by), b.srem(left, by)
        below = b.icmp_signed("<", rest, i64(0))
        if atom.op == "%":
            return b.select(below, b.add(rest, by), rest)
        return b.select(below, b.sub(quotient, i64(1)), quotient)

    def checked(self, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
        pair = ir.LiteralStructType([i64, i1])
        full = f"llvm.{name}.with.overflow.i64"
        module = self.b.module
        intrinsic = module.globals.get(full) or ir.Function(module, ir.FunctionType(pair, [i64, i64]), full)
        both = self.b.call(intrinsic, [x, y])
        self.failed = self.b.or_(self.failed, self.b.extract_value(both, 1))
        return self.b.extract_value(both, 0)
