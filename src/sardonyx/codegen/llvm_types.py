"""LLVM types, and FunctionBuilder: the instructions that every emitter needs.

In registers a bool is an i1; f16, bf16 and narrower floats are integers that hold their bits; a 4- or 2-bit integer is an i8
that holds its value. In memory a bool is a byte of 0 or 1. The LLVM type of a value tells whether it is a scalar or a vector
of lanes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

from llvmlite import ir

from sardonyx.base.dtypes import DType
from sardonyx.base.errors import Fail
from sardonyx.codegen.builder import Builder
from sardonyx.codegen.features import Target

Value: TypeAlias = Any  # ir.Value; llvmlite has no type annotations
Type: TypeAlias = Any
Block: TypeAlias = Any

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64, HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
PTR, VOID = ir.PointerType(), ir.VoidType()


@functools.cache
def int_type(bits: int) -> Type:
    return {1: I1, 8: I8, 16: I16, 32: I32, 64: I64}.get(bits) or ir.IntType(bits)


@functools.cache
def register_type(dtype: DType) -> Type:
    """Return the LLVM type of one element in a register."""
    if dtype.kind == "bool":
        return I1
    if dtype.name == "f32":
        return F32
    return F64 if dtype.name == "f64" else int_type(8 * dtype.itemsize)


@functools.cache
def memory_type(dtype: DType) -> Type:
    """Return the LLVM type of one element in memory."""
    return I8 if dtype.kind == "bool" else register_type(dtype)


_vectors: dict[tuple[str, int], Type] = {}


def vector_type(element: Type, lanes: int | None) -> Type:
    """Return the type of a vector of `lanes` elements; None: the element type itself."""
    if lanes is None:
        return element
    key = (str(element), lanes)
    found = _vectors.get(key)
    if found is None:
        found = _vectors[key] = ir.VectorType(element, lanes)
    return found


def lanes_of(v: Value) -> int | None:
    """Return the number of lanes of a vector value; None for a scalar."""
    return v.type.count if isinstance(v.type, ir.VectorType) else None


def element_of(t: Type) -> Type:
    return t.element if isinstance(t, ir.VectorType) else t


def suffix(t: Type) -> str:
    """Return a type as the names of intrinsics spell it: v16f32, i64, p0."""
    if isinstance(t, ir.VectorType):
        return f"v{t.count}{suffix(t.element)}"
    return "p0" if isinstance(t, ir.PointerType) else str(t.intrinsic_name)


class FunctionBuilder:
    """A function under construction: a position in it, and methods that append instructions there."""

    def __init__(self, function: Value, target: Target) -> None:
        self.function = function
        self.module = function.module
        self.target = target
        self.b = Builder()
        self.index = int_type(target.index_bits)
        self._constants: dict[tuple[object, object], Value] = {}

    # ---- constants ----

    def const(self, t: Type, value: Any) -> Value:
        """Return a constant of type t, the same in every lane if t is a vector; None: zero. Equal constants are one object."""
        key = (str(t), value if type(value) is int else repr(value))
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = _constant(t, value)
        return found

    def number(self, value: int) -> Value:
        """Return a constant index. Raises Fail if it doesn't fit the target's signed index type."""
        found = self._constants.get(("index", value))
        if found is None:
            if value >= 1 << self.index.width - 1:
                raise Fail(f"the number {value} does not fit in {self.index.width} bits")
            found = self._constants["index", value] = self.const(self.index, value)
        return found

    def listed(self, element: Type, values: Sequence[int]) -> Value:
        """Return a constant vector with these values."""
        key = (f"listed {element}", tuple(values))
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = ir.Constant(ir.VectorType(element, len(values)), list(values))
        return found

    def zero(self, t: Type) -> Value:
        """Return zero, in every lane if t is a vector."""
        return self.const(t, None)

    def undefined(self, t: Type) -> Value:
        return self.const(t, ir.Undefined)

    # ---- vectors ----

    def splat(self, v: Value, lanes: int) -> Value:
        """Broadcast v to every lane; a vector is returned unchanged."""
        if lanes_of(v) is not None:
            return v
        t = vector_type(v.type, lanes)
        if isinstance(v, ir.Constant):
            return self.const(t, v.constant)
        first = self.b.insert_element(self.undefined(t), v, self.const(I32, 0))
        return self.b.shuffle_vector(first, self.undefined(t), self.listed(I32, (0,) * lanes))

    def permute(self, v: Value, order: Sequence[int]) -> Value:
        """Select lanes of v in this order; there may be fewer of them."""
        return self.b.shuffle_vector(v, self.undefined(v.type), self.listed(I32, tuple(order)))

    def reverse(self, v: Value) -> Value:
        return self.permute(v, range(v.type.count - 1, -1, -1))

    def iota(self, t: Type, lanes: int) -> Value:
        return self.listed(t, range(lanes))

    def alike(self, *values: Value) -> tuple[Value, ...]:
        """Return the values, all as vectors if one of them is a vector."""
        lanes = next((n for v in values if (n := lanes_of(v)) is not None), None)
        return values if lanes is None else tuple(self.splat(v, lanes) for v in values)

    # ---- instructions ----

    def intrinsic(self, name: str, result: Type, *args: Value, flags: tuple[str, ...] = ()) -> Value:
        found = self.module.globals.get(name)
        if found is None:
            found = ir.Function(self.module, ir.FunctionType(result, [a.type for a in args]), name)
        return self.b.call(found, args, fastmath=flags)

    def elementwise(self, name: str, *args: Value, flags: tuple[str, ...] = ()) -> Value:
        """Call an intrinsic whose result has its arguments' type and whose name ends in that type."""
        return self.intrinsic(f"llvm.{name}.{suffix(args[0].type)}", args[0].type, *args, flags=flags)

    def at(self, pointer: Value, offset: Value | int, element: Type) -> Value:
        """Return pointer + offset, counted in elements."""
        if isinstance(offset, int):
            if offset == 0:
                return pointer
            offset = self.number(offset)
        return self.b.gep(pointer, [offset], source_etype=element)

    def add(self, x: Value, y: Value) -> Value:
        """Add two indices, folding constants."""
        a, c = constant_of(x), constant_of(y)
        if a is not None and c is not None:
            return self.const(x.type, a + c)
        return y if a == 0 else x if c == 0 else self.b.add(x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """Multiply two indices, folding constants."""
        a, c = constant_of(x), constant_of(y)
        if a is not None and c is not None:
            return self.const(x.type, a * c)
        if a == 0 or c == 1:
            return x
        return y if c == 0 or a == 1 else self.b.mul(x, y)

    def block(self, name: str = "") -> Block:
        return self.function.append_basic_block(name)


def _constant(t: Type, value: Any) -> Value:
    """Return a constant. A vector with equal lanes is written as `splat (...)`, which prints and parses faster than thousands of
    lanes.

    Raises Fail for an integer that doesn't fit its type, which LLVM would wrap.
    """
    element = element_of(t)
    if isinstance(element, ir.IntType) and isinstance(value, int) and not -1 << element.width - 1 <= value < 1 << element.width:
        raise Fail(f"the number {value} does not fit in {element.width} bits")
    if not isinstance(t, ir.VectorType):
        return ir.Constant(t, value)
    text = "zeroinitializer" if value is None else "poison" if value is ir.Undefined else f"splat ({ir.Constant(t.element, value)})"
    found = ir.FormattedConstant(t.element, text)
    found.type = t
    return found


def constant_of(v: Value) -> int | None:
    """Return the integer of a scalar constant; None for any other value."""
    if isinstance(v, ir.Constant) and isinstance(v.type, ir.IntType) and isinstance(v.constant, int):
        return v.constant
    return None
