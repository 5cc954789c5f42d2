"""Types as text: every kind that a file can have, there and back."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx import helper as h

from sardonyx.base import dtypes
from sardonyx.graph import types

TENSOR = h.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
MAP = h.make_map_type_proto(TensorProto.STRING, h.make_tensor_type_proto(TensorProto.INT64, None))
KINDS = {
    "tensor(float)": TENSOR,
    "tensor(string)": h.make_tensor_type_proto(TensorProto.STRING, None),
    "sparse_tensor(double)": h.make_sparse_tensor_type_proto(TensorProto.DOUBLE, [2]),
    "seq(tensor(float))": h.make_sequence_type_proto(TENSOR),
    "optional(tensor(float))": h.make_optional_type_proto(TENSOR),
    "optional(seq(tensor(float)))": h.make_optional_type_proto(h.make_sequence_type_proto(TENSOR)),
    "map(string,tensor(int64))": MAP,
    "seq(map(string,tensor(int64)))": h.make_sequence_type_proto(MAP),
    "optional(seq(map(string,tensor(int64))))": h.make_optional_type_proto(h.make_sequence_type_proto(MAP)),
}


@pytest.mark.parametrize("text", KINDS)
def test_a_files_type_is_told_as_onnxruntime_does(text: str) -> None:
    assert types.proto_string(KINDS[text]) == text
    value = ir.Value(name="v")
    types.set_type(value, KINDS[text])
    assert types.type_string(value) == text
    assert types.has_map(KINDS[text]) is ("map(" in text)
    assert (types.kept_proto(value) is not None) is ("map(" in text), "what onnx_ir can't hold is kept"


def test_a_type_that_says_nothing() -> None:
    assert types.proto_string(onnx.TypeProto()) is None
    assert types.proto_string(h.make_tensor_type_proto(0, None)) is None
    assert types.type_string(ir.Value(name="v")) is None


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_codes_and_texts_belong_together(dtype: dtypes.DType) -> None:
    text = f"tensor({dtype.onnx_name})"
    code = types.tensor_code(text)
    assert code is not None
    assert types.tensor_string(code) == text
    value = ir.Value(name="v", type=ir.TensorType(ir.DataType(code)))
    assert types.tensor_dtype(value) == (np.dtype(object) if dtype is dtypes.string else dtype.numpy)


def test_only_tensors_have_a_dtype() -> None:
    assert types.tensor_dtype(ir.Value(name="v")) is None
    assert types.tensor_dtype(ir.Value(name="v", type=ir.SequenceType(ir.TensorType(ir.DataType.FLOAT)))) is None
    assert types.tensor_dtype(ir.Value(name="v", type=ir.TensorType(ir.DataType.UNDEFINED))) is None
    assert types.tensor_code("seq(tensor(float))") is None


def test_a_later_type_replaces_a_kept_one() -> None:
    value = ir.Value(name="v")
    types.set_type(value, MAP)
    types.set_type(value, TENSOR)
    assert types.type_string(value) == "tensor(float)"
    assert types.kept_proto(value) is None
