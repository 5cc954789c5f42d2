"""Plans: the sizes, offsets and addresses of a run, computed natively in checked 64-bit arithmetic.

void NAME(ptr context):
    for (slot, integer): context[slot] = integer
    if anything overflowed, or a divisor was not positive: cmpxchg(status, 0, OVERFLOW)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llvmlite import ir

from sardonyx.base.symbolic import Atom, Derived, Dim, Int, Symbol
from sardonyx.codegen.features import Target
from sardonyx.codegen.words import I1, I64, PTR, VOID, Value, Words, constant_of
from sardonyx.runtime import abi

OVERFLOW = 0xFFFF_FFFF  # the status: no check of a kernel has it

PAIR = ir.LiteralStructType([I64, I1])


def emit_plan(
    module: ir.Module, target: Target, name: str, assignments: Sequence[tuple[int, Dim]], slots: Mapping[Symbol, int]
) -> None:
    """Emit a plan. An assignment may use what one before it stored. Raises KeyError for a symbol without a slot."""
    function = ir.Function(module, ir.FunctionType(VOID, [PTR]), name)
    function.attributes.add("nounwind")
    _Plan(Words(function, target), slots).emit(assignments)


class _Plan:
    def __init__(self, w: Words, slots: Mapping[Symbol, int]) -> None:
        self.w, self.b, self.slots = w, w.b, slots
        self.context = w.function.args[0]
        self.memo: dict[object, Value] = {}
        self.failed: Value = w.const(I1, False)

    def emit(self, assignments: Sequence[tuple[int, Dim]]) -> None:
        w, b = self.w, self.b
        b.position_at_end(w.block("entry"))
        symbols = {slot: symbol for symbol, slot in self.slots.items()}
        for slot, dim in assignments:
            v = self.integer(dim)
            b.store(v, self.slot(slot), align=8)
            if slot in symbols:
                self.forget(symbols[slot])
        with b.if_then(self.failed):
            b.cmpxchg(self.slot(abi.STATUS), w.const(I64, 0), w.const(I64, OVERFLOW), "acq_rel", "monotonic")
        b.ret_void()

    def forget(self, symbol: Symbol) -> None:
        """A symbol's slot has changed."""
        self.memo = {k: v for k, v in self.memo.items() if symbol not in k.symbols}  # type: ignore[attr-defined]

    def slot(self, number: int) -> Value:
        return self.b.gep(self.context, [self.w.const(I64, number)], source_etype=I64)

    def integer(self, dim: Dim) -> Value:
        if not isinstance(dim, Int):
            return self.w.const(I64, dim)
        found = self.memo.get(dim)
        if found is None:
            found = self.w.const(I64, 0)
            for monomial, factor in dim.terms.items():
                product = self.w.const(I64, factor)
                for atom in monomial:
                    product = self.checked("smul", product, self.atom(atom))
                found = self.checked("sadd", found, product)
            self.memo[dim] = found
        return found

    def checked(self, op: str, x: Value, y: Value) -> Value:
        """x + y or x y; an overflow is remembered."""
        a, c = constant_of(x), constant_of(y)
        if a == 0 or c == 0:
            return (y if a == 0 else x) if op == "sadd" else self.w.const(I64, 0)
        if op == "smul" and (a == 1 or c == 1):
            return y if a == 1 else x
        pair = self.w.intrinsic(f"llvm.{op}.with.overflow.i64", PAIR, x, y)
        self.fail_if(self.b.extract_value(pair, 1))
        return self.b.extract_value(pair, 0)

    def fail_if(self, condition: Value) -> None:
        self.failed = self.b.or_(self.failed, condition)

    def atom(self, atom: Atom) -> Value:
        found = self.memo.get(atom)
        if found is None:
            if isinstance(atom, Symbol):
                found = self.b.load(self.slot(self.slots[atom]), typ=I64, align=8)
            else:
                assert isinstance(atom, Derived), f"{atom!r} in a plan"
                found = self.derived(atom.op, self.integer(atom.left), self.integer(atom.right))
            self.memo[atom] = found
        return found

    def derived(self, op: str, left: Value, right: Value) -> Value:
        b, w = self.b, self.w
        if op in ("min", "max"):
            return b.select(b.icmp_signed("<" if op == "min" else ">", left, right), left, right)
        if op == "==":
            return b.zext(b.icmp_signed("==", left, right), I64)
        zero, one = w.const(I64, 0), w.const(I64, 1)
        bad = b.icmp_signed("<=", right, zero)
        self.fail_if(bad)
        divisor = b.select(bad, one, right)
        rest = b.srem(left, divisor)
        negative = b.icmp_signed("<", rest, zero)
        if op == "%":
            return b.select(negative, b.add(rest, divisor), rest)
        quotient = b.sdiv(left, divisor)
        return b.select(negative, b.sub(quotient, one), quotient)
