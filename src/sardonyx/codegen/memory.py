"""Emits addresses, loads and stores, of one element or of a vector of lanes.

How a vector is accessed depends on the factor of the vector loop's variable in the offset:

    0       one element for all lanes           1, -1            a contiguous vector, reversed for -1
    other   a gather or scatter with a stride   no one factor    a gather or scatter by a vector of offsets
"""

from __future__ import annotations

from llvmlite import ir

from sardonyx.base.dtypes import DType
from sardonyx.base.symbolic import Dim, Int, coefficient, polynomial, symbols
from sardonyx.codegen.arithmetic import narrow
from sardonyx.codegen.integers import integer, lane_integers, lane_steps, split_by_level
from sardonyx.codegen.llvm_types import (
    I1,
    I8,
    I32,
    I64,
    PTR,
    VOID,
    Value,
    lanes_of,
    memory_type,
    suffix,
    vector_type,
)
from sardonyx.codegen.scopes import Frame
from sardonyx.loop.nodes import Buffer


def pointer(f: Frame, buffer: Buffer, offset: Dim) -> Value:
    """Return the address of an element (of the first lane's element); each part is added in the outermost scope that knows it."""
    w, element = f.builder, memory_type(buffer.dtype)
    if not isinstance(offset, Int):
        return w.at(f.bases[buffer], offset, element)
    constant = offset.terms.get((), 0)
    if constant:
        return w.at(pointer(f, buffer, offset - constant), constant, element)
    reads = f.dim_reads(offset)
    level = f.level(offset.symbols, reads)
    key = (buffer, offset)
    found = f.known(key, level)
    if found is None:
        inner, outer = split_by_level(f, offset, level) if level else (offset, 0)
        with f.at(level):
            found = w.at(pointer(f, buffer, outer), integer(f, inner), element)
        f.remember(level, key, found, reads)
    return found


# ---- registers and memory -------------------------------------------------------------------------------------------------


def to_register(f: Frame, v: Value, dtype: DType) -> Value:
    """Convert what was loaded to its form in registers: a bool from a byte, a 4- or 2-bit integer from a byte's low bits."""
    b = f.builder.b
    if dtype.kind == "bool":
        return b.icmp_unsigned("!=", v, f.builder.zero(v.type))
    if dtype.is_integer and dtype.bits < 8:
        return narrow(f.builder, v, dtype)
    return v


def to_memory(f: Frame, v: Value, dtype: DType) -> Value:
    """Convert a value to its form in memory."""
    if dtype.kind == "bool":
        return f.builder.b.zext(v, vector_type(I8, lanes_of(v)))
    if dtype.kind == "int" and dtype.bits < 8:
        return f.builder.b.and_(v, f.builder.const(v.type, (1 << dtype.bits) - 1))
    return v


# ---- one element ----------------------------------------------------------------------------------------------------------


def load_element(f: Frame, buffer: Buffer, offset: Dim, guard: Value | None) -> Value:
    """Load buffer[offset]. If the guard (an i1) is false, the result is zero and the buffer is not accessed."""
    w = f.builder
    address = pointer(f, buffer, offset)
    if guard is not None:
        address = w.b.select(guard, address, zeros(f))
    found = w.b.load(address, typ=memory_type(buffer.dtype), align=buffer.dtype.itemsize)
    return to_register(f, found, buffer.dtype)


def zeros(f: Frame) -> Value:
    """Return the address of eight zero bytes on the stack, which are read where a guard is false."""
    found = f.scopes[0].memo.get("zeros")
    if found is None:
        with f.at(0):
            found = stack(f, I8, 8)
            f.builder.b.store(f.builder.zero(I64), found, align=8)
        f.remember(0, "zeros", found, frozenset())
    return found


def stack(f: Frame, element: object, count: int) -> Value:
    """Return the address of `count` elements on the stack, aligned to 64 bytes."""
    here = f.builder.b.block
    f.builder.b.position_at_end(f.entry)
    slot = f.builder.b.alloca(ir.ArrayType(element, max(1, count)))
    slot.align, slot.type = 64, PTR  # llvmlite still gives it a typed pointer
    f.builder.b.position_at_end(here)
    return slot


def store_element(f: Frame, v: Value, buffer: Buffer, offset: Dim) -> None:
    f.builder.b.store(to_memory(f, v, buffer.dtype), pointer(f, buffer, offset), align=buffer.dtype.itemsize)


# ---- lanes ----------------------------------------------------------------------------------------------------------------


def lane_stride(f: Frame, offset: Dim) -> Dim | None:
    """Return the factor of the vector loop's variable in an offset; None if the offset isn't linear in it."""
    assert f.vector is not None
    return coefficient(offset, f.vector.symbol)


def load_lanes(f: Frame, buffer: Buffer, offset: Dim, guard: Value | None) -> Value:
    """Load a vector. Lanes where the guard or the loop's mask is false are zero, and their memory is not accessed."""
    w, dtype = f.builder, buffer.dtype
    assert f.vector is not None
    lanes = f.vector.count
    mask = all_masks(f, f.vector.mask, guard)
    t = vector_type(memory_type(dtype), lanes)
    stride = lane_stride(f, offset)
    if stride in (1, -1):
        found = _load_vector(f, lane_pointer(f, buffer, offset, stride), t, dtype, _ordered(f, mask, stride))
        found = w.reverse(found) if stride == -1 else found
    else:
        found = w.intrinsic(
            f"llvm.masked.gather.{suffix(t)}.v{lanes}p0",
            t,
            lane_addresses(f, buffer, offset, stride),
            w.const(I32, dtype.itemsize),
            mask if mask is not None else w.const(vector_type(I1, lanes), True),
            w.zero(t),
        )
    return to_register(f, found, dtype)


def _load_vector(f: Frame, address: Value, t: object, dtype: DType, mask: Value | None) -> Value:
    w = f.builder
    if mask is None:
        return w.b.load(address, typ=t, align=dtype.itemsize)
    align = w.const(I32, dtype.itemsize)
    return w.intrinsic(f"llvm.masked.load.{suffix(t)}.p0", t, address, align, mask, w.zero(t))


def store_lanes(f: Frame, v: Value, buffer: Buffer, offset: Dim, guard: Value | None) -> None:
    """Store a vector, except the lanes where the guard or the loop's mask is false."""
    w, dtype = f.builder, buffer.dtype
    assert f.vector is not None
    lanes = f.vector.count
    v = to_memory(f, w.splat(v, lanes), dtype)
    mask = all_masks(f, f.vector.mask, guard)
    stride = lane_stride(f, offset)
    align = w.const(I32, dtype.itemsize)
    if stride not in (1, -1):
        addresses = lane_addresses(f, buffer, offset, stride)
        every = mask if mask is not None else w.const(vector_type(I1, lanes), True)
        w.intrinsic(f"llvm.masked.scatter.{suffix(v.type)}.v{lanes}p0", VOID, v, addresses, align, every)
        return
    address, mask = lane_pointer(f, buffer, offset, stride), _ordered(f, mask, stride)
    v = w.reverse(v) if stride == -1 else v
    if mask is None:
        w.b.store(v, address, align=dtype.itemsize)
    else:
        w.intrinsic(f"llvm.masked.store.{suffix(v.type)}.p0", VOID, v, address, align, mask)


def _ordered(f: Frame, mask: Value | None, stride: Dim) -> Value | None:
    return f.builder.reverse(mask) if mask is not None and stride == -1 else mask


def lane_pointer(f: Frame, buffer: Buffer, offset: Dim, stride: Dim) -> Value:
    """Return the lowest address of a contiguous vector: that of the first lane, or of the last lane if the stride is -1."""
    address = pointer(f, buffer, offset)
    assert f.vector is not None
    return f.builder.at(address, 1 - f.vector.count, memory_type(buffer.dtype)) if stride == -1 else address


def lane_addresses(f: Frame, buffer: Buffer, offset: Dim, stride: Dim | None) -> Value:
    """Return a vector of addresses, one per lane."""
    w, symbol = f.builder, f.vector.symbol  # type: ignore[union-attr]
    lanes = f.vector.count  # type: ignore[union-attr]
    if stride is not None:
        base, steps = pointer(f, buffer, offset), lane_steps(f, stride, lanes)
    else:
        assert isinstance(offset, Int)
        uniform = polynomial({m: c for m, c in offset.terms.items() if not any(symbol in a.symbols for a in m)})
        base, steps = pointer(f, buffer, uniform), lane_integers(f, offset - uniform)
    return w.b.gep(w.splat(base, lanes), [steps], source_etype=memory_type(buffer.dtype))


def all_masks(f: Frame, *masks: Value | None) -> Value | None:
    """Return the conjunction of the masks; None if all of them are None: every lane."""
    found = None
    for mask in masks:
        if mask is not None:
            mask = f.builder.splat(mask, f.vector.count) if f.vector else mask
            found = mask if found is None else f.builder.b.and_(found, mask)
    return found


def varies(f: Frame, dim: Dim) -> bool:
    """Does dim differ between the lanes of the enclosing vector loop?"""
    return f.vector is not None and f.vector.symbol in symbols(dim)
