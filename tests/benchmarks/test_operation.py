"""What `benchmarks.operation` is made of: its graphs mean what they say, shapes are cut everywhere, tables show medians and failures."""

from __future__ import annotations

import numpy as np
import onnx.reference
import pytest

import sardonyx
from benchmarks import one_process, synthetic
from benchmarks.operation import MEASURES, Measurement, Settings, measurement_table, subjects_of


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return sardonyx.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def test_a_loop_of_three_turns() -> None:
    model = synthetic.loop(3)
    weight = next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "weight")
    x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    wanted = x.astype(np.float64)
    for _ in range(3):
        wanted = np.tanh(wanted @ weight)
    np.testing.assert_allclose(run(model, x), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", synthetic.MANY_NODES)
def test_many_nodes(kind: str) -> None:
    model = synthetic.MANY_NODES[kind](40)
    assert 40 <= len(model.graph.node) <= 42
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(run(model, x), wanted, atol=1e-5)


def test_shapes_are_cut_wherever_the_size_stands() -> None:
    feeds = {"past": np.ones((1, 2, 10, 4)), "mask": np.ones((1, 11)), "ids": np.ones((1, 1))}
    cut = one_process.cut(feeds, 10, 3)
    assert {name: array.shape for name, array in cut.items()} == {"past": (1, 2, 3, 4), "mask": (1, 4), "ids": (1, 1)}


def test_the_table() -> None:
    found = [Measurement("start", "m", "ours", {"ms": [3.0, 1.0, 2.0]}), Measurement("start", "m", "theirs", failure="exit code 1")]
    header, rows = measurement_table(found)
    assert header == ["", "engine", "ms", "failure"]
    assert rows == [["m", "ours", "2 (1 to 3)", ""], ["m", "theirs", "-", "exit code 1"]]


def test_each_measure_has_subjects(tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = Settings((), tmp_path, tmp_path, nodes=(5,))
    assert all(subjects_of(what, settings) for what in MEASURES)
