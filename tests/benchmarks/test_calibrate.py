import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import strip_weights, weightless
from benchmarks.calibrate import calibrate


def _deep_network(layers: int) -> onnx.ModelProto:
    """`layers` matrix products (every second weight transposed), Relus between: f32[n, 64] -> f32[n, 64]."""
    nodes, names, value = [], [], "x"
    for layer in range(layers):
        weight = f"w{layer}"
        names.append(weight)
        if layer % 2:
            nodes.append(helper.make_node("Transpose", [weight], [f"t{layer}"], perm=[1, 0]))
            weight = f"t{layer}"
        nodes.append(helper.make_node("MatMul", [value, weight], [f"m{layer}"]))
        value = f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [value]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info(f"m{layers - 1}", TensorProto.FLOAT, ["n", 64])
    weights = [numpy_helper.from_array(np.zeros((64, 64), np.float32), name) for name in names]
    graph = helper.make_graph(nodes[:-1], "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    strip_weights.strip(model)
    return model


def test_outputs_have_unit_deviation_after_many_layers() -> None:
    model = _deep_network(30)
    feeds = {"x": weightless.seeded("x").standard_normal((256, 64), dtype=np.float32)}
    calibrate(model, feeds)
    weightless.fill(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, feeds)[0].std() == pytest.approx(1.0, rel=1e-2)


def test_a_constant_output_is_refused() -> None:
    with pytest.raises(ValueError, match="MatMul node '': output has standard deviation 0"):
        calibrate(_deep_network(1), {"x": np.zeros((2, 64), np.float32)})


def test_a_product_that_is_zero_whatever_the_input_is_left_alone() -> None:
    """As in DETR, whose decoder starts from zeros in the number of the images."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("MatMul", ["zeros", "w0"], ["start"]),
        helper.make_node("MatMul", ["x", "w1"], ["other"]),
        helper.make_node("Add", ["start", "other"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy")
    weights = [numpy_helper.from_array(np.zeros((64, 64), np.float32), name) for name in ("w0", "w1")]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    strip_weights.strip(model)
    calibrate(model, {"x": weightless.seeded("x").standard_normal((256, 64), dtype=np.float32)})
    untouched, scaled = (weightless.record(tensor) for tensor in model.graph.initializer)
    assert untouched == strip_weights.WEIGHT
    assert scaled is not None
    assert scaled.b == pytest.approx(1 / 8, rel=0.1)
