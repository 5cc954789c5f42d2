"""Lines mean what llvmlite's instructions do: one function by each builder, the same after LLVM has read it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from llvmlite import binding as llvm
from llvmlite import ir

from sardonyx.codegen.builder import Builder
from sardonyx.codegen.llvm_types import F32, I32, I64, PTR, VOID

Builders = Any
WIDE = ir.VectorType(I32, 4)
ORDER = ir.Constant(ir.VectorType(I32, 4), [3, 2, 1, 0])
INTEGERS = ("add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "shl", "lshr", "ashr", "and_", "or_", "xor")
FLOATS = ("fadd", "fsub", "fmul", "fdiv")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


def integers(b: Builders, x: Any, y: Any, p: Any) -> None:
    for name in INTEGERS:
        x = getattr(b, name)(x, y)
    for word in COMPARISONS:
        x = b.select(b.icmp_signed(word, x, y), x, b.select(b.icmp_unsigned(word, x, y), y, x))
    b.store(b.not_(x), p, align=4)


def floats(b: Builders, x: Any, y: Any, p: Any) -> None:
    x, y = (b.bitcast(v, ir.VectorType(F32, 4) if v.type == WIDE else F32) for v in (x, y))
    for name in FLOATS:
        x = getattr(b, name)(x, y)
    for word in (*COMPARISONS, "ord", "uno"):
        x = b.select(b.not_(b.fcmp_ordered(word, x, y)), x, b.select(b.fcmp_unordered(word, x, y), y, x))
    b.store(x, p, align=8)


def memory(b: Builders, x: Any, y: Any, p: Any) -> None:
    found = b.load(b.gep(p, [ir.Constant(I64, 3)], source_etype=x.type), typ=x.type, align=16)
    if x.type == WIDE:
        found = b.shuffle_vector(found, y, ORDER)
    b.store(found, p, align=4)


def calls(b: Builders, x: Any, y: Any, p: Any) -> None:
    pair = ir.LiteralStructType([x.type, ir.VectorType(ir.IntType(1), 4) if x.type == WIDE else ir.IntType(1)])
    name = f"llvm.sadd.with.overflow.{'v4i32' if x.type == WIDE else 'i32'}"
    both = b.call(ir.Function(b.module, ir.FunctionType(pair, [x.type] * 2), name), [x, y])
    b.store(b.extract_value(both, 0), p, align=4)
    real = b.sitofp(x, F32) if x.type == I32 else b.sitofp(x, ir.VectorType(F32, 4))
    name = f"llvm.fabs.{'v4f32' if x.type == WIDE else 'f32'}"
    b.store(b.call(ir.Function(b.module, ir.FunctionType(real.type, [real.type]), name), [real], fastmath=("nnan",)), p, align=4)
    b.call(ir.Function(b.module, ir.FunctionType(VOID, [PTR]), "away"), [p])


def read(builder: Builders, body: Any, t: Any) -> str:
    """LLVM's own text of a function with this body, the values numbered."""
    module = ir.Module("m")
    function = ir.Function(module, ir.FunctionType(VOID, [t, t, PTR]), "f")
    builder.position_at_end(function.append_basic_block("entry"))
    body(builder, *function.args)
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    names: dict[str, str] = {}
    return re.sub(r'%("?)[\w.]+\1', lambda m: names.setdefault(m[0], f"%{len(names)}"), str(parsed))


@pytest.mark.parametrize("t", [I32, WIDE], ids=str)
@pytest.mark.parametrize("body", [integers, floats, memory, calls])
def test_lines_are_llvmlites_instructions(body: Any, t: Any) -> None:
    assert read(Builder(), body, t) == read(ir.IRBuilder(), body, t)


def test_values_meet_phis() -> None:
    module = ir.Module("m")
    function = ir.Function(module, ir.FunctionType(I64, [I64]), "f")
    b, head = Builder(), function.append_basic_block("loop")
    entry, after = function.append_basic_block("entry"), function.append_basic_block("after")
    function.blocks[:] = [entry, head, after]
    b.position_at_end(entry)
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(I64)
    following = b.add(i, ir.Constant(I64, 1))
    i.add_incoming(ir.Constant(I64, 0), entry)
    i.add_incoming(following, head)
    b.cbranch(b.icmp_signed("<", following, function.args[0]), head, after)
    b.position_at_end(after)
    b.ret(following)
    llvm.parse_assembly(str(module)).verify()
