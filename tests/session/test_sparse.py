"""SparseTensor beside onnxruntime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import sardonyx as sx

VALUES = np.array([1, 2, 3], np.float32)
FLAT, PAIRS = np.array([1, 3, 5]), np.array([[1, 2], [0, 0], [2, 2]])
INNER, OUTER = np.array([1, 1, 1]), np.array([0, 1, 2, 3])


def coo(runtime: Any, indices: Any = FLAT, values: Any = VALUES) -> Any:
    return runtime.SparseTensor.sparse_coo_from_numpy([3, 3], values, indices, runtime.OrtDevice.make("cpu", 0))


def csr(runtime: Any, inner: Any = INNER, outer: Any = OUTER) -> Any:
    return runtime.SparseTensor.sparse_csr_from_numpy([3, 3], VALUES, inner, outer, runtime.OrtDevice.make("cpu", 0))


@pytest.mark.parametrize("indices", [FLAT, PAIRS])
def test_coordinates(indices: Any) -> None:
    ours, theirs = coo(sx, indices), coo(ort, indices)
    np.testing.assert_array_equal(ours.as_coo_view().indices(), theirs.as_coo_view().indices())
    for name in ("dense_shape", "data_type", "device_name"):
        assert getattr(ours, name)() == getattr(theirs, name)()
    assert (str(ours.format()), int(ours.format())) == (str(theirs.format()), int(theirs.format()))
    assert ours.values().ctypes.data == VALUES.ctypes.data


def test_rows() -> None:
    ours, theirs = csr(sx), csr(ort)
    for name in ("inner", "outer"):
        np.testing.assert_array_equal(getattr(ours.as_csrc_view(), name)(), getattr(theirs.as_csrc_view(), name)())
    assert str(ours.format()) == str(theirs.format())


def test_texts_are_copied() -> None:
    assert coo(sx, FLAT, np.array(["a", "b", "c"])).values().tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("runtime", [ort, sx])
def test_refusals(runtime: Any) -> None:
    attempts = [
        (lambda: coo(runtime).as_csrc_view(), "does not contain CSR"),
        (lambda: coo(runtime).as_blocksparse_view(), "does not contain BlockSparse format"),
        (lambda: csr(runtime).as_coo_view(), "does not contain COO format"),
        (lambda: coo(runtime).to_cuda(runtime.OrtDevice.make("cuda", 0)), "Cuda is not available in this build"),
        (lambda: coo(runtime, FLAT[:2]), "Index size: 2 must be equal to or twice the values size: 3"),
        (lambda: csr(runtime, INNER, OUTER[:3]), "Outer index count must be rows"),
    ]
    for attempt, text in attempts:
        with pytest.raises(RuntimeError, match=text):
            attempt()
    with pytest.raises(ValueError, match="`Provided object` needs to be of type"):
        runtime.SparseTensor(3)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: coo(sx, np.array([1, 2, 9])),
        lambda: coo(sx, np.array([-1, 2, 3])),
        lambda: coo(sx, np.array([[0, 3], [0, 0], [0, 0]])),
        lambda: csr(sx, np.array([0, 1, 3])),
        lambda: csr(sx, INNER, np.array([0, 2, 1, 3])),
        lambda: csr(sx, INNER, np.array([0, 1, 2, 2])),
        lambda: coo(sx, FLAT, VALUES.reshape(3, 1)),
    ],
)
def test_places_outside_of_the_tensor(attempt: Any) -> None:
    """onnxruntime takes these, and reads elsewhere."""
    with pytest.raises(RuntimeError):
        attempt()
