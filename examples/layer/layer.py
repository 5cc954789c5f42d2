"""Writes a model of one layer, relu(x w + b), to look at on its way through the compiler: `python examples/layer/layer.py layer.onnx`."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def layer(inputs: int = 64, outputs: int = 16) -> onnx.ModelProto:
    """x: f32[rows, inputs] -> y: f32[rows, outputs], as MatMul, Add and Relu."""
    generator = np.random.default_rng(0)
    w = generator.standard_normal((inputs, outputs)).astype(np.float32)
    b = generator.standard_normal(outputs).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="project"),
        helper.make_node("Add", ["product", "b"], ["sum"], name="bias"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


if __name__ == "__main__":
    onnx.save(layer(), sys.argv[1])
