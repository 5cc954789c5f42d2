import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import strip_weights, weightless


def _model(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], ir_version: int = 9) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=ir_version)


def _records(model: onnx.ModelProto) -> dict[str, weightless.Generator | None]:
    return {tensor.name: weightless.record(tensor) for tensor in weightless.tensors(model.graph)}


def test_generators_follow_from_use() -> None:
    model = _model(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Add", ["a", "bias"], ["b"]),
            helper.make_node("LayerNormalization", ["b", "scale", "shift"], ["y"]),
        ],
        {"w": np.zeros((32, 32), np.float32)} | dict.fromkeys(("bias", "scale", "shift"), np.zeros(32, np.float32)),
    )
    strip_weights.strip(model)
    assert _records(model) == {
        "w": strip_weights.WEIGHT,
        "bias": strip_weights.BIAS,
        "scale": strip_weights.SCALE,
        "shift": strip_weights.BIAS,
    }


def test_use_is_found_through_views_and_the_first_rule_wins() -> None:
    """An embedding that is also, transposed, the last weight."""
    model = _model(
        [
            helper.make_node("Gather", ["table", "ids"], ["e"]),
            helper.make_node("Transpose", ["table"], ["t"]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ],
        {"table": np.zeros((64, 32), np.float32), "ids": np.zeros(2, np.int64)},
    )
    strip_weights.strip(model)
    assert _records(model) == {"table": strip_weights.WEIGHT, "ids": None}


def test_queries_that_are_tiled_before_they_are_added() -> None:
    model = _model(
        [helper.make_node("Tile", ["queries", "repeats"], ["t"]), helper.make_node("Add", ["x", "t"], ["y"])],
        {"queries": np.zeros((1, 32), np.float32), "repeats": np.array([2, 1])},
    )
    strip_weights.strip(model)
    assert _records(model) == {"queries": strip_weights.BIAS, "repeats": None}


def test_weights_of_a_gru_are_recurrent() -> None:
    model = _model(
        [helper.make_node("Unsqueeze", ["x", "axis"], ["u"]), helper.make_node("GRU", ["u", "w", "r", "b"], ["y"], hidden_size=8)],
        {
            "axis": np.array([0]),
            "w": np.zeros((1, 24, 32), np.float32),
            "r": np.zeros((1, 24, 8), np.float32),
            "b": np.zeros((1, 48), np.float32),
        },
    )
    strip_weights.strip(model)
    assert _records(model) == {"axis": None, "w": strip_weights.RECURRENT, "r": strip_weights.RECURRENT, "b": strip_weights.BIAS}


def test_scalars_and_small_tables_stay() -> None:
    model = _model(
        [helper.make_node("Mul", ["x", "half"], ["a"]), helper.make_node("Reshape", ["a", "shape"], ["y"])],
        {"half": np.array(0.5, np.float32), "shape": np.array([-1, 8])},
    )
    strip_weights.strip(model)
    assert _records(model) == {"half": None, "shape": None}


def test_large_integer_tables_get_exact_generators() -> None:
    positions, zeros = np.arange(512)[None], np.zeros((1, 512), np.int64)
    model = _model(
        [
            helper.make_node("GatherElements", ["x", "positions"], ["a"]),
            helper.make_node("Gather", ["a", "zeros"], ["y"]),
        ],
        {"positions": positions, "zeros": zeros},
    )
    strip_weights.strip(model)
    weightless.fill(model)
    filled = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(filled["positions"], positions)
    np.testing.assert_array_equal(filled["zeros"], zeros)


def test_a_large_table_without_generator_is_refused() -> None:
    table = np.random.default_rng(0).integers(0, 9, 512)
    model = _model([helper.make_node("GatherElements", ["x", "table"], ["y"])], {"table": table})
    with pytest.raises(ValueError, match=r"'table' \(int64\[512\]\) has no generator"):
        strip_weights.strip(model)


def test_constants_of_shape_become_weights_and_inputs_of_old_models() -> None:
    value = numpy_helper.from_array(np.array([0.02], np.float32))
    model = _model(
        [
            helper.make_node("ConstantOfShape", ["w_shape"], ["w"], value=value),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        {"w_shape": np.array([32, 8])},
        ir_version=3,
    )
    model.graph.input.append(helper.make_tensor_value_info("w_shape", TensorProto.INT64, [2]))
    strip_weights.strip(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert [value.name for value in model.graph.input] == ["x", "w"]
    assert _records(model) == {"w": strip_weights.WEIGHT}


def test_remarks_are_dropped() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"], doc_string="File model.py, line 3")], {})
    model.graph.node[0].metadata_props.add(key="stack_trace", value="/home/someone/model.py")
    strip_weights.strip(model)
    assert b"model.py" not in model.SerializeToString()
