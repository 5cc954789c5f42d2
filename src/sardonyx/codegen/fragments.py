"""How the contraction tile loads its operands and multiplies them, for each combination of dtypes.

`Plain` multiplies one element of A with vectors of B, `Grouped` a group of neighbours along k. Another way of multiplying (pairs of
bf16, matrix registers) would be another class with the same methods.
"""

from __future__ import annotations

from msgspec import Struct

from sardonyx.base.dtypes import DType, f32, f64, i32
from sardonyx.base.errors import Unsupported
from sardonyx.codegen import casts
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import FunctionBuilder, Type, Value, int_type, memory_type, register_type, vector_type
from sardonyx.loop.groups import QUADS, Group


class Plain(Struct, frozen=True):
    """Multiplies one element of A with one vector of B; both are converted to the sum's dtype when they are loaded."""

    a: DType
    b: DType
    c: DType
    group: int = 1

    def lanes(self, target: Target) -> int:
        return target.lanes(self.c)

    def sums(self, target: Target) -> Type:
        return vector_type(register_type(self.c), self.lanes(target))

    def load_a(self, w: FunctionBuilder, address: Value) -> Value:
        """Load an element of A and broadcast it to every lane."""
        one = w.b.load(address, typ=vector_type(memory_type(self.a), 1), align=self.a.itemsize)
        return w.permute(casts.cast(w, one, self.a, self.c), (0,) * self.lanes(w.target))

    def load_b(self, w: FunctionBuilder, address: Value) -> Value:
        """Load a vector of B."""
        t = vector_type(memory_type(self.b), self.lanes(w.target))
        return casts.cast(w, w.b.load(address, typ=t, align=self.b.itemsize), self.b, self.c)

    def multiply_add(self, w: FunctionBuilder, a: Value, b: Value, total: Value) -> Value:
        if not self.c.is_float:
            return w.b.add(w.b.mul(a, b), total)
        if w.target.fma:
            return w.elementwise("fma", a, b, total)
        return w.b.fadd(w.b.fmul(a, b), total)


PAIR_SUMS = {128: "llvm.x86.sse2.pmadd.wd", 256: "llvm.x86.avx2.pmadd.wd", 512: "llvm.x86.avx512.pmaddw.d.512"}
"""The instruction that multiplies pairs of i16 and adds their products, by the bits of a vector."""


class Grouped(Plain, frozen=True):
    """Multiplies `group` neighbours of A along k with those of a vector's columns: each lane of 32 bits holds one column's group."""

    def load_a(self, w: FunctionBuilder, address: Value) -> Value:
        """Load a group of A and broadcast it to every lane."""
        one = w.b.load(address, typ=vector_type(int_type(32), 1), align=self.a.itemsize)
        return w.permute(one, (0,) * self.lanes(w.target))

    def load_b(self, w: FunctionBuilder, address: Value) -> Value:
        """Load the groups of a vector's columns."""
        return w.b.load(address, typ=self.sums(w.target), align=self.b.itemsize)

    def multiply_add(self, w: FunctionBuilder, a: Value, b: Value, total: Value) -> Value:
        lanes = self.lanes(w.target)
        elements = vector_type(int_type(32 // self.group), lanes * self.group)
        a, b = w.b.bitcast(a, elements), w.b.bitcast(b, elements)
        if self.group == QUADS.count:
            return w.intrinsic(f"llvm.x86.avx512.vpdpbusd.{lanes * 32}", total.type, total, a, b)
        return w.b.add(w.intrinsic(PAIR_SUMS[lanes * 32], total.type, a, b), total)


def fragment(a: DType, b: DType, c: DType, target: Target, group: int = 1) -> Plain:
    """Return the way to multiply operands of dtypes a and b into sums of dtype c. Raises Unsupported if the target has none."""
    if group > 1:
        if c is not i32 or Group(a, b, group) not in target.groups:
            raise Unsupported(f"{target.name} has no tile that multiplies groups of {group} {a} by {b} and sums in {c}")
        return Grouped(a, b, c, group)
    if c not in (f32, f64, i32) or c.is_float != a.is_float or c.is_float != b.is_float:
        raise Unsupported(f"there is no tile that multiplies {a} by {b} and sums in {c}")
    if not all(d is c or casts.is_native(d, c, target) for d in (a, b)):
        raise Unsupported(f"{target.name} has no tile that multiplies {a} by {b}")
    return Plain(a, b, c)
