"""How the contraction tile is fed, per pair of dtypes: what a broadcast of A and a vector of B are, and how they meet a sum.

A further way of feeding (pairs of bf16, quads of bytes for VNNI, a matrix register) is a further class here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sardonyx.base.dtypes import DType, f32, f64, i32
from sardonyx.base.errors import Unsupported
from sardonyx.codegen import casts
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import FunctionBuilder, Type, Value, memory_type, register_type, vector_type


@dataclass(frozen=True, slots=True)
class Plain:
    """One element of A times one vector of B, both converted to the sum's dtype when loaded."""

    a: DType
    b: DType
    c: DType

    def lanes(self, target: Target) -> int:
        return target.lanes(self.c)

    def sums(self, target: Target) -> Type:
        return vector_type(register_type(self.c), self.lanes(target))

    def load_a(self, w: FunctionBuilder, address: Value) -> Value:
        """An element of A in every lane."""
        one = w.b.load(address, typ=vector_type(memory_type(self.a), 1), align=self.a.itemsize)
        return w.permute(casts.cast(w, one, self.a, self.c), (0,) * self.lanes(w.target))

    def load_b(self, w: FunctionBuilder, address: Value) -> Value:
        """A vector of B."""
        t = vector_type(memory_type(self.b), self.lanes(w.target))
        return casts.cast(w, w.b.load(address, typ=t, align=self.b.itemsize), self.b, self.c)

    def multiply_add(self, w: FunctionBuilder, a: Value, b: Value, total: Value) -> Value:
        if not self.c.is_float:
            return w.b.add(w.b.mul(a, b), total)
        if w.target.fma:
            return w.elementwise("fma", a, b, total)
        return w.b.fadd(w.b.fmul(a, b), total)


def fragment(a: DType, b: DType, c: DType, target: Target) -> Plain:
    """The way to feed a tile of these dtypes. Raises Unsupported for dtypes that have none."""
    if c not in (f32, f64, i32) or c.is_float != a.is_float or c.is_float != b.is_float:
        raise Unsupported(f"a tile of {a} times {b} summed in {c}")
    if not all(d is c or casts.is_native(d, c, target) for d in (a, b)):
        raise Unsupported(f"a tile of {a} times {b} on {target.name}")
    return Plain(a, b, c)
