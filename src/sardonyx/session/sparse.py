"""SparseTensor: a tensor that stores only its nonzero elements and their positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from msgspec import Struct

from sardonyx.base import dtypes
from sardonyx.runtime.arrays import Array
from sardonyx.session.device_enums import OrtSparseFormat
from sardonyx.session.devices import OrtDevice, require_cpu


class SparseCooView(Struct, frozen=True):
    """Positions as coordinates."""

    _indices: Array

    def indices(self) -> Array:
        """Return i64[count] positions in the flattened tensor, or i64[count, 2] rows and columns."""
        return self._indices


class SparseCsrView(Struct, frozen=True):
    """Positions by rows (CSR)."""

    _inner: Array
    _outer: Array

    def inner(self) -> Array:
        """Return i64[count]: the column of each value."""
        return self._inner

    def outer(self) -> Array:
        """Return i64[rows + 1]: where each row's values begin."""
        return self._outer


class SparseBlockSparseView(Struct, frozen=True):
    """Positions of blocks."""

    _indices: Array

    def indices(self) -> Array:
        """Return i32[2, count]: rows and columns of blocks."""
        return self._indices


T = TypeVar("T")
View = SparseCooView | SparseCsrView | SparseBlockSparseView
_FORMATS: dict[type, tuple[OrtSparseFormat, str]] = {
    SparseCooView: (OrtSparseFormat.ORT_SPARSE_COO, "COO"),
    SparseCsrView: (OrtSparseFormat.ORT_SPARSE_CSRC, "CSR(C)"),
    SparseBlockSparseView: (OrtSparseFormat.ORT_SPARSE_BLOCK_SPARSE, "BlockSparse"),
}


class SparseTensor:
    """A sparse tensor, made by `sparse_coo_from_numpy` or `sparse_csr_from_numpy`, which don't copy the values."""

    def __init__(self, sparse_tensor: SparseTensor) -> None:
        """Share another sparse tensor. Raises ValueError for any other object."""
        if not isinstance(sparse_tensor, SparseTensor):
            raise ValueError("`Provided object` needs to be of type `SparseTensor`")
        self._shape: list[int] = sparse_tensor._shape
        self._values: Array = sparse_tensor._values
        self._view: View = sparse_tensor._view

    @classmethod
    def _made(cls, dense_shape: Sequence[int] | Array, values: Array, view: View, device: OrtDevice) -> SparseTensor:
        require_cpu(device)
        made = cls.__new__(cls)
        made._shape = [int(size) for size in dense_shape]
        if values.ndim != 1:
            raise RuntimeError(f"values must have one dimension, not {values.ndim}")
        made._values = values.astype(object) if values.dtype.kind in "US" else np.ascontiguousarray(values)
        dtypes.from_numpy(made._values.dtype)
        made._view = view
        return made

    @classmethod
    def sparse_coo_from_numpy(
        cls, dense_shape: Sequence[int] | Array, values: Array, coo_indices: Array, ort_device: OrtDevice
    ) -> SparseTensor:
        """Make a sparse tensor from values and their coordinates.

        values: T[count]. coo_indices: i64[count] positions in the flattened tensor, or i64[count, 2] rows and columns. Raises
        RuntimeError for a wrong number of indices, or an index out of range.
        """
        indices = np.ascontiguousarray(coo_indices, np.int64)
        count = values.size
        if indices.size not in (count, 2 * count):
            raise RuntimeError(f"Index size: {indices.size} must be equal to or twice the values size: {count}")
        pairs = indices.size == 2 * count and count > 0
        indices = indices.reshape(count, 2) if pairs else indices.reshape(count)
        limits = np.array(dense_shape if pairs else [np.prod(dense_shape, dtype=np.int64)], np.int64)
        if pairs and limits.size != 2:
            raise RuntimeError(f"pairs of indices are for tensors of two dimensions, not {limits.size}")
        if bool(np.any((indices < 0) | (indices >= limits))):
            raise RuntimeError(f"indices must lie inside of the dense shape {list(map(int, dense_shape))}")
        return cls._made(dense_shape, values, SparseCooView(indices), ort_device)

    @classmethod
    def sparse_csr_from_numpy(
        cls, dense_shape: Sequence[int] | Array, values: Array, inner_indices: Array, outer_indices: Array, ort_device: OrtDevice
    ) -> SparseTensor:
        """Make a sparse tensor from values and their columns, row by row.

        values: T[count]. inner_indices: i64[count], columns. outer_indices: i64[rows + 1], where rows begin. Raises
        RuntimeError for inconsistent sizes or indices.
        """
        inner, outer = np.ascontiguousarray(inner_indices, np.int64), np.ascontiguousarray(outer_indices, np.int64)
        if len(dense_shape) != 2:
            raise RuntimeError(f"CSR is for tensors of two dimensions, not {len(dense_shape)}")
        rows, columns = map(int, dense_shape)
        if inner.shape != (values.size,):
            raise RuntimeError(f"Expecting inner index size: {inner.size} the same as values size: {values.size}")
        if outer.size not in (0, rows + 1):
            raise RuntimeError(f"Outer index count must be rows + 1 or zero. Got: {outer.size} rows: {rows}")
        if bool(np.any((inner < 0) | (inner >= columns))):
            raise RuntimeError(f"inner indices must lie between 0 and {columns - 1}")
        if outer.size and (outer[0] != 0 or outer[-1] != values.size or bool(np.any(np.diff(outer) < 0))):
            raise RuntimeError(f"outer indices must begin with 0, not fall, and end with the number of values, {values.size}")
        return cls._made(dense_shape, values, SparseCsrView(inner, outer), ort_device)

    def values(self) -> Array:
        """Return the values, T[count], without a copy."""
        return self._values

    def as_coo_view(self) -> SparseCooView:
        """Return the coordinates. Raises RuntimeError for a tensor of another format."""
        return self._as(SparseCooView)

    def as_csrc_view(self) -> SparseCsrView:
        """Return the positions by rows. Raises RuntimeError for a tensor of another format."""
        return self._as(SparseCsrView)

    def as_blocksparse_view(self) -> SparseBlockSparseView:
        """Return the positions of blocks. Raises RuntimeError for a tensor of another format."""
        return self._as(SparseBlockSparseView)

    def _as(self, kind: type[T]) -> T:
        if not isinstance(self._view, kind):
            raise RuntimeError(f"This sparse tensor does not contain {_FORMATS[kind][1]} format")
        return self._view

    def to_cuda(self, ort_device: OrtDevice) -> SparseTensor:
        """Raise RuntimeError: this build has no CUDA device."""
        raise RuntimeError("Cuda is not available in this build")

    def format(self) -> OrtSparseFormat:
        """Return the format of the indices."""
        return _FORMATS[type(self._view)][0]

    def dense_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._shape)

    def data_type(self) -> str:
        """Return the type, such as `sparse_tensor(float)`."""
        return f"sparse_tensor({dtypes.from_numpy(self._values.dtype).onnx_name})"

    def device_name(self) -> str:
        """Return `cpu`, the device that holds the values."""
        return "cpu"

    def _get_c_tensor(self) -> SparseTensor:
        return self
