"""Scales the generators of a weightless model, so that values neither explode nor vanish through its layers.

The model is run once, node by node; each weight of a convolution or matrix product is scaled so that the output has a
standard deviation of one, before the next node sees it (layer-sequential unit variance, Mishkin and Matas 2015). The
scales are stored in the records; filling a model does not repeat the calibration.
"""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from benchmarks.strip_weights import VIEWS
from benchmarks.weightless import fill, record, set_record

SCALED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
# Operators that read no data, only its extents.
SHAPES = frozenset({"Shape", "Size"})


def calibrate(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    """Scale, in place, the records of the weights of `model` by running it on `feeds`.

    A product that is zero for any inputs (of the queries that DETR's decoder starts from) is not scaled. Raises ValueError if the
    output of a scaled node is constant or not finite. Nodes with sub-graphs are not supported.
    """
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    fill(filled)
    records = {tensor.name: tensor for tensor in model.graph.initializer if record(tensor) is not None}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in filled.graph.initializer} | feeds
    origins = {name: name for name in records}
    unscaled = set(records)
    varying = set(feeds)
    reads = Counter(name for node in filled.graph.node for name in node.input)
    for node in filled.graph.node:
        outputs = _run(node, values, filled)
        weight = next((origins[name] for name in node.input if origins.get(name) in unscaled), None)
        if node.op_type not in SHAPES and varying.intersection(node.input):
            varying.update(node.output)
        is_scaled = node.op_type in SCALED and weight is not None
        if is_scaled and (varying.intersection(node.input) or outputs[0].any()):
            factor = 1.0 / _spread(node, outputs[0])
            _scale(records[weight], factor)
            for name in (name for name, origin in origins.items() if origin == weight and name in values):
                values[name] = values[name] * np.float32(factor)
            unscaled.discard(weight)
            outputs = _run(node, values, filled)
        if node.op_type in VIEWS and node.input[0] in origins:
            origins[node.output[0]] = origins[node.input[0]]
        values.update(zip((name for name in node.output if name), outputs, strict=True))
        _release(node, reads, values)


def _scale(tensor: onnx.TensorProto, factor: float) -> None:
    """Scale the record of `tensor`."""
    generator = record(tensor)
    if generator is None:
        raise ValueError(f"tensor {tensor.name!r} has no record to scale")
    set_record(tensor, generator.scaled(factor))


def _spread(node: onnx.NodeProto, output: np.ndarray) -> float:
    """Return the standard deviation of `output`. Raises ValueError if it is zero or not finite."""
    spread = float(output.std(dtype=np.float64))
    if not np.isfinite(spread) or spread == 0.0:
        raise ValueError(f"{node.op_type} node {node.name!r}: output has standard deviation {spread}")
    return spread


def _run(node: onnx.NodeProto, values: dict[str, np.ndarray], model: onnx.ModelProto) -> list[np.ndarray]:
    """Run one node as a model of its own and return its outputs, without absent ones."""
    names = sorted({name for name in node.input if name})
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape)
        for name in names
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 8))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(single.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: values[name] for name in names})


def _release(node: onnx.NodeProto, reads: Counter[str], values: dict[str, np.ndarray]) -> None:
    """Drop the values that `node` was the last to read."""
    for name in node.input:
        reads[name] -= 1
        if reads[name] == 0:
            values.pop(name, None)
