"""A faster IRBuilder: llvmlite's, with the most frequent instructions kept as text.

llvmlite makes an object for each instruction, searches a free name for it, and formats everything when the module is printed. A
kernel is printed once and its instructions never change, so here an instruction is formatted when it is emitted (`Line`). Rare
instructions (phi, branch, ...) are llvmlite's own objects; both kinds stand in the same blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llvmlite import ir

Value: TypeAlias = Any  # ir.Value or Line; llvmlite has no type annotations
Type: TypeAlias = Any
Binary: TypeAlias = "Callable[[Builder, Value, Value], Value]"

VOID = ir.VoidType()
PREDICATES = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class Line:
    """An instruction as text, with the type and the name of its value."""

    __slots__ = ("reference", "text", "type")

    def __init__(self, t: Type, reference: str, text: str) -> None:
        self.type, self.reference, self.text = t, reference, text

    def get_reference(self) -> str:
        return self.reference

    def __str__(self) -> str:
        return self.text


def binary(name: str) -> Binary:
    """Return the method for an instruction `name x, y` on two values of one type, which is also the result's type."""

    def emit(b: Builder, x: Value, y: Value) -> Value:
        return b.define(x.type, f"{name} {x.type} {x.get_reference()}, {y.get_reference()}")

    return emit


def comparison(name: str, prefix: str) -> Callable[[Builder, str, Value, Value], Value]:
    """Return the method for icmp or fcmp of two values of one type. predicate: an operator as in Python (such as <=), or LLVM's
    own word.
    """

    def emit(b: Builder, predicate: str, x: Value, y: Value) -> Value:
        word = prefix + PREDICATES[predicate] if predicate in PREDICATES else predicate
        return b.define(truth(x.type), f"{name} {word} {x.type} {x.get_reference()}, {y.get_reference()}")

    return emit


def unsigned(b: Builder, predicate: str, x: Value, y: Value) -> Value:
    """Emit an unsigned comparison of integers."""
    return (equality if predicate in ("==", "!=") else below)(b, predicate, x, y)


equality, below, above = comparison("icmp", ""), comparison("icmp", "u"), comparison("icmp", "s")


def signed(b: Builder, predicate: str, x: Value, y: Value) -> Value:
    """Emit a signed comparison of integers."""
    return (equality if predicate in ("==", "!=") else above)(b, predicate, x, y)


def truth(t: Type) -> Type:
    """Return the type of a comparison's result: i1, or a vector of i1, for operands of type t."""
    return flags(t.count) if isinstance(t, ir.VectorType) else BIT


BIT = ir.IntType(1)


@functools.cache
def flags(lanes: int) -> Type:
    return ir.VectorType(BIT, lanes)


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """Appends instructions to the end of a block. No other builder may append lines to the same function."""

    def __init__(self) -> None:
        super().__init__()
        self._defined = 0

    def put(self, line: Line) -> None:
        """Append an instruction that has no value."""
        self._block.instructions.append(line)
        self._anchor += 1

    def define(self, t: Type, text: str) -> Line:
        """Append an instruction that has a value of type t; the text is what follows the equals sign."""
        self._defined += 1
        reference = f"%v{self._defined}"
        line = Line(t, reference, f"{reference} = {text}")
        self._block.instructions.append(line)
        self._anchor += 1
        return line

    add, sub, mul = binary("add"), binary("sub"), binary("mul")
    udiv, sdiv, urem, srem = binary("udiv"), binary("sdiv"), binary("urem"), binary("srem")
    shl, lshr, ashr = binary("shl"), binary("lshr"), binary("ashr")
    and_, or_, xor = binary("and"), binary("or"), binary("xor")
    fadd, fsub, fmul, fdiv = binary("fadd"), binary("fsub"), binary("fmul"), binary("fdiv")
    icmp_signed, icmp_unsigned = signed, unsigned
    fcmp_ordered, fcmp_unordered = comparison("fcmp", "o"), comparison("fcmp", "u")

    def not_(self, x: Value) -> Value:
        ones = f"splat ({x.type.element} -1)" if isinstance(x.type, ir.VectorType) else "-1"
        return self.define(x.type, f"xor {x.type} {x.get_reference()}, {ones}")

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        given = ", ".join([f"{v.type} {v.get_reference()}" for v in (condition, x, y)])
        return self.define(x.type, f"select {given}")

    def gep(self, pointer: Value, indices: Sequence[Value], *, source_etype: Type) -> Value:
        moved = ", ".join([f"{i.type} {i.get_reference()}" for i in indices])
        return self.define(pointer.type, f"getelementptr {source_etype}, {pointer.type} {pointer.get_reference()}, {moved}")

    def load(self, pointer: Value, *, typ: Type, align: int) -> Value:
        return self.define(typ, f"load {typ}, ptr {pointer.get_reference()}, align {align}")

    def store(self, v: Value, pointer: Value, *, align: int) -> None:
        self.put(Line(VOID, "", f"store {v.type} {v.get_reference()}, ptr {pointer.get_reference()}, align {align}"))

    def shuffle_vector(self, x: Value, y: Value, order: Value) -> Value:
        given = ", ".join([f"{v.type} {v.get_reference()}" for v in (x, y, order)])
        return self.define(ir.VectorType(x.type.element, order.type.count), f"shufflevector {given}")

    def extract_value(self, whole: Value, index: int) -> Value:
        return self.define(whole.type.elements[index], f"extractvalue {whole.type} {whole.get_reference()}, {index}")

    def call(self, function: Value, args: Sequence[Value], fastmath: Sequence[str] = ()) -> Value:
        result = function.function_type.return_type
        given = ", ".join([f"{a.type} {a.get_reference()}" for a in args])
        words = ("call", *fastmath, *([function.calling_convention] if function.calling_convention else []))
        text = f"{' '.join(words)} {result} {function.get_reference()}({given})"
        if result != VOID:
            return self.define(result, text)
        self.put(Line(VOID, "", text))
        return None
