"""Numbers that a model merely claims take neither time nor memory: windows and borders larger than the data, strides, lengths, ranks."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import sardonyx
from sardonyx.base.errors import SardonyxError
from sardonyx.ops import signal
from tests.ops.harness import Array, assert_same, native_session, one_node_model, onnxruntime_reference, reference, run

IMAGE = np.random.default_rng(3).standard_normal((1, 2, 7, 6)).astype(np.float32)
ROW = IMAGE[:, :, 0]
WIDE: list[dict[str, Any]] = [
    {"kernel_shape": [9, 9], "strides": [9, 9], "ceil_mode": 1},
    {"kernel_shape": [20, 3], "pads": [15, 1, 9, 0], "strides": [4, 2]},
    {"kernel_shape": [3, 40], "pads": [0, 39, 1, 39], "strides": [1, 7]},
    {"kernel_shape": [3, 3], "dilations": [5, 4], "pads": [2, 2, 2, 2]},
    {"kernel_shape": [8, 8], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [1280, 1280], "strides": [1280, 1280], "ceil_mode": 1},
]


@pytest.mark.parametrize("attributes", WIDE)
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "LpPool"])
def test_windows_larger_than_the_picture(name: str, attributes: dict[str, Any], symbolic: bool) -> None:
    version = 18 if name == "LpPool" else 21
    inputs = [IMAGE[:, :1] if attributes["kernel_shape"][0] > 100 else IMAGE]
    got = run(name, inputs, attributes, version=version, symbolic=symbolic)
    assert_same(got, onnxruntime_reference(name, inputs, attributes, version=version), 1e-5, 1e-5)


@pytest.mark.parametrize("attributes", [a for a in WIDE if "dilations" not in a][:3])
@pytest.mark.parametrize("include", [0, 1])
def test_averages_with_and_without_the_border(attributes: dict[str, Any], include: int) -> None:
    attributes = {**attributes, "count_include_pad": include}
    assert_same(
        run("AveragePool", [IMAGE], attributes, version=21),
        onnxruntime_reference("AveragePool", [IMAGE], attributes),
        1e-5,
        1e-5,
    )


@pytest.mark.parametrize("attributes", WIDE[:4])
def test_places_in_windows_larger_than_the_picture(attributes: dict[str, Any]) -> None:
    got = run("MaxPool", [IMAGE], attributes, version=21, outputs=2)
    assert_same(got, onnxruntime_reference("MaxPool", [IMAGE], attributes, outputs=2))


def test_windows_of_whole_numbers() -> None:
    x = np.arange(-20, 22, dtype=np.int8).reshape(1, 1, 7, 6) - 60
    attributes = {"kernel_shape": [9, 9], "pads": [4, 4, 4, 4]}
    assert_same(run("MaxPool", [x], attributes, version=21), onnxruntime_reference("MaxPool", [x], attributes))


@pytest.mark.parametrize("size", [1, 2, 5, 64, 65, 1000, 2**31 - 1])
@pytest.mark.parametrize("symbolic", [False, True])
def test_normalisation_over_more_channels_than_there_are(size: int, symbolic: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 2)).astype(np.float32)
    got = run("LRN", [x], {"size": size, "alpha": 0.5 * size}, symbolic=symbolic)
    around = [(max(0, c - (size - 1) // 2), min(5, c + size // 2 + 1)) for c in range(5)]
    sums = np.stack([(x[:, a:b] ** 2).sum(1) for a, b in around], 1)
    assert_same(got, [(x / (1 + 0.5 * sums) ** 0.75).astype(np.float32)], 1e-5, 1e-5)


# ---- transforms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [31, 37, 64, 74, 96])
@pytest.mark.parametrize("inverse", [0, 1])
def test_transforms_whose_tables_are_computed_where_they_are_read(n: int, inverse: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "LARGEST_TABLE", 16)
    x = np.random.default_rng(1).standard_normal((1, n, 2))
    native_session.cache_clear()
    got = run("DFT", [x, np.array(n), np.array(1)], {"inverse": inverse}, version=20, known=(1, 2))[0]
    native_session.cache_clear()
    whole = (np.fft.ifft if inverse else np.fft.fft)(x[..., 0] + 1j * x[..., 1])
    np.testing.assert_allclose(got[..., 0] + 1j * got[..., 1], whole, 1e-9, 1e-9)


@pytest.mark.parametrize("n", [1, 2, 36, 97, 2**20, 2**61 - 1, 2**40 * 3, (2**31 - 1) ** 2])
def test_lengths_are_taken_apart_in_no_time(n: int) -> None:
    start = time.process_time()
    first = signal.factor(n)
    assert n % first == 0
    assert time.process_time() - start < 1


# ---- all of it ends -------------------------------------------------------------------------------------------------------

ONE = np.ones(1, np.float32)
CLAIMS: dict[str, tuple[str, Sequence[Array], Mapping[str, Any], Sequence[int], int]] = {
    "strides of 400": (
        "ConvTranspose",
        [np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)],
        {"strides": [400, 400]},
        (1,),
        21,
    ),
    "strides of 2^31": (
        "ConvTranspose",
        [np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)],
        {"strides": [1 << 31, 1]},
        (1,),
        21,
    ),
    "a transform of a prime": ("DFT", [np.ones((1, 8, 1), np.float32), np.array(2**61 - 1), np.array(1)], {}, (1, 2), 20),
    "a transform of 2^40": ("DFT", [np.ones((1, 8, 1), np.float32), np.array(2**40), np.array(1)], {}, (1, 2), 20),
    "a million axes": ("ConstantOfShape", [np.ones(1_000_000, np.int64)], {}, (0,), 21),
    "a window of 2^32": (
        "MaxPool",
        [np.ones((1, 1, 8, 8), np.float32)],
        {"kernel_shape": [1 << 16, 1 << 16], "pads": [65530, 65530, 0, 0]},
        (),
        21,
    ),
    "a window of 2^60": (
        "AveragePool",
        [np.ones((1, 1, 8), np.float32)],
        {"kernel_shape": [1 << 60], "strides": [1 << 60], "ceil_mode": 1, "pads": [0, 1 << 59]},
        (),
        21,
    ),
    "a size of 2^62": ("Expand", [ONE, np.array([1 << 62, 4])], {}, (1,), 21),
    "repeats of 2^62": ("Tile", [ONE, np.array([1 << 62])], {}, (1,), 21),
    "borders of 2^62": ("Pad", [ONE, np.array([1 << 62, 1 << 62])], {}, (1,), 21),
    "scales of infinity": ("Resize", [ONE, np.zeros(0, np.float32), np.float32([np.inf])], {}, (2,), 21),
    "scales of 2^100": ("Resize", [ONE, np.zeros(0, np.float32), np.float32([2.0**100])], {}, (2,), 21),
    "a range of 2^62": ("Range", [np.array(0), np.array(1 << 62), np.array(1)], {}, (0, 1, 2), 21),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_loading_and_running_end(claim: str) -> None:
    name, inputs, attributes, known, version = CLAIMS[claim]
    model = one_node_model(name, inputs, attributes, version, "", 1, known)
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if i not in known}
    assert_ends(lambda: sardonyx.InferenceSession(model.SerializeToString()).run(None, feeds))


def test_a_chain_of_sizes_that_a_run_decides() -> None:
    """Each size is defined by the one before it."""
    names = ["x", *(f"y{i}" for i in range(30))]
    nodes = [onnx.helper.make_node("ReduceMin", [x, "axes"], [y]) for x, y in itertools.pairwise(names)]
    inputs = [onnx.helper.make_tensor_value_info("x", 1, ["n", "m"]), onnx.helper.make_tensor_value_info("axes", 7, [1])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [onnx.helper.make_empty_tensor_value_info(names[-1])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    feeds = {"x": np.ones((2, 3), np.float32), "axes": np.array([1])}
    assert_ends(lambda: sardonyx.InferenceSession(model.SerializeToString()).run(None, feeds))


@pytest.mark.parametrize("operator", ["Expand", "Reshape", "Tile", "ConstantOfShape"])
@pytest.mark.parametrize("count", [65, 20_000, 1 << 31, 1 << 62])
def test_vectors_of_sizes_that_claim_to_be_long(operator: str, count: int) -> None:
    names = ["s"] if operator == "ConstantOfShape" else ["x", "s"]
    node = onnx.helper.make_node(operator, names, ["y"])
    infos = {"x": onnx.helper.make_tensor_value_info("x", 1, ["n"]), "s": onnx.helper.make_tensor_value_info("s", 7, [count])}
    graph = onnx.helper.make_graph([node], "g", [infos[n] for n in names], [onnx.helper.make_empty_tensor_value_info("y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    feeds = {n: {"x": ONE, "s": np.ones(1, np.int64)}[n] for n in names}
    assert_ends(lambda: sardonyx.InferenceSession(model.SerializeToString()).run(None, feeds))


def assert_ends(work: Callable[[], object]) -> None:
    """Within seconds and some memory, with an answer or a documented error."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: list[SardonyxError] = []
    try:
        work()
    except SardonyxError as error:
        found.append(error)
    assert not any(error.defect for error in found), found
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_mirrors_are_no_wider_than_the_axis() -> None:
    x = np.arange(4, dtype=np.float32)
    for symbolic in (False, True):
        for pads in ([3, 3], [0, 0], [3, 0]):
            got = run("Pad", [x, np.array(pads)], {"mode": "reflect"}, known=(1,), symbolic=symbolic)
            assert_same(got, reference("Pad", [x, np.array(pads)], {"mode": "reflect"}))
        for pads in ([4, 0], [0, 4], [9, 9]):
            with pytest.raises(SardonyxError, match=r"Pad reflect: (pre|post)-pad \([49]\)"):
                run("Pad", [x, np.array(pads)], {"mode": "reflect"}, known=(1,), symbolic=symbolic)
