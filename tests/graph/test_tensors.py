import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sardonyx.base import dtypes
from sardonyx.base.errors import Fail, InvalidGraph
from sardonyx.graph.tensors import check_tensor, densify, element_count


def tensor(**fields):
    return onnx.TensorProto(name="w", **fields)


@pytest.mark.parametrize("dtype", [d for d in dtypes.ALL if d is not dtypes.string], ids=str)
@pytest.mark.parametrize("raw", [False, True])
def test_what_onnx_writes_is_accepted(dtype, raw):
    values = np.zeros((3, 5)).astype(dtype.numpy)
    made = onnx.numpy_helper.from_array(values, "w")
    if not raw:
        made = onnx.helper.make_tensor("w", dtype.code, (3, 5), np.zeros(15).astype(dtype.numpy))
    check_tensor(made)


def test_strings_are_accepted():
    check_tensor(onnx.helper.make_tensor("w", dtypes.string.code, (2,), ["a", "b"]))


@pytest.mark.parametrize(
    "wrong",
    [
        tensor(data_type=1, dims=[3], raw_data=b"\0" * 8),
        tensor(data_type=1, dims=[3], float_data=[1, 2]),
        tensor(data_type=1, dims=[3]),
        tensor(data_type=1, dims=[0], float_data=[1]),
        tensor(data_type=1, dims=[2], int64_data=[1, 2]),
        tensor(data_type=7, dims=[2], int32_data=[1, 2]),
        tensor(data_type=8, dims=[2], raw_data=b"ab"),
        tensor(data_type=8, dims=[2], string_data=[b"ab"]),
        tensor(data_type=14, dims=[2], float_data=[1, 2]),
        tensor(data_type=22, dims=[4], int32_data=[1, 2, 3, 4]),
        tensor(data_type=0, dims=[]),
        tensor(data_type=99, dims=[1], raw_data=b"a"),
        tensor(data_type=1, dims=[-2], raw_data=b""),
        tensor(data_type=1, dims=[1 << 62, 0], raw_data=b""),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(InvalidGraph, match="'w'"):
        check_tensor(wrong)


def test_booleans_are_made_zero_or_one():
    odd = tensor(data_type=9, dims=[3], raw_data=b"\0\1\7")
    check_tensor(odd)
    assert odd.raw_data == b"\0\1\1"


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4))
def test_counts_never_overflow(dims):
    try:
        count = element_count(dims, dtypes.f64, "w")
    except InvalidGraph:
        return
    assert 0 <= count * 8 < 2**63


def sparse(values, indices, dims):
    made = onnx.SparseTensorProto(dims=dims)
    made.values.CopyFrom(onnx.numpy_helper.from_array(np.array(values, np.float32), "w"))
    made.indices.CopyFrom(onnx.numpy_helper.from_array(np.array(indices, np.int64)))
    return made


def test_sparse_tensors_of_both_index_forms():
    for indices in ([0, 5], [[0, 0], [1, 2]]):
        dense = onnx.numpy_helper.to_array(densify(sparse([3, 4], indices, [2, 3])))
        np.testing.assert_array_equal(dense, [[3, 0, 0], [0, 0, 4]])


@pytest.mark.parametrize("indices", [[0, 6], [-1, 0], [[0, 0], [2, 0]], [[0, 0], [0, -1]], [0], [[0], [1]]])
def test_sparse_indices_outside_are_refused(indices):
    with pytest.raises(InvalidGraph, match="'w'"):
        densify(sparse([3, 4], indices, [2, 3]))


def test_a_sparse_tensor_does_not_blow_up():
    with pytest.raises(Fail, match="would take"):
        densify(sparse([1], [0], [1 << 20, 1 << 20]))
