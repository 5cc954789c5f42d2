"""Turns an exported model into a weightless one: which tensors are replaced, and how each will be drawn.

What a tensor is drawn like follows from its use in the graph (a table below), not from its name: exporters rename,
fold and transpose. Tensors used as parameters are replaced whatever their size from `SMALL` elements on, so that no
trivial statistics (zeros, ones) survive; anything else only above `LARGE` bytes.
"""

import math
from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.weightless import Generator, record, set_record, tensors

SMALL = 16
LARGE = 1024

# A weight is drawn with standard deviation 1 and then scaled by `calibrate`.
WEIGHT = Generator("normal", 0.0, 1.0)
BIAS = Generator("normal", 0.0, 0.1)
SCALE = Generator("uniform", 0.5, 1.5)
MEAN = Generator("normal", 0.0, 0.2)
VARIANCE = Generator("uniform", 0.5, 1.5)
EMBEDDING = Generator("normal", 0.0, 1.0)
RECURRENT = Generator("normal", 0.0, 0.05)

# (operator, input index) -> generator. Where a tensor has several uses, the first of them in this order decides.
USES: dict[tuple[str, int], Generator] = {
    ("Conv", 1): WEIGHT,
    ("ConvTranspose", 1): WEIGHT,
    ("MatMul", 0): WEIGHT,
    ("MatMul", 1): WEIGHT,
    ("Gemm", 0): WEIGHT,
    ("Gemm", 1): WEIGHT,
    ("BatchNormalization", 1): SCALE,
    ("BatchNormalization", 2): BIAS,
    ("BatchNormalization", 3): MEAN,
    ("BatchNormalization", 4): VARIANCE,
    ("LayerNormalization", 1): SCALE,
    ("LayerNormalization", 2): BIAS,
    ("LSTM", 1): RECURRENT,
    ("LSTM", 2): RECURRENT,
    ("LSTM", 3): BIAS,
    ("GRU", 1): RECURRENT,
    ("GRU", 2): RECURRENT,
    ("GRU", 3): BIAS,
    ("Conv", 2): BIAS,
    ("ConvTranspose", 2): BIAS,
    ("Gemm", 2): BIAS,
    ("Gather", 0): EMBEDDING,
    ("Mul", 0): SCALE,
    ("Mul", 1): SCALE,
    ("Add", 0): BIAS,
    ("Add", 1): BIAS,
}
RANK = {use: position for position, use in enumerate(USES)}

# Operators that only pass their first input on: the uses of their output count as uses of the tensor.
VIEWS = frozenset({"Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Concat", "Flatten", "Expand", "Tile"})


def strip(model: onnx.ModelProto) -> None:
    """Replace the weights of `model` by records, in place, and remove texts that only describe the machine that exported it.

    Raises ValueError for a tensor above `LARGE` bytes for which there is no generator.
    """
    _drop_remarks(model)
    _constants_of_shape_to_initializers(model)
    consumers = _consumers(model.graph)
    for tensor in tensors(model.graph):
        generator = _generator(tensor, consumers)
        if generator is not None:
            set_record(tensor, generator)


def _drop_remarks(model: onnx.ModelProto) -> None:
    """Remove doc strings and metadata, where exporters write stack traces with local paths."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.doc_string = ""
        item.ClearField("metadata_props")


def _constants_of_shape_to_initializers(model: onnx.ModelProto) -> None:
    """Replace ConstantOfShape over a stored shape (the form of weights in the `light_*` models) by a tensor.

    Below IR version 4 every initializer is listed among the inputs, so the new ones are too.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept: list[onnx.NodeProto] = []
    shapes: set[str] = set()
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in stored or not node.attribute:
            kept.append(node)
            continue
        shapes.add(node.input[0])
        value = numpy_helper.to_array(node.attribute[0].t)
        weight = np.full(numpy_helper.to_array(stored[node.input[0]]), value[0])
        graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        if model.ir_version < 4:
            dtype = helper.np_dtype_to_tensor_dtype(weight.dtype)
            graph.input.append(helper.make_tensor_value_info(node.output[0], dtype, weight.shape))
    shapes -= {name for node in kept for name in node.input}
    _keep(graph.node, kept)
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name not in shapes])
    _keep(graph.input, [value for value in graph.input if value.name not in shapes])


def _keep(field: "list", items: list) -> None:
    """Replace the content of a repeated protobuf field by `items`."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _consumers(graph: onnx.GraphProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """Return, for each value, the nodes that read it and the index of the input."""
    found: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            found[name].append((node, index))
    return found


def _uses(name: str, consumers: dict[str, list[tuple[onnx.NodeProto, int]]]) -> set[tuple[str, int]]:
    """Return where the value `name` is used, followed through views and constants."""
    uses: set[tuple[str, int]] = set()
    for node, index in consumers.get(name, []):
        if node.op_type in VIEWS:
            uses |= _uses(node.output[0], consumers)
        else:
            uses.add((node.op_type, index))
    return uses


def _generator(tensor: onnx.TensorProto, consumers: dict[str, list[tuple[onnx.NodeProto, int]]]) -> Generator | None:
    """Return the generator that replaces `tensor`, or None if its data are kept."""
    if record(tensor) is not None or tensor.data_type == onnx.TensorProto.STRING:
        return None
    elements = math.prod(tensor.dims)
    values = numpy_helper.to_array(tensor)
    is_float = np.issubdtype(values.dtype, np.floating)
    known = sorted((use for use in _uses(tensor.name, consumers) if use in RANK), key=RANK.__getitem__)
    if is_float and known and elements >= SMALL:
        return USES[known[0]]
    if values.nbytes <= LARGE:
        return None
    return _exact(tensor.name, values)


def _exact(name: str, values: np.ndarray) -> Generator:
    """Return a generator that yields exactly `values`. Raises ValueError if there is none."""
    flat = values.ravel().astype(np.float64)
    if (flat == flat[0]).all():
        return Generator("fill", float(flat[0]))
    step = flat[1] - flat[0]
    if (np.diff(flat) == step).all():
        return Generator("arange", float(flat[0]), float(step))
    raise ValueError(f"tensor {name!r} ({values.dtype}{list(values.shape)}) has no generator and is too large to store")
