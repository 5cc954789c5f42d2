"""OrtValue beside onnxruntime's: what it tells, what it shares, what it refuses."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.session.values import OrtValueVector
from tests.session.models import model, relu

X = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
NUMBERS = ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
TOLD = ("shape", "data_type", "element_type", "device_name", "has_value", "is_tensor", "is_sparse_tensor", "is_tensor_sequence")


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_a_tensor_tells_what_onnxruntimes_does(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, dtype)
    ours, theirs = sx.OrtValue.ortvalue_from_numpy(x), ort.OrtValue.ortvalue_from_numpy(x)
    for name in (*TOLD, "tensor_size_in_bytes", "__dlpack_device__"):
        assert getattr(ours, name)() == getattr(theirs, name)(), name
    made = sx.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype))
    assert (made.shape(), made.data_type()) == (list(shape), theirs.data_type())


def test_memory_is_shared_with_the_array() -> None:
    x = X.copy()
    value = sx.OrtValue.ortvalue_from_numpy(x)
    assert value.data_ptr() == x.ctypes.data == value.numpy().ctypes.data == np.asarray(value).ctypes.data
    x[0, 0] = 7
    assert value.numpy()[0, 0] == 7
    again = sx.OrtValue(value)
    assert again.data_ptr() == x.ctypes.data


def test_what_is_not_as_sessions_want_it_is_copied() -> None:
    for x in (X.T, X[:, ::2], X.astype(">f4")):
        value = sx.OrtValue.ortvalue_from_numpy(x)
        assert value.data_ptr() != x.ctypes.data
        np.testing.assert_array_equal(value.numpy(), x)
        assert value.data_type() == "tensor(float)"
    texts = sx.OrtValue.ortvalue_from_numpy(np.array([["a", "bb"]]))
    assert (texts.data_type(), texts.numpy().tolist()) == ("tensor(string)", [["a", "bb"]])
    assert type(sx.OrtValue.ortvalue_from_numpy(X.view(np.memmap)).numpy()) is np.ndarray


def test_types_that_numpy_lacks() -> None:
    words = np.full((2, 3), 0x3F80, np.uint16)
    value = sx.OrtValue.ortvalue_from_numpy_with_onnx_type(words, 16)
    assert (value.data_type(), value.element_type(), value.data_ptr()) == ("tensor(bfloat16)", 16, words.ctypes.data)
    np.testing.assert_array_equal(value.numpy().astype(np.float32), np.ones((2, 3), np.float32))
    assert sx.OrtValue.ortvalue_from_shape_and_type([2], 16).tensor_size_in_bytes() == 4


@pytest.mark.parametrize(
    ("attempt", "text"),
    [
        (lambda k: k.ortvalue_from_numpy([1, 2]), "only supported from"),
        (lambda k: k.ortvalue_from_numpy(np.float32(1)), "only supported from"),
        (lambda k: k.ortvalue_from_numpy(np.zeros(2, "datetime64[s]")), "converted to MLDataType|only supported from"),
        (lambda k: k.ortvalue_from_numpy(X, "cuda", 0), "Can't allocate memory on the device"),
        (lambda k: k.ortvalue_from_shape_and_type([2], np.float32, "cuda", 0), "Can't allocate memory on the"),
        (lambda k: k.ortvalue_from_shape_and_type([2, -3], np.float32), "must be >= 0"),
        (lambda k: k.ortvalue_from_shape_and_type([2], np.str_), "non-string numpy arrays"),
        (lambda k: k.ortvalue_from_shape_and_type([2], 99), "tensor type.* is not supported"),
        (lambda k: k.ortvalue_from_numpy_with_onnx_type(np.ones(2, np.uint8), 16), "Items size in the incoming array: 1"),
        (lambda k: k.ortvalue_from_numpy_with_onnx_type(np.ones(2, np.uint16), 99), "Not a valid ONNX Tensor data type: 99"),
        (lambda k: k.ortvalue_from_numpy(X.copy()).update_inplace(np.ones(7, np.float32)), "does not match the size"),
        (lambda k: k.ortvalue_from_numpy(X.copy()).update_inplace(k.ortvalue_from_numpy(np.ones(6))), "the same data type"),
        (lambda k: k.ortvalue_from_numpy(X.copy()).as_sparse_tensor(), "does not contain SparseTensor"),
        (lambda k: k.from_dlpack(X.T), "contiguous tensor"),
    ],
)
def test_refusals_are_onnxruntimes(attempt: Any, text: str) -> None:
    for kind in (ort.OrtValue, sx.OrtValue):
        with pytest.raises(RuntimeError, match=text):
            attempt(kind)


@pytest.mark.parametrize("kind", [ort.OrtValue, sx.OrtValue])
def test_other_classes_of_errors(kind: Any) -> None:
    with pytest.raises(Exception, match="Unsupported device type: xxx"):
        kind.ortvalue_from_numpy(X, "xxx", 0)
    with pytest.raises(ValueError, match="needs to be of type"):
        kind(3)
    with pytest.raises(TypeError, match=r"must be a numpy.ndarray or an OrtValue"):
        kind.ortvalue_from_numpy(X).update_inplace([1])
    for used in (3, None):
        with pytest.raises(TypeError, match="valid DLPack capsule"):
            kind.from_dlpack(used)
    capsule = X.copy().__dlpack__()
    kind.from_dlpack(capsule)
    with pytest.raises(TypeError, match="valid DLPack capsule"):
        kind.from_dlpack(capsule)


def test_update_keeps_the_place() -> None:
    value = sx.OrtValue.ortvalue_from_numpy(X.copy())
    before = value.data_ptr()
    value.update_inplace(np.arange(6, dtype=np.float32).reshape(3, 2))
    value.update_inplace(sx.OrtValue.ortvalue_from_numpy(np.arange(6, dtype=np.float32) * 2))
    assert (value.data_ptr(), value.numpy().tolist()) == (before, [[0, 2, 4], [6, 8, 10]])


def test_updates_of_another_type_and_of_read_only_memory_are_refused() -> None:
    value = sx.OrtValue.ortvalue_from_numpy(X.copy())
    with pytest.raises(RuntimeError, match="the same data type"):
        value.update_inplace(np.ones(6))  # onnxruntime copies the bytes
    fixed = X.copy()
    fixed.setflags(write=False)
    value = sx.OrtValue.ortvalue_from_numpy(fixed)
    assert not value.numpy().flags.writeable
    with pytest.raises(RuntimeError, match="read-only"):
        value.update_inplace(X)


def test_runs_take_and_give_values() -> None:
    session = sx.InferenceSession(relu())
    value = sx.OrtValue.ortvalue_from_numpy(X)
    (mixed,) = session.run(None, {"x": value})
    (made,) = session.run_with_ort_values(["y"], {"x": value})
    np.testing.assert_array_equal(mixed, np.maximum(X, 0))
    np.testing.assert_array_equal(made.numpy(), np.maximum(X, 0))
    assert (made.data_type(), made.shape()) == ("tensor(float)", [2, 3])
    vector = OrtValueVector([value])
    fetched = OrtValueVector()
    session.run_with_ortvaluevector(sx.RunOptions(), ["x"], vector, ["y"], fetched, [sx.OrtDevice.make("cpu", 0)])
    assert (len(fetched), fetched[0].shape(), fetched.element_type_at(0)) == (1, [2, 3], 1)


def test_runs_refuse_what_run_refuses() -> None:
    session = sx.InferenceSession(relu())
    value = sx.OrtValue.ortvalue_from_numpy(X)
    with pytest.raises(ValueError, match="Required inputs"):
        session.run_with_ort_values(None, {})
    with pytest.raises(AttributeError, match="_get_c_value"):
        session.run_with_ort_values(None, {"x": X})  # type: ignore[dict-item]
    with pytest.raises(
        Exception, match=r"Unexpected input data type. Actual: \(tensor\(double\)\) , expected: \(tensor\(float\)\)"
    ):
        session.run_with_ort_values(None, {"x": sx.OrtValue.ortvalue_from_numpy(X.astype(np.float64))})
    with pytest.raises(Exception, match="Invalid output name:nope"):
        session.run_with_ort_values(["nope"], {"x": value})


SEQUENCE = """g (float[n] a) => (seq(float[n]) s, int64 l) { s = SequenceConstruct (a, a) l = SequenceLength (s) }"""
TAKES_SEQUENCE = """g (seq(float[n]) s) => (int64 l) { l = SequenceLength (s) }"""


def test_sequences_go_from_run_to_run() -> None:
    a = sx.OrtValue.ortvalue_from_numpy(np.ones(2, np.float32))
    made = sx.InferenceSession(model(SEQUENCE)).run_with_ort_values(["s"], {"a": a})[0]
    theirs = ort.InferenceSession(model(SEQUENCE)).run_with_ort_values(
        ["s"], {"a": ort.OrtValue.ortvalue_from_numpy(np.ones(2, np.float32))}
    )[0]
    for name in ("data_type", "element_type", "has_value", "is_tensor", "is_sparse_tensor", "is_tensor_sequence"):
        assert getattr(made, name)() == getattr(theirs, name)(), name
    for name in ("numpy", "shape", "data_ptr", "device_name", "tensor_size_in_bytes", "__dlpack__", "__dlpack_device__"):
        with pytest.raises(RuntimeError):
            getattr(theirs, name)()
        with pytest.raises(RuntimeError):
            getattr(made, name)()
    (length,) = sx.InferenceSession(model(TAKES_SEQUENCE)).run_with_ort_values(None, {"s": made})
    assert length.numpy() == 2


def test_sparse_values() -> None:
    sparse = sx.SparseTensor.sparse_coo_from_numpy([3, 3], X[0], np.array([1, 3, 5]), sx.OrtDevice.make("cpu", 0))
    value = sx.OrtValue.ort_value_from_sparse_tensor(sparse)
    assert (value.is_sparse_tensor(), value.is_tensor(), value.data_type(), value.shape()) == (
        *(True, False, "sparse_tensor(float)", [3, 3]),
    )
    assert value.element_type() == 1
    assert value.as_sparse_tensor().values().ctypes.data == X.ctypes.data
    with pytest.raises(RuntimeError):
        value.numpy()


@pytest.mark.parametrize("dtype", NUMBERS)
def test_dlpack_goes_both_ways_without_a_copy(dtype: str) -> None:
    x = np.ones((2, 3), dtype)
    value = sx.OrtValue.ortvalue_from_numpy(x)
    assert np.from_dlpack(value).ctypes.data == x.ctypes.data  # type: ignore[arg-type]
    taken = sx.OrtValue.from_dlpack(value)
    assert (taken.data_ptr(), taken.data_type()) == (x.ctypes.data, value.data_type())
    theirs = ort.OrtValue.from_dlpack(value)
    assert (theirs.data_ptr(), theirs.data_type()) == (x.ctypes.data, value.data_type())
    assert sx.OrtValue.from_dlpack(theirs).data_ptr() == x.ctypes.data
    taken.update_inplace(np.zeros((2, 3), dtype))
    assert not x.any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_dlpack_of_types_that_numpy_lacks(dtype: str) -> None:
    x = np.ones(4, getattr(ml_dtypes, dtype))
    value = sx.OrtValue.ortvalue_from_numpy(x)
    taken = sx.OrtValue.from_dlpack(value)
    theirs = ort.OrtValue.from_dlpack(value)
    assert taken.data_ptr() == theirs.data_ptr() == x.ctypes.data
    assert taken.data_type() == theirs.data_type() == value.data_type()


def test_memory_outlives_who_made_it() -> None:
    value = sx.OrtValue.from_dlpack(sx.OrtValue.ortvalue_from_numpy(np.full(1 << 16, 3.0)))
    np.full(1 << 16, 5.0)
    assert float(value.numpy().sum()) == 3.0 * (1 << 16)


def test_copy_tensors() -> None:
    a, b = (sx.OrtValue.ortvalue_from_numpy(x) for x in (np.arange(3.0), np.zeros(3)))
    sx.copy_tensors([a], [b])
    assert b.numpy().tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="Invalid arguments provided to CopyTensors"):
        sx.copy_tensors([a], [])
    with pytest.raises(RuntimeError, match="the same size"):
        sx.copy_tensors([a], [sx.OrtValue.ortvalue_from_numpy(np.zeros(4))])
