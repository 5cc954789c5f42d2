"""Models written by a session: they are valid, and mean the same elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import sardonyx as sx
from tests.session.models import model

SOURCE = "g (float[n,4] x) => (float[n,3] y) <float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[3] b = {1,2,3}> { t = MatMul (x, w) u = Add (t, b) d = Identity (u) y = Relu (d) }"


def saved(
    source: bytes, path: Path, level: sx.GraphOptimizationLevel = sx.GraphOptimizationLevel.ORT_ENABLE_ALL
) -> onnx.ModelProto:
    options = sx.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = level
    sx.InferenceSession(source, options)
    return onnx.load(path)


@pytest.mark.parametrize("level", list(sx.GraphOptimizationLevel), ids=lambda level: level.name)
def test_it_runs_on_onnxruntime_and_gives_the_same(level: sx.GraphOptimizationLevel, tmp_path: Path) -> None:
    written = saved(model(SOURCE), tmp_path / "m.onnx", level)
    onnx.checker.check_model(written)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    (mine,) = sx.InferenceSession(model(SOURCE)).run(None, {"x": x})
    (theirs,) = ort.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_it_is_optimised(tmp_path: Path) -> None:
    written = saved(model(SOURCE), tmp_path / "m.onnx")
    assert [n.op_type for n in written.graph.node] == ["Gemm", "Relu"]
    assert [n.op_type for n in saved(model(SOURCE), tmp_path / "n.onnx", sx.GraphOptimizationLevel.ORT_DISABLE_ALL).graph.node] == [
        *("MatMul", "Add", "Identity", "Relu")
    ]


def test_names_types_and_sizes_of_inputs_and_outputs_stay(tmp_path: Path) -> None:
    written = saved(model(SOURCE), tmp_path / "m.onnx")
    for values, name, size in ((written.graph.input, "x", 4), (written.graph.output, "y", 3)):
        (value,) = values
        first, second = value.type.tensor_type.shape.dim
        assert (value.name, first.dim_param, second.dim_value) == (name, "n", size)


def test_types_that_onnx_ir_can_not_hold_are_written(tmp_path: Path) -> None:
    source = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[3, 7])],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, ["n", 2])],
            [
                onnx.helper.make_value_info(
                    "z",
                    onnx.helper.make_sequence_type_proto(
                        onnx.helper.make_map_type_proto(7, onnx.helper.make_tensor_type_proto(1, []))
                    ),
                )
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 15), onnx.helper.make_opsetid("ai.onnx.ml", 1)],
        ir_version=8,
    )
    written = saved(source.SerializeToString(), tmp_path / "m.onnx")
    assert written.graph.output[0].type.sequence_type.elem_type.map_type.key_type == 7


def test_a_folder_that_is_not_there_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere"):
        saved(model(SOURCE), tmp_path / "nowhere" / "m.onnx")
    assert list(tmp_path.iterdir()) == []
