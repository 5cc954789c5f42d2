import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks import models, weightless
from benchmarks.agreement import VARIATION, identical, least_variation
from benchmarks.strip_weights import LARGE

# Models whose filled form is small enough to be run here; benchmarks.accuracy runs all.
SMALL = (
    "mobilenet_v2",
    "mobilenet_v2_dynamo",
    "mobilenet_v2_qdq",
    "lstm_tagger",
    "mlp",
    "logistic_regression",
    "scaler_mlp",
    "light_squeezenet",
    "mobilenet_v3",
    "gru_lm",
    "mixture",
    "mixture_dynamo",
    "odd_chain",
    "random_forest",
    "gradient_boosting",
)
TRAINED = ("logistic_regression", "scaler_mlp")


def test_all_graphs_together_are_small() -> None:
    assert {path.name for path in models.GRAPHS.iterdir()} == {model.path.name for model in models.MODELS.values()}
    assert sum(model.path.stat().st_size for model in models.MODELS.values()) <= 5_000_000


def test_models_need_no_torch() -> None:
    code = "import sys, benchmarks.models; sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=models.GRAPHS.parents[1]).returncode == 0


@pytest.mark.parametrize("name", models.MODELS)
def test_graph_is_weightless_and_takes_the_feeds(name: str) -> None:
    model = weightless.read(models.MODELS[name].path)
    stored = [tensor for tensor in weightless.tensors(model.graph) if weightless.record(tensor) is None]
    if name not in TRAINED:
        assert max((tensor.ByteSize() for tensor in stored), default=0) <= LARGE + 100
    initializers = {tensor.name for tensor in model.graph.initializer}
    declared = {value.name: value.type.tensor_type for value in model.graph.input if value.name not in initializers}
    for case in models.MODELS[name].cases:
        feeds = models.feeds(name, case.name)
        assert set(feeds) == set(declared)
        for key, values in feeds.items():
            assert onnx.helper.tensor_dtype_to_np_dtype(declared[key].elem_type) == values.dtype
            dims = declared[key].shape.dim
            assert all(d.dim_value in (0, n) or d.dim_param for d, n in zip(dims, values.shape, strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_small_models_run_and_their_outputs_vary(name: str) -> None:
    session = onnxruntime.InferenceSession(models.load(name).SerializeToString(), providers=["CPUExecutionProvider"])
    for case in models.MODELS[name].cases:
        first, again, other = (session.run(None, models.feeds(name, case.name, seed)) for seed in (0, 0, 1))
        assert all(np.isfinite(values).all() for values in first)
        assert identical(first, again)
        assert least_variation(first, other) > VARIATION


@pytest.mark.parametrize(("name", "trees"), [("random_forest", 100), ("gradient_boosting", 300)])
def test_forests_have_all_their_trees(name: str, trees: int) -> None:
    node = models.load(name).graph.node[0]
    attributes = {attribute.name: attribute for attribute in node.attribute}
    assert node.op_type == "TreeEnsembleClassifier"
    assert set(attributes["nodes_treeids"].ints) == set(range(trees))


def test_each_network_of_torch_is_exported_twice() -> None:
    twice = {name.removesuffix("_dynamo") for name in models.MODELS if name.endswith("_dynamo")}
    once = set(models.MODELS) - twice - {f"{name}_dynamo" for name in twice}
    assert {name for name in once if not name.startswith("light_")} == {
        *TRAINED,
        *models.QUANTISED,
        "random_forest",
        "gradient_boosting",
    }


def test_loading_and_feeding_are_deterministic(tmp_path: pytest.TempPathFactory) -> None:
    assert models.load("lstm_tagger") == models.load("lstm_tagger")
    assert onnx.load(models.save("mlp", tmp_path)) == models.load("mlp")
    first, again, other = (models.feeds("mlp", "64", seed)["input"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_masks_end_in_zeros_in_all_rows_but_the_first() -> None:
    mask = models.feeds("bert_base", "4x64")["attention_mask"]
    assert mask.sum(axis=1).tolist() == [64, 56, 48, 40]
    assert (np.diff(mask, axis=1) <= 0).all()


def test_batch_norm_statistics_are_not_trivial() -> None:
    model = models.load("light_shufflenet")
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert norms
    for node in norms:
        for name in node.input[1:]:
            assert values[name].std() > 0
        assert values[node.input[4]].min() > 0


def test_unknown_cases_are_named() -> None:
    with pytest.raises(KeyError, match=r"'mlp' has no case '7', only \['1', '64'\]"):
        models.feeds("mlp", "7")
