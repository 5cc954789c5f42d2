"""Conversion of Constant nodes into initializers when a model is loaded, so that later steps know one kind of constant only."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sardonyx.base.errors import InvalidGraph

Array: TypeAlias = npt.NDArray[Any]

_NUMBERS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


def lift_constants(model: ir.Model) -> None:
    """Replace each Constant node by an initializer of its graph, which keeps the name of the node's output.

    Raises InvalidGraph for a Constant that does not have exactly one value.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type != "Constant" or node.domain != "":
            continue
        graph, output = node.graph, node.outputs[0]
        assert graph is not None
        if not output.name:
            graph.remove(node, safe=True)
            continue
        tensor = constant_tensor(node)
        initializer = ir.Value(name=output.name, type=ir.TensorType(tensor.dtype), shape=shape_of(tensor), const_value=tensor)
        output.replace_all_uses_with(initializer, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        graph.register_initializer(initializer)


def tensor_of(attribute: ir.Attr) -> ir.TensorProtocol:
    """Return the tensor that an attribute holds. Raises TypeError if the attribute has another type.

    `Attr.as_tensor` also checks that the value has every method of a tensor, which takes longer than the rest of loading a
    constant. That is unnecessary here: the deserialiser has put a tensor into every attribute of this type.
    """
    return attribute.value if attribute.type == ir.AttributeType.TENSOR else attribute.as_tensor()


def constant_tensor(node: ir.Node) -> ir.TensorProtocol:
    """Return the tensor that a Constant node holds. Raises InvalidGraph."""
    if len(node.attributes) != 1:
        raise InvalidGraph(f"Constant node '{node.name}' must have one value, not {sorted(node.attributes)}.")
    ((name, attribute),) = node.attributes.items()
    if attribute.is_ref():
        raise InvalidGraph(f"Constant node '{node.name}' refers to attribute '{attribute.ref_attr_name}' outside a function.")
    if name == "value":
        return tensor_of(attribute)
    if name in _NUMBERS:
        return ir.tensor(np.array(attribute.value, _NUMBERS[name]), name=node.outputs[0].name)
    if name in ("value_string", "value_strings"):
        texts = [attribute.value] if name == "value_string" else list(attribute.value)
        encoded = [text.encode() if isinstance(text, str) else text for text in texts]
        shape = ir.Shape([] if name == "value_string" else [len(texts)])
        return ir.StringTensor(encoded, shape=shape, name=node.outputs[0].name)
    raise InvalidGraph(f"Constant node '{node.name}' has no value of a known kind, but '{name}'.")


def shape_of(tensor: ir.TensorProtocol) -> ir.Shape:
    """Return the tensor's shape as onnx_ir represents the shapes of values."""
    return ir.Shape(tensor.shape.numpy())


def string_array(tensor: ir.TensorProtocol) -> Array:
    """Decode a string tensor into an array of str objects."""
    raw: Array = np.array(tensor.string_data(), object).reshape(tensor.shape.numpy())  # type: ignore[attr-defined, type-var]
    decode = np.frompyfunc(lambda text: text.decode("utf-8", "replace") if isinstance(text, bytes) else text, 1, 1)
    decoded = np.empty(raw.shape, object)
    decoded[...] = decode(raw) if raw.size else raw
    return decoded


def array_of(tensor: ir.TensorProtocol) -> Array:
    """Convert a tensor to an array: strings become objects, other types those of numpy or ml_dtypes."""
    if tensor.dtype == ir.DataType.STRING:
        return string_array(tensor)
    return tensor.numpy()
