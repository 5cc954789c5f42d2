"""ONNX's Cast and Bitcast, on one element or on lanes, between numbers of 8 to 64 bits, bool, f16 and bf16.

Floats are truncated towards zero to integers, saturated, with NaN as 0; integers wrap; every value but zero is True. f16 is
converted by an instruction where the target has one. Casts of narrower floats, and of f16 on other targets, are written in
integer arithmetic by loop.casts.
"""

from __future__ import annotations

from sardonyx.base.dtypes import DType, f32
from sardonyx.base.errors import Unsupported
from sardonyx.codegen.arithmetic import constant, narrow
from sardonyx.codegen.features import Target
from sardonyx.codegen.llvm_types import F32, HALF, I16, I32, FunctionBuilder, Value, lanes_of, register_type, suffix, vector_type


def is_native(source: DType, to: DType, target: Target) -> bool:
    """Can `cast` emit this cast for the target?"""
    if source.is_float and to.is_integer and to.bits < 8:
        return False
    return all(_is_plain(d) or (d.name == "f16" and target.f16_convert) or d.name == "bf16" for d in (source, to))


def _is_plain(dtype: DType) -> bool:
    return dtype.is_integer or dtype.kind == "bool" or dtype.name in ("f32", "f64")


def cast(w: FunctionBuilder, v: Value, source: DType, to: DType) -> Value:
    """Convert v from dtype `source` to dtype `to`. Raises Unsupported for a pair that is not native."""
    if source is to:
        return v
    if not is_native(source, to, w.target):
        raise Unsupported(f"the target has no cast of {source} to {to}")
    if to.kind == "bool":
        return _to_bool(w, v, source)
    if source.is_float and source.bits < 32:
        v, source = _widen(w, v, source), f32
    if to.is_float and to.bits < 32:
        return _to_half(w, v, source, to)
    if source.is_float:
        return _resize_float(w, v, to) if to.is_float else _to_integer(w, v, to)
    if to.is_float:
        return _from_integer(w, v, source, to)
    return _resize_integer(w, v, source, to)


def _to_bool(w: FunctionBuilder, v: Value, source: DType) -> Value:
    b = w.b
    if not source.is_float:
        return b.icmp_unsigned("!=", v, w.zero(v.type))
    if source.bits < 32:
        magnitude = b.and_(v, constant(w, v, (1 << (source.bits - 1)) - 1))
        return b.icmp_unsigned("!=", magnitude, w.zero(v.type))
    return b.fcmp_unordered("!=", v, w.zero(v.type))


def _widen(w: FunctionBuilder, v: Value, source: DType) -> Value:
    """Convert f16 or bf16, given as its bits, to f32."""
    b, lanes = w.b, lanes_of(v)
    if source.name == "f16":
        return b.fpext(b.bitcast(v, vector_type(HALF, lanes)), vector_type(F32, lanes))
    bits = b.zext(v, vector_type(I32, lanes))
    return b.bitcast(b.shl(bits, constant(w, bits, 16)), vector_type(F32, lanes))


def _to_half(w: FunctionBuilder, v: Value, source: DType, to: DType) -> Value:
    """Round to f16 or bf16, returned as its bits. f64 first goes to an f32 that is rounded to odd, so that the result is rounded
    once.
    """
    b, lanes = w.b, lanes_of(v)
    if not source.is_float:
        v = _from_integer(w, v, source, f32)
    elif source.bits == 64:
        v = _to_odd(w, v)
    if to.name == "f16":
        return b.bitcast(b.fptrunc(v, vector_type(HALF, lanes)), vector_type(I16, lanes))
    bits = b.bitcast(v, vector_type(I32, lanes))
    odd = b.and_(b.lshr(bits, constant(w, bits, 16)), constant(w, bits, 1))
    rounded = b.add(bits, b.add(odd, constant(w, bits, 0x7FFF)))
    quiet = b.or_(bits, constant(w, bits, 0x400000))
    chosen = b.select(b.fcmp_unordered("uno", v, v), quiet, rounded)
    return b.trunc(b.lshr(chosen, constant(w, bits, 16)), vector_type(I16, lanes))


def _to_odd(w: FunctionBuilder, v: Value) -> Value:
    """Convert f64 to f32 towards zero, setting the last bit if the value was not exact (round to odd)."""
    b, lanes = w.b, lanes_of(v)
    near = b.fptrunc(v, vector_type(F32, lanes))
    back = b.fpext(near, v.type)
    bits = b.bitcast(near, vector_type(I32, lanes))
    magnitude, kept = w.elementwise("fabs", v), w.elementwise("fabs", back)
    away = b.fcmp_ordered(">", kept, magnitude)
    lost = b.fcmp_ordered("!=", kept, magnitude)
    one = constant(w, bits, 1)
    cut = b.sub(bits, b.select(away, one, w.zero(bits.type)))
    odd = b.or_(cut, b.select(lost, one, w.zero(bits.type)))
    return b.bitcast(odd, vector_type(F32, lanes))


def _resize_float(w: FunctionBuilder, v: Value, to: DType) -> Value:
    t = vector_type(register_type(to), lanes_of(v))
    return w.b.fpext(v, t) if to.bits == 64 else v if v.type == t else w.b.fptrunc(v, t)


def _to_integer(w: FunctionBuilder, v: Value, to: DType) -> Value:
    if to.bits < 32:
        return _to_short_integer(w, v, to)
    t = vector_type(register_type(to), lanes_of(v))
    sign = "s" if to.kind == "int" else "u"
    return w.intrinsic(f"llvm.fpto{sign}i.sat.{suffix(t)}.{suffix(v.type)}", t, v)


def _to_short_integer(w: FunctionBuilder, v: Value, to: DType) -> Value:
    """Clamp v, then convert it through i32: the saturating conversion of LLVM to 8 or 16 bits takes lane after lane on x86."""
    b, signed = w.b, to.kind == "int"
    low, high = (-(1 << (to.bits - 1)), (1 << (to.bits - 1)) - 1) if signed else (0, (1 << to.bits) - 1)
    least, most = constant(w, v, float(low)), constant(w, v, float(high))
    limited = b.select(b.fcmp_ordered(">", v, least), v, least)  # of a NaN: the least number
    limited = b.select(b.fcmp_ordered("<", limited, most), limited, most)
    whole = b.fptosi(limited, vector_type(I32, lanes_of(v)))
    if signed:
        whole = b.select(b.fcmp_ordered("ord", v, v), whole, w.zero(whole.type))
    return b.trunc(whole, vector_type(register_type(to), lanes_of(v)))


def _from_integer(w: FunctionBuilder, v: Value, source: DType, to: DType) -> Value:
    convert = w.b.sitofp if source.kind == "int" else w.b.uitofp
    return convert(v, vector_type(register_type(to), lanes_of(v)))


def _resize_integer(w: FunctionBuilder, v: Value, source: DType, to: DType) -> Value:
    b, t = w.b, vector_type(register_type(to), lanes_of(v))
    have = 1 if source.kind == "bool" else 8 * source.itemsize
    if have > 8 * to.itemsize:
        v = b.trunc(v, t)
    elif have < 8 * to.itemsize:
        v = (b.sext if source.kind == "int" else b.zext)(v, t)
    return narrow(w, v, to) if to.bits < 8 else v


def bitcast(w: FunctionBuilder, v: Value, source: DType, to: DType) -> Value:
    """Reinterpret the bits of v as another dtype."""
    t = vector_type(register_type(to), lanes_of(v))
    if to.kind == "bool" or source.kind == "bool":
        if source.kind == to.kind:
            return v
        if to.kind == "bool":
            return w.b.icmp_unsigned("!=", v, w.zero(v.type))
        return w.b.zext(v, t)
    v = w.b.bitcast(v, t) if v.type != t else v
    return narrow(w, v, to) if to.is_integer and to.bits < 8 else v
