"""Schemas, made from records, of operators for which onnx has none: com.microsoft's, and those that exporters write into the
standard's domain.

The signature of a record's function determines inputs and attributes: parameters annotated as Tensors are inputs, the others
attributes. The tensors that the function returns determine the types and shapes of outputs. The schemas are registered with onnx's
inference, so that it continues behind such nodes.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
import onnx.numpy_helper
from onnx.defs import OpSchema

from sardonyx import ops
from sardonyx.base.dtypes import ALL, BY_CODE, FLOATS, DType
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, single, symbol
from sardonyx.expr.origin import origin
from sardonyx.expr.tensor import Tensor, constant, input_tensor
from sardonyx.graph.types import tensor_string
from sardonyx.ops.record import Op, Signature

ATTRIBUTES = {
    "int": "INT",
    "bool": "INT",
    "float": "FLOAT",
    "str": "STRING",
    "Sequence[int]": "INTS",
    "list[int]": "INTS",
    "Sequence[float]": "FLOATS",
    "Sequence[str]": "STRINGS",
}
"""Type of an attribute, by the parameter's annotation without `| None`."""


def find(domain: str, name: str, version: int) -> Op | None:
    """Return the record of an operator for which onnx has no schema in this version, None for standard and unknown operators."""
    op = ops.find(domain, name, version)
    return op if op is not None and not op.in_standard else None


@functools.cache
def signature_of(op: Op) -> Signature:
    """Return the operator's inputs and attributes, from the signature of its function."""
    if op.signature is not None:
        return op.signature
    function = op.meaning or op.types
    assert function is not None, f"{op.name} has neither a meaning nor types"
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "outputs"]
    inputs = [p for p in parameters if "Tensor" in str(p.annotation)]
    others = [p for p in parameters if p not in inputs]
    return Signature(
        tuple(p.name for p in inputs),
        frozenset(p.name for p in inputs if "None" in str(p.annotation)),
        next((p.name for p in inputs if p.kind is p.VAR_POSITIONAL), None),
        {p.name: ATTRIBUTES[str(p.annotation).removesuffix(" | None")] for p in others},
        frozenset(p.name for p in others if p.default is p.empty),
    )


@functools.cache
def raw_schema(op: Op) -> OpSchema:
    """Make onnx's schema object, whose inference calls the record."""
    signature = signature_of(op)
    kind = OpSchema.FormalParameterOption
    parameters: list[OpSchema.FormalParameter] = []
    letters = {"R": type_texts(ALL)}
    groups = {name: group for group in op.element_types for name in group.split()}
    for name in signature.inputs:
        option = kind.Variadic if name == signature.repeated else kind.Optional if name in signature.optional else kind.Single
        group = groups.get(name)
        letter = "T" if group is None else f"T{list(op.element_types).index(group)}"
        letters[letter] = type_texts(FLOATS if group is None else op.element_types[group])
        least = 0 if option is kind.Variadic and op.signature is not None and len(parameters) > 0 else 1
        parameters.append(
            OpSchema.FormalParameter(name, letter, param_option=option, is_homogeneous=option is not kind.Variadic, min_arity=least)
        )
    results = [OpSchema.FormalParameter("results", "R", param_option=kind.Variadic, is_homogeneous=False, min_arity=0)]
    if signature.outputs is not None:
        results = [
            OpSchema.FormalParameter(f"result{i}", "R", param_option=kind.Optional if i else kind.Single, is_homogeneous=False)
            for i in range(signature.outputs)
        ]
    attributes = [
        OpSchema.Attribute(name, getattr(OpSchema.AttrType, found), "", required=name in signature.needed)
        for name, found in signature.attributes.items()
    ]
    schema = OpSchema(
        op.name,
        op.domain,
        op.since,
        inputs=parameters,
        outputs=results,
        type_constraints=[(letter, texts, "") for letter, texts in letters.items()],
        attributes=attributes,
    )
    schema.set_type_and_shape_inference_function(lambda context: infer_outputs(op, context))
    return schema


def type_texts(dtypes: Iterable[DType]) -> list[str]:
    """Return the names of tensor types with these element types."""
    return [tensor_string(dtype.code) for dtype in dtypes]


# ---- inference ------------------------------------------------------------------------------------------------------------------

_clashes: list[Exception] = []
_registering = threading.RLock()


@contextlib.contextmanager
def registered(found: Iterable[Op]) -> Iterator[list[Exception]]:
    """Register these operators with onnx inside this context. Yields the list of errors that their records raise meanwhile, in
    order.
    """
    records = dict.fromkeys(found)
    if not records:
        yield []
        return
    with _registering:
        for op in records:
            onnx.defs.register_schema(raw_schema(op))
        try:
            yield _clashes
        finally:
            for op in records:
                onnx.defs.deregister_schema(op.name, op.since, op.domain)
            _clashes.clear()


def infer_outputs(op: Op, context: Any) -> None:
    """Set the types of a node's outputs as far as those of its inputs are known. onnx's inference calls this function for operators
    that `registered` has registered.

    Errors are stored in `_clashes`, because an exception would pass through onnx's C++ code, which changes its type.
    """
    node = node_name(op, context)
    try:
        with origin(node, op.name):
            made = results_of(op, context)
    except Fail as error:
        clash = Fail(f"Node ({node}) Op ({op.name}) {error.detail}")
        clash.__cause__ = error.__cause__
        _clashes.append(clash)
        return
    except Unsupported:  # reported, with the reason, when a provider is asked to claim the node
        return
    except Exception as error:
        _clashes.append(error)
        return
    names = {d.dim_param for i in range(context.get_num_inputs()) for d in dimensions(context, i)} - {""}
    for index, t in enumerate(made[: context.get_num_outputs()]):
        if t is not None:
            context.set_output_type(index, type_proto(t, names))


def results_of(op: Op, context: Any) -> Sequence[Tensor | None]:
    """Compute the node's outputs as tensors. Raises Unsupported if the type of an input is not known or the form has no meaning,
    Fail if it is wrong.
    """
    signature = signature_of(op)
    inputs = [input_of(context, index) for index in range(context.get_num_inputs())]
    given = {name: context.get_attribute(name) for name in signature.attributes}
    attributes = {name: attribute_value(found) for name, found in given.items() if found is not None}
    return op.call(inputs, attributes, context.get_num_outputs())


def input_of(context: Any, index: int) -> Tensor | None:
    """Return the input as a tensor, None for an absent one."""
    if not context.has_input(index):
        return None
    data = context.get_input_data(index)
    if data is not None and data.data_type != onnx.TensorProto.STRING:
        return constant(onnx.numpy_helper.to_array(data))
    found = context.get_input_type(index)
    if found is None or not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        raise Unsupported("an input whose type or rank is not known")
    sizes: list[Dim] = []
    for axis, d in enumerate(found.tensor_type.shape.dim):
        sizes.append(d.dim_value if d.HasField("dim_value") else symbol(d.dim_param or f"?{index}.{axis}"))
    return input_tensor(f"input {index}", BY_CODE[found.tensor_type.elem_type], sizes)


def dimensions(context: Any, index: int) -> Sequence[onnx.TensorShapeProto.Dimension]:
    """Return the dimensions of an input, as far as its type is known."""
    found = context.get_input_type(index) if context.has_input(index) else None
    return found.tensor_type.shape.dim if found is not None and found.HasField("tensor_type") else ()


def type_proto(t: Tensor, names: set[str]) -> onnx.TypeProto:
    """Convert the tensor's type to protobuf. Sizes are numbers, one of `names`, or unknown."""
    proto = onnx.TypeProto()
    proto.tensor_type.elem_type = t.dtype.code
    proto.tensor_type.shape.SetInParent()
    for size in t.shape:
        d = proto.tensor_type.shape.dim.add()
        if isinstance(size, int):
            d.dim_value = size
        elif (found := single(size)) is not None and found.name in names:
            d.dim_param = found.name
    return proto


def attribute_value(found: onnx.AttributeProto) -> Any:
    """Convert an attribute to the Python value that records take."""
    value = onnx.helper.get_attribute_value(found)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value


def node_name(op: Op, context: Any) -> str:
    """Extract the node's name from onnx's text `node Gelu[com.microsoft] (name)`."""
    _, _, name = context.get_display_name().partition(f"node {op.name}")
    return str(name.partition("(")[2].removesuffix(")"))
