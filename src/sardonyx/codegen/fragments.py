"""How the contraction tile loads its operands and multiplies them, for each combination of dtypes.

Another way of multiplying (pairs of bf16, quads of bytes for VNNI, matrix registers) would be another class with the methods of
`Plain`.
"""

from __future__ import annotations

from msgspec import Struct

from sardonyx.base.dtypes import DType, f32, f64, i32
from sardonyx.base.errors import Unsupported
from sardonyx.codegen import casts
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import FunctionBuilder, Type, Value, memory_type, register_type, vector_type


class Plain(Struct, frozen=True):
    """Multiplies one element of A with one vector of B; both are converted to the sum's dtype when they are loaded."""

    a: DType
    b: DType
    c: DType

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


def fragment(a: DType, b: DType, c: DType, target: Target) -> Plain:
    """Return the way to multiply operands of dtypes a and b into sums of dtype c. Raises Unsupported if the target has none."""
    if c not in (f32, f64, i32) or c.is_float != a.is_float or c.is_float != b.is_float:
        raise Unsupported(f"there is no tile that multiplies {a} by {b} and sums in {c}")
    if not all(d is c or casts.is_native(d, c, target) for d in (a, b)):
        raise Unsupported(f"{target.name} has no tile that multiplies {a} by {b}")
    return Plain(a, b, c)
