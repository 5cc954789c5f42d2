"""Constant nodes become initializers when a model is loaded, so that everything after load knows one kind of constant."""

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
    """Replaces each Constant node by an initializer of the graph it stands in, under its output's name.

    Raises InvalidGraph for a Constant without exactly one value.
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
    """The tensor that an attribute holds. Raises TypeError if the attribute's type is another.

    `Attr.as_tensor` also compares the value with the protocol of tensors, method by method, which takes longer than the rest of loading
    a constant. In an attribute of this type the deserialiser has put a tensor.
    """
    return attribute.value if attribute.type == ir.AttributeType.TENSOR else attribute.as_tensor()


def constant_tensor(node: ir.Node) -> ir.TensorProtocol:
    """What a Constant node holds."""
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
    """The tensor's shape, as one that values can have."""
    return ir.Shape(tensor.shape.numpy())


def string_array(tensor: ir.TensorProtocol) -> Array:
    """object[*]: the texts of a string tensor, as str."""
    raw: Array = np.array(tensor.string_data(), object).reshape(tensor.shape.numpy())  # type: ignore[attr-defined, type-var]
    decode = np.frompyfunc(lambda text: text.decode("utf-8", "replace") if isinstance(text, bytes) else text, 1, 1)
    decoded = np.empty(raw.shape, object)
    decoded[...] = decode(raw) if raw.size else raw
    return decoded


def array_of(tensor: ir.TensorProtocol) -> Array:
    """The tensor as an array: strings as objects, everything else as numpy or ml_dtypes has it."""
    if tensor.dtype == ir.DataType.STRING:
        return string_array(tensor)
    return tensor.numpy()
