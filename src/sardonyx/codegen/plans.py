"""Plans: functions that compute the sizes, offsets and addresses of a run, in checked 64-bit arithmetic.

void NAME(ptr context):
    for (slot, integer): context[slot] = integer
    if anything overflowed, or a divisor was not positive: cmpxchg(status, 0, OVERFLOW)

A constant must fit 64 bits; a computed number must also fit an index of the target. Only an estimate becomes the largest
number where it overflows.

A plan is straight-line code that runs once per run, so it is compiled at LLVM's fastest level (LEVEL), which takes an eighth
of the time and gives code that is hardly longer. Since every computed number may take a slot of the stack, a long plan is
split into functions NAME.1, NAME.2, ... that it calls in order; they pass each other what they have computed in an array:

    void NAME.i(ptr context, ptr shared)

A plan between the kernels of a run (a PlanStep of runtime.steps), where sizes change from iteration to iteration of a loop,
is called like a kernel and may check conditions:

void NAME(ptr arguments, ptr context, ptr scratch, i64 part, i64 of):
    NAME.sizes(context)
    for (slot, zero, code, details): if context[slot] != 0 (if zero) or < 0 (else):
        if cmpxchg(status, 0, code) succeeded: store the details
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llvmlite import ir
from msgspec import Struct, field

from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Atom, Derived, Dim, Int, Symbol
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import I1, I64, PTR, VOID, FunctionBuilder, Type, Value, constant_of, int_type
from sardonyx.runtime import abi

LEVEL = 0
"""The level of LLVM's code generator for plans."""
MOST = 3000
"""About the most instructions of one function."""

WORD_BITS = 64
LARGEST = (1 << WORD_BITS - 1) - 1

PAIR = ir.LiteralStructType([I64, I1])


class Expected(NamedTuple):
    """A condition on a slot: its number must be zero (`zero`), or else must not be negative.

    If it doesn't hold, `code` becomes the run's status, and the numbers in the slots `details` (three at most) its details.
    """

    slot: int
    zero: bool
    code: int
    details: tuple[int, ...] = ()


def emit_plans(
    target: Target,
    plans: Mapping[str, Sequence[tuple[int, Dim]]],
    slots: Mapping[Symbol, int],
    estimates: frozenset[int] = frozenset([abi.WORK]),
) -> ir.Module:
    """Emit the module of a program's plans.

    plans: {name: assignments (slot, number)}. slots: the slot of each symbol in these numbers. estimates: slots that may be
    inexact: where their number overflows, they get the largest integer instead of failing.
    """
    module = ir.Module("plans")
    module.triple = target.triple
    for name, assignments in plans.items():
        emit_plan(module, target, name, assignments, slots, estimates)
    return module


def emit_mid_run_plan(
    module: ir.Module,
    target: Target,
    name: str,
    assignments: Sequence[tuple[int, Dim]],
    tests: Sequence[Expected],
    slots: Mapping[Symbol, int],
) -> None:
    """Emit a plan that is called between the kernels of a run. tests: the conditions that are checked after the assignments."""
    emit_plan(module, target, f"{name}.sizes", assignments, slots, frozenset())
    w = FunctionBuilder(_function(module, name, [PTR, PTR, PTR, I64, I64]), target)
    w.b.position_at_end(w.block("entry"))
    context = w.function.args[1]
    w.b.call(module.globals[f"{name}.sizes"], [context])

    def slot(number: int) -> Value:
        return w.b.gep(context, [w.const(I64, number)], source_etype=I64)

    for test in tests:
        found = w.b.load(slot(test.slot), typ=I64, align=8)
        with w.b.if_then(w.b.icmp_signed("!=" if test.zero else "<", found, w.const(I64, 0))):
            first = w.b.cmpxchg(slot(abi.STATUS), w.const(I64, 0), w.const(I64, test.code), "acq_rel", "monotonic")
            with w.b.if_then(w.b.extract_value(first, 1)):
                for i, place in enumerate(test.details):
                    w.b.store(w.b.load(slot(place), typ=I64, align=8), slot(abi.DETAIL + i), align=8)
    w.b.ret_void()


def emit_plan(
    module: ir.Module,
    target: Target,
    name: str,
    assignments: Sequence[tuple[int, Dim]],
    slots: Mapping[Symbol, int],
    estimates: frozenset[int],
) -> None:
    """Emit a plan. An assignment may use what an earlier one stored. Raises Fail for a number of more than 64 bits."""
    whole = FunctionBuilder(_function(module, name, [PTR]), target)
    if instructions(assignments) <= MOST:
        plan = _Plan(whole, slots, estimates, None)
        plan.assign(assignments, 0, len(assignments))
        plan.end()
        return
    whole.b.position_at_end(whole.block("entry"))
    array = whole.b.alloca(I64)
    array.type = PTR  # llvmlite still gives it a typed pointer
    shared = Shared()
    here = parts = 0
    while here < len(assignments):
        parts += 1
        part = _function(module, f"{name}.{parts}", [PTR, PTR])
        part.linkage = "internal"
        plan = _Plan(FunctionBuilder(part, target), slots, estimates, shared)
        here = plan.assign(assignments, here, MOST)
        plan.end()
        whole.b.call(part, [*whole.function.args, array])
    array.allocated_type = ir.ArrayType(I64, max(shared.count, 1))
    whole.b.ret_void()


def _function(module: ir.Module, name: str, arguments: Sequence[Type]) -> Value:
    function = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    function.attributes.add("nounwind")
    return function


def instructions(assignments: Sequence[tuple[int, Dim]]) -> int:
    """Estimate the instructions of the assignments, counting each subexpression once."""
    seen: set[Dim] = set()
    total, waiting = 0, [dim for _, dim in assignments]
    while waiting:
        dim = waiting.pop()
        if not isinstance(dim, Int) or dim in seen:
            continue
        seen.add(dim)
        for monomial in dim.terms:
            total += 4 + 4 * len(monomial)
            waiting.extend(side for a in monomial if isinstance(a, Derived) for side in (a.left, a.right))
    return total


class Shared(Struct):
    """Which values the functions of a split plan share, and the index of each in the array."""

    places: dict[Int | Atom, int] = field(default_factory=dict)
    count: int = 0

    uses: dict[Symbol, list[Int | Atom]] = field(default_factory=dict)  # the shared values that depend on each symbol

    def place(self, what: Int | Atom) -> int:
        """Allot an array element to a value, and return its index."""
        self.places[what] = self.count
        self.count += 1
        for symbol in what.symbols:
            self.uses.setdefault(symbol, []).append(what)
        return self.places[what]

    def forget(self, symbol: Symbol) -> None:
        """Drop the values that depend on the symbol: its slot has changed."""
        for what in self.uses.pop(symbol, ()):
            self.places.pop(what, None)


class _Plan:
    """A plan's function under construction. shared: the values that earlier functions have left in the array; None if the plan
    isn't split.
    """

    def __init__(self, w: FunctionBuilder, slots: Mapping[Symbol, int], estimates: frozenset[int], shared: Shared | None) -> None:
        self.w, self.b, self.slots, self.shared = w, w.b, slots, shared
        self.context = w.function.args[0]
        self.memo: dict[Int | Atom, Value] = {}
        self.uses: dict[Symbol, list[Int | Atom]] = {}  # the memoised values that depend on each symbol
        self.estimates, self.estimated = estimates, dict[Dim, Value]()
        self.failed: Value = w.const(I1, False)
        self.symbols = {slot: symbol for symbol, slot in slots.items()}
        self.b.position_at_end(w.block("entry"))

    def assign(self, assignments: Sequence[tuple[int, Dim]], here: int, most: int) -> int:
        """Emit the assignments from number `here` on, until the function has `most` instructions. -> the number of the next
        assignment
        """
        while here < len(assignments) and (self.shared is None or len(self.b.block.instructions) < most):
            slot, dim = assignments[here]
            v = self.estimate(dim) if slot in self.estimates else self.index(self.integer(dim))
            self.b.store(v, self.slot(slot), align=8)
            if slot in self.symbols:
                self.forget(self.symbols[slot])
            here += 1
        return here

    def end(self) -> None:
        """Emit the end: if anything has failed, set the status to OVERFLOW."""
        w, b = self.w, self.b
        with b.if_then(self.failed):
            b.cmpxchg(self.slot(abi.STATUS), w.const(I64, 0), w.const(I64, abi.OVERFLOW), "acq_rel", "monotonic")
        b.ret_void()

    def index(self, v: Value) -> Value:
        """Return v, and fail at run time if it doesn't fit an index of the target."""
        bits = self.w.target.index_bits
        if bits < WORD_BITS:
            narrow = self.b.sext(self.b.trunc(v, int_type(bits)), I64)
            self.fail_if(self.b.icmp_signed("!=", narrow, v))
        return v

    def estimate(self, dim: Dim) -> Value:
        """Emit dim, or the largest integer where it overflows. Intermediate results are not memoised, since they may have
        overflowed.
        """
        if dim in self.estimated:
            return self.estimated[dim]
        failed, memo, shared = self.failed, self.memo, self.shared
        self.failed, self.memo, self.shared = self.w.const(I1, False), dict(memo), None
        v = self.integer(dim)
        found = self.b.select(self.failed, self.w.const(I64, LARGEST), v)
        self.failed, self.memo, self.shared = failed, memo, shared
        self.estimated[dim] = found
        return found

    def forget(self, symbol: Symbol) -> None:
        """Drop the values that depend on the symbol: its slot has changed."""
        self.estimated.clear()
        for what in self.uses.pop(symbol, ()):
            self.memo.pop(what, None)
        if self.shared is not None:
            self.shared.forget(symbol)

    def slot(self, number: int) -> Value:
        return self.b.gep(self.context, [self.w.const(I64, number)], source_etype=I64)

    def number(self, value: int) -> Value:
        """Return a constant. Raises Fail for one that doesn't fit 64 bits."""
        if value > LARGEST:
            raise Fail(f"a size of {value} does not fit in {WORD_BITS} bits")
        return self.w.const(I64, value)

    def integer(self, dim: Dim) -> Value:
        if not isinstance(dim, Int):
            return self.number(dim)
        found = self.known(dim)
        if found is None:
            found = self.w.const(I64, 0)
            for monomial, factor in dim.terms.items():
                product = self.checked("smul", self.product(monomial), self.number(factor))
                found = self.checked("sadd", found, product)
            self.remember(dim, found, len(dim.terms) > 1)
        return found

    def product(self, atoms: Sequence[Atom]) -> Value:
        """Emit a product of atoms. Products are memoised without their factors, because many sums contain the same ones."""
        if len(atoms) < 2:
            return self.atom(atoms[0]) if atoms else self.w.const(I64, 1)
        whole = Int({tuple(atoms): 1})
        found = self.known(whole)
        if found is None:
            found = self.checked("smul", self.product(atoms[:-1]), self.atom(atoms[-1]))
            self.remember(whole, found, True)
        return found

    def known(self, what: Int | Atom) -> Value | None:
        """Return a value that has been computed before, perhaps by an earlier function of the plan; else None."""
        found = self.memo.get(what)
        if found is None and self.shared is not None and what in self.shared.places:
            found = self.b.load(self.place(self.shared.places[what]), typ=I64, align=8)
            self._memorise(what, found)
        return found

    def _memorise(self, what: Int | Atom, found: Value) -> None:
        self.memo[what] = found
        for symbol in what.symbols:
            self.uses.setdefault(symbol, []).append(what)

    def remember(self, what: Int | Atom, found: Value, dear: bool) -> None:
        """Memoise a value; if it is costly to compute, also store it for the functions that follow."""
        self._memorise(what, found)
        if dear and self.shared is not None:
            self.b.store(found, self.place(self.shared.place(what)), align=8)

    def place(self, number: int) -> Value:
        """Return the address of an element of the array."""
        return self.b.gep(self.w.function.args[1], [self.w.const(I64, number)], source_etype=I64)

    def checked(self, op: str, x: Value, y: Value) -> Value:
        """Emit x + y (op sadd) or x y (op smul); an overflow makes the plan fail."""
        a, c = constant_of(x), constant_of(y)
        if a == 0 or c == 0:
            return (y if a == 0 else x) if op == "sadd" else self.w.const(I64, 0)
        if a is not None and c is not None:
            return self.number(a + c if op == "sadd" else a * c)
        if op == "smul" and (a == 1 or c == 1):
            return y if a == 1 else x
        if op == "smul" and self.w.target.index_bits == 32:
            return self.checked_product(x, y)
        pair = self.w.intrinsic(f"llvm.{op}.with.overflow.i64", PAIR, x, y)
        self.fail_if(self.b.extract_value(pair, 1))
        return self.b.extract_value(pair, 0)

    def checked_product(self, x: Value, y: Value) -> Value:
        """Emit x y from products of 32-bit halves; an overflow makes the plan fail.

        LLVM's checked product calls a function of the compiler's library (__multi3) on processors of 32 bits. It overflows unless
        the upper half of the 128-bit product repeats the lower half's sign (Hacker's Delight, second edition, section 8-2).
        """
        b, zero, half, low = self.b, self.w.const(I64, 0), self.w.const(I64, 32), self.w.const(I64, (1 << 32) - 1)
        x0, x1, y0, y1 = b.and_(x, low), b.lshr(x, half), b.and_(y, low), b.lshr(y, half)
        middle = b.add(b.mul(x1, y0), b.lshr(b.mul(x0, y0), half))
        other = b.add(b.mul(x0, y1), b.and_(middle, low))
        upper = b.add(b.add(b.mul(x1, y1), b.lshr(middle, half)), b.lshr(other, half))
        for left, right in ((x, y), (y, x)):  # the halves were taken without signs
            upper = b.sub(upper, b.select(b.icmp_signed("<", left, zero), right, zero))
        found = b.mul(x, y)
        self.fail_if(b.icmp_signed("!=", upper, b.ashr(found, self.w.const(I64, 63))))
        return found

    def fail_if(self, condition: Value) -> None:
        self.failed = self.b.or_(self.failed, condition)

    def atom(self, atom: Atom) -> Value:
        found = self.known(atom)
        if found is None:
            if isinstance(atom, Symbol):
                found = self.b.load(self.slot(self.slots[atom]), typ=I64, align=8)
            else:
                assert isinstance(atom, Derived), f"{atom!r} in a plan"
                found = self.derived(atom.op, self.integer(atom.left), self.integer(atom.right))
            self.remember(atom, found, not isinstance(atom, Symbol))
        return found

    def derived(self, op: str, left: Value, right: Value) -> Value:
        b, w = self.b, self.w
        if op in ("min", "max"):
            return b.select(b.icmp_signed("<" if op == "min" else ">", left, right), left, right)
        if op == "==":
            return b.zext(b.icmp_signed("==", left, right), I64)
        zero, one = w.const(I64, 0), w.const(I64, 1)
        divisor = right
        if (constant_of(right) or 0) <= 0:
            bad = b.icmp_signed("<=", right, zero)
            self.fail_if(bad)
            divisor = b.select(bad, one, right)
        rest = b.srem(left, divisor)
        negative = b.icmp_signed("<", rest, zero)
        if op == "%":
            return b.select(negative, b.add(rest, divisor), rest)
        quotient = b.sdiv(left, divisor)
        return b.select(negative, b.sub(quotient, one), quotient)
