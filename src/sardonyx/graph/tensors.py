"""Checks of the tensors in a model file, before anything reads them.

A tensor that passes has a known element type, a number of elements that fits in 64 bits, and exactly the data that type and shape
imply, in the field that its type uses. Reading it can then neither fail nor take more memory than the file did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from sardonyx.base import dtypes
from sardonyx.base.errors import Fail, InvalidGraph

MOST_BYTES = 1 << 62
MOST_DENSE_BYTES = 1 << 31  # largest dense size of a sparse tensor

_INT32_DATA = frozenset(d.code for d in dtypes.ALL if d.bits <= 32 and d not in (dtypes.f32, dtypes.u32, dtypes.string))
_FIELDS: tuple[tuple[str, frozenset[int]], ...] = (
    ("float_data", frozenset({dtypes.f32.code, dtypes.c64.code})),
    ("double_data", frozenset({dtypes.f64.code, dtypes.c128.code})),
    ("int64_data", frozenset({dtypes.i64.code})),
    ("uint64_data", frozenset({dtypes.u64.code, dtypes.u32.code})),
    ("int32_data", _INT32_DATA),
    ("string_data", frozenset({dtypes.string.code})),
)
_AS_BOOL = bytes([0] + [1] * 255)


def element_count(dims: Sequence[int], dtype: dtypes.DType, name: str) -> int:
    """Return the number of elements of a tensor of this shape. Raises InvalidGraph for negative sizes and products that overflow."""
    if any(d < 0 for d in dims):
        raise InvalidGraph(f"Tensor '{name}' has a negative dimension in its shape {list(dims)}.")
    if math.prod(max(d, 1) for d in dims) * dtype.itemsize >= MOST_BYTES:
        raise InvalidGraph(f"Tensor '{name}' of shape {list(dims)} is too large for any memory.")
    return math.prod(dims)


def tensor_dtype(tensor: onnx.TensorProto) -> dtypes.DType:
    """Return the tensor's element type. Raises InvalidGraph for an unknown one."""
    if tensor.data_type not in dtypes.BY_CODE:
        raise InvalidGraph(f"Tensor '{tensor.name}' has the unknown element type {tensor.data_type}.")
    return dtypes.BY_CODE[tensor.data_type]


def byte_count(count: int, dtype: dtypes.DType) -> int:
    """Return how many bytes `count` elements take in a file, where narrow elements are packed."""
    return (count * dtype.bits + 7) // 8


def check_tensor(tensor: onnx.TensorProto) -> None:
    """Check a tensor that the file itself holds, see the head of this module. Raises InvalidGraph.

    Booleans other than 0 and 1 become 1.
    """
    dtype = tensor_dtype(tensor)
    count = element_count(tensor.dims, dtype, tensor.name)
    if tensor.HasField("raw_data"):
        check_raw(tensor, dtype, count, len(tensor.raw_data))
        if dtype is dtypes.boolean and max(tensor.raw_data, default=0) > 1:
            tensor.raw_data = tensor.raw_data.translate(_AS_BOOL)
        return
    for field, codes in _FIELDS:
        found = len(getattr(tensor, field))
        if found and dtype.code not in codes:
            raise InvalidGraph(f"Tensor '{tensor.name}' of type {dtype.onnx_name} keeps its data in {field}.")
        if dtype.code in codes:
            expected = _items(count, dtype)
            if found != expected:
                raise InvalidGraph(
                    f"Tensor '{tensor.name}' of shape {list(tensor.dims)} has {found} values in {field}, not {expected}."
                )


def _items(count: int, dtype: dtypes.DType) -> int:
    """Return the number of entries of a typed field for `count` elements: complex numbers take two, narrow ones are packed in
    bytes.
    """
    if dtype.kind == "complex":
        return 2 * count
    return byte_count(count, dtype) if dtype.bits < 8 else count


def check_raw(tensor: onnx.TensorProto, dtype: dtypes.DType, count: int, found: int) -> None:
    """Check that a tensor of `count` elements can have `found` bytes of raw_data. Raises InvalidGraph."""
    if dtype is dtypes.string:
        raise InvalidGraph(f"Tensor '{tensor.name}' of strings keeps its data in raw_data.")
    expected = byte_count(count, dtype)
    if found != expected:
        raise InvalidGraph(
            f"Tensor '{tensor.name}' of type {dtype.onnx_name} and shape {list(tensor.dims)} has {found} bytes of data, "
            f"not {expected}."
        )


def densify(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    """Convert a sparse tensor to a dense one.

    Raises InvalidGraph if its parts don't fit together, Fail if the result would exceed MOST_DENSE_BYTES.
    """
    name = sparse.values.name
    check_tensor(sparse.values)
    check_tensor(sparse.indices)
    dtype = tensor_dtype(sparse.values)
    count = element_count(sparse.dims, dtype, name)
    if count * dtype.itemsize > MOST_DENSE_BYTES:
        raise Fail(f"Sparse tensor '{name}' of shape {list(sparse.dims)} would take {count * dtype.itemsize} bytes.")
    values = onnx.numpy_helper.to_array(sparse.values).reshape(-1)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    if indices.dtype != np.int64 or indices.shape not in (values.shape, (len(values), len(sparse.dims))):
        raise InvalidGraph(f"Sparse tensor '{name}' has indices of shape {list(indices.shape)} for {len(values)} values.")
    if indices.ndim == 2:
        if (indices < 0).any() or (indices >= np.array(sparse.dims)).any():
            raise InvalidGraph(f"Sparse tensor '{name}' has indices outside its shape {list(sparse.dims)}.")
        indices = np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
    if len(indices) and (indices.min() < 0 or indices.max() >= count):
        raise InvalidGraph(f"Sparse tensor '{name}' has indices outside its shape {list(sparse.dims)}.")
    dense = np.full(count, "", object) if dtype is dtypes.string else np.zeros(count, values.dtype)
    dense[indices] = values
    return onnx.numpy_helper.from_array(dense.reshape(tuple(sparse.dims)), name)
