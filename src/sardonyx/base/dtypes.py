"""Element types: one record each, named and numbered as in ONNX's TensorProto.DataType."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from msgspec import Struct

from sardonyx.base.errors import Fail


class DType(Struct, frozen=True):
    """An element type. `bits` is its width; `kind` is float, int, uint, bool, complex or string.

    Types narrower than a byte are stored with one element per byte, as numpy does with ml_dtypes.
    """

    name: str
    code: int
    bits: int
    kind: str
    onnx_name: str
    numpy_name: str

    def __repr__(self) -> str:
        return self.name

    @property
    def itemsize(self) -> int:
        """The bytes of one stored element."""
        return (self.bits + 7) // 8

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def is_number(self) -> bool:
        """True if compiled code can hold it: all types but strings and complex numbers."""
        return self.kind in ("float", "int", "uint", "bool")

    @property
    def numpy(self) -> np.dtype[Any]:
        return numpy_dtype(self)


@functools.cache
def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """Return numpy's dtype. ml_dtypes is imported only for types that numpy lacks."""
    if dtype.numpy_name == "object" or hasattr(np, dtype.numpy_name):
        return np.dtype(dtype.numpy_name)
    import ml_dtypes

    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype.numpy_name))
    return found


f32 = DType("f32", 1, 32, "float", "float", "float32")
u8 = DType("u8", 2, 8, "uint", "uint8", "uint8")
i8 = DType("i8", 3, 8, "int", "int8", "int8")
u16 = DType("u16", 4, 16, "uint", "uint16", "uint16")
i16 = DType("i16", 5, 16, "int", "int16", "int16")
i32 = DType("i32", 6, 32, "int", "int32", "int32")
i64 = DType("i64", 7, 64, "int", "int64", "int64")
string = DType("string", 8, 64, "string", "string", "object")
boolean = DType("bool", 9, 8, "bool", "bool", "bool")
f16 = DType("f16", 10, 16, "float", "float16", "float16")
f64 = DType("f64", 11, 64, "float", "double", "float64")
u32 = DType("u32", 12, 32, "uint", "uint32", "uint32")
u64 = DType("u64", 13, 64, "uint", "uint64", "uint64")
c64 = DType("c64", 14, 64, "complex", "complex64", "complex64")
c128 = DType("c128", 15, 128, "complex", "complex128", "complex128")
bf16 = DType("bf16", 16, 16, "float", "bfloat16", "bfloat16")
f8e4m3fn = DType("f8e4m3fn", 17, 8, "float", "float8e4m3fn", "float8_e4m3fn")
f8e4m3fnuz = DType("f8e4m3fnuz", 18, 8, "float", "float8e4m3fnuz", "float8_e4m3fnuz")
f8e5m2 = DType("f8e5m2", 19, 8, "float", "float8e5m2", "float8_e5m2")
f8e5m2fnuz = DType("f8e5m2fnuz", 20, 8, "float", "float8e5m2fnuz", "float8_e5m2fnuz")
u4 = DType("u4", 21, 4, "uint", "uint4", "uint4")
i4 = DType("i4", 22, 4, "int", "int4", "int4")
f4e2m1 = DType("f4e2m1", 23, 4, "float", "float4e2m1", "float4_e2m1fn")
f8e8m0 = DType("f8e8m0", 24, 8, "float", "float8e8m0", "float8_e8m0fnu")
u2 = DType("u2", 25, 2, "uint", "uint2", "uint2")
i2 = DType("i2", 26, 2, "int", "int2", "int2")

ALL = (
    *(f32, u8, i8, u16, i16, i32, i64, string, boolean, f16, f64, u32, u64, c64, c128, bf16),
    *(f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, u4, i4, f4e2m1, f8e8m0, u2, i2),
)
BY_CODE = {d.code: d for d in ALL}


def of_code(code: int) -> DType:
    """Return the dtype for an ONNX code in an attribute. Raises Fail if there is none, or if it is no number type."""
    found = BY_CODE.get(code)
    if found is None or not found.is_number:
        raise Fail(f"there are no numbers of type {code}")
    return found


BY_NAME = {d.name: d for d in ALL}
FLOATS = (f32, f64, f16, bf16)


def float_of_code(code: int) -> DType:
    """Return the float dtype, of at least 16 bits, in which an operator is told to compute. Raises Fail for others."""
    found = of_code(code)
    if found not in FLOATS:
        raise Fail(f"computing in {found.onnx_name}, which is not a float of at least 16 bits")
    return found


NARROW_FLOATS = (f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f4e2m1, f8e8m0)
INTEGERS = (i8, i16, i32, i64, u8, u16, u32, u64)


@functools.cache
def from_numpy(dtype: np.dtype[Any]) -> DType:
    """Return the element type of arrays of this dtype. Raises TypeError for types that ONNX lacks."""
    if dtype.kind in "OUS":
        return string
    for candidate in ALL:
        if candidate.numpy_name == dtype.name:
            return candidate
    raise TypeError(f"no ONNX element type for numpy's {dtype}")
