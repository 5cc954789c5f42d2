"""Types of values as text, as users and errors see them: `tensor(float)`, `seq(tensor(int64))`, `map(string,tensor(float))`.

onnx_ir has no map types. If a type contains one, the value's `type` is None, and its TypeProto is stored in the value's `meta`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from sardonyx.base import dtypes

_PROTO = "sardonyx.type_proto"
_TENSORS = {code: f"tensor({dtype.onnx_name})" for code, dtype in dtypes.BY_CODE.items()}
_CODES = {text: code for code, text in _TENSORS.items()}


def type_string(value: ir.Value) -> str | None:
    """Return the value's type as text, None if it is unknown."""
    if value.type is None:
        proto = value.meta.get(_PROTO)
        return proto_string(proto) if proto is not None else None
    return ir_type_string(value.type)


def ir_type_string(found: ir.TypeProtocol) -> str:
    """Return onnx_ir's type as text."""
    if isinstance(found, ir.TensorType):
        return tensor_string(int(found.dtype))
    if isinstance(found, ir.SparseTensorType):
        return f"sparse_{tensor_string(int(found.dtype))}"
    inner = ir_type_string(found.elem_type)  # type: ignore[arg-type]
    return f"seq({inner})" if isinstance(found, ir.SequenceType) else f"optional({inner})"


def tensor_string(code: int) -> str:
    """Return the text of a tensor type: `tensor(float)` for element type 1, and so on."""
    return _TENSORS.get(code) or f"tensor({onnx.TensorProto.DataType.Name(code).lower()})"


def tensor_code(text: str) -> int | None:
    """Return the element type of a text: 1 for `tensor(float)`, and so on; None for texts of other types."""
    return _CODES.get(text)


def proto_string(proto: onnx.TypeProto) -> str | None:
    """Return a type of a model file as text, None if it is empty."""
    kind = proto.WhichOneof("value")
    if kind == "tensor_type":
        return tensor_string(proto.tensor_type.elem_type) if proto.tensor_type.elem_type else None
    if kind == "sparse_tensor_type":
        return f"sparse_{tensor_string(proto.sparse_tensor_type.elem_type)}"
    if kind == "map_type":
        return f"map({_key_string(proto.map_type.key_type)},{proto_string(proto.map_type.value_type)})"
    if kind == "sequence_type":
        return f"seq({proto_string(proto.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({proto_string(proto.optional_type.elem_type)})"
    return None


def _key_string(code: int) -> str:
    return tensor_string(code).removeprefix("tensor(").removesuffix(")")


def has_map(proto: onnx.TypeProto) -> bool:
    """Return whether the type contains a map."""
    kind = proto.WhichOneof("value")
    if kind == "sequence_type":
        return has_map(proto.sequence_type.elem_type)
    if kind == "optional_type":
        return has_map(proto.optional_type.elem_type)
    return bool(kind == "map_type")


def set_type(value: ir.Value, proto: onnx.TypeProto) -> None:
    """Set the type of a value, not its shape."""
    if has_map(proto):
        value.type = None
        value.meta[_PROTO] = proto
    else:
        value.type = ir.serde.deserialize_type_proto_for_type(proto)


def kept_proto(value: ir.Value) -> onnx.TypeProto | None:
    """Return the TypeProto of a value whose type onnx_ir can't represent, else None."""
    found: onnx.TypeProto | None = value.meta.get(_PROTO) if value.type is None else None
    return found


def tensor_dtype(value: ir.Value) -> np.dtype[Any] | None:
    """Return numpy's dtype of a tensor value, object for strings; None for other types and unknown ones."""
    if not isinstance(value.type, ir.TensorType) or value.type.dtype == ir.DataType.UNDEFINED:
        return None
    return np.dtype(object if value.type.dtype == ir.DataType.STRING else value.type.dtype.numpy())
