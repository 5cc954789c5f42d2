"""Normalisation by constants goes into the weights before it, where nobody reads what lies between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sardonyx.graph.passes.batch_normalization_folding import fold_batch_normalizations
from tests.graph.passes.harness import Array, after, by_onnxruntime, operators, reals


def constants(channels: int, **more: Array) -> dict[str, Array]:
    found = {name: reals(channels) + i for i, name in enumerate(("scale", "shift", "mean"))}
    return {**found, "variance": np.abs(reals(channels)) + 0.5, **more}


def model(
    nodes: Sequence[onnx.NodeProto], given: dict[str, Array], x: tuple[int, ...], outputs: Sequence[str] = ("y",), opset: int = 17
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, x)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normalization(source: str = "p", output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [source, "scale", "shift", "mean", "variance"], [output], **attributes)


BIAS = [False, True]


@pytest.mark.parametrize("bias", BIAS)
def test_a_convolution(bias: bool) -> None:
    given = constants(4, w=reals(4, 3, 3, 3), **({"b": reals(4)} if bias else {}))
    nodes = [helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["p"], pads=[1, 1, 1, 1]), normalization(epsilon=1e-3)]
    assert operators(
        after(fold_batch_normalizations, model(nodes, given, (1, 3, 5, 5)), {"x": reals(1, 3, 5, 5)}, tolerance=1e-4)
    ) == ["Conv"]


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution(bias: bool, group: int) -> None:
    given = constants(4, w=reals(4, 4 // group, 3, 3), **({"b": reals(4)} if bias else {}))
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w", *(["b"] if bias else [])], ["p"], strides=[2, 2], group=group),
        normalization(),
    ]
    x = {"x": reals(1, 4, 5, 5)}
    found = after(fold_batch_normalizations, model(nodes, given, (1, 4, 5, 5)), x, tolerance=1e-4, numbers=by_onnxruntime)
    assert operators(found) == ["ConvTranspose"]


@pytest.mark.parametrize("bias", BIAS)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_gemm(bias: bool, transposed: int, beta: float) -> None:
    given = constants(5, w=reals(*((5, 4) if transposed else (4, 5))), **({"b": reals(5)} if bias else {}))
    nodes = [
        helper.make_node("Gemm", ["x", "w", *(["b"] if bias else [])], ["p"], transB=transposed, beta=beta, alpha=0.7),
        normalization(),
    ]
    found = after(fold_batch_normalizations, model(nodes, given, (3, 4)), {"x": reals(3, 4)}, tolerance=1e-4)
    assert operators(found) == ["Gemm"]


def test_a_matrix_product() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), normalization()]
    found = after(fold_batch_normalizations, model(nodes, constants(5, w=reals(4, 5)), (3, 4)), {"x": reals(3, 4)}, tolerance=1e-4)
    assert operators(found) == ["MatMul", "Add"]


def test_weights_that_others_read_too_keep_their_numbers() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["p"]),
        normalization(),
        helper.make_node("Conv", ["x", "w"], ["z"]),
    ]
    found = after(
        fold_batch_normalizations,
        model(nodes, constants(2, w=reals(2, 1, 3, 3)), (1, 1, 5, 5), ("y", "z")),
        {"x": reals(1, 1, 5, 5)},
        tolerance=1e-4,
    )
    assert operators(found) == ["Conv", "Conv"]


def test_a_name_that_is_taken_is_not_taken_twice() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["p"]), normalization(), helper.make_node("Neg", ["x"], ["w_normalized"])]
    found = after(
        fold_batch_normalizations,
        model(nodes, constants(2, w=reals(2, 1, 3, 3)), (1, 1, 5, 5), ("y", "w_normalized")),
        {"x": reals(1, 1, 5, 5)},
        tolerance=1e-4,
    )
    assert operators(found) == ["Conv", "Neg"]


def test_what_stays() -> None:
    weights = constants(2, w=reals(2, 1, 3, 3))
    conv = helper.make_node("Conv", ["x", "w"], ["p"])
    x = {"x": reals(1, 1, 5, 5)}
    both = ["Conv", "BatchNormalization"]
    assert operators(after(fold_batch_normalizations, model([conv, normalization()], weights, (1, 1, 5, 5), ("y", "p")), x)) == both
    read_twice = [conv, normalization(), helper.make_node("Neg", ["p"], ["z"])]
    assert operators(after(fold_batch_normalizations, model(read_twice, weights, (1, 1, 5, 5), ("y", "z")), x)) == [*both, "Neg"]
    fed = model([conv, normalization()], {k: v for k, v in weights.items() if k != "w"}, (1, 1, 5, 5))
    fed.graph.input.append(helper.make_tensor_value_info("w", 1, (2, 1, 3, 3)))
    assert operators(after(fold_batch_normalizations, fed, {**x, "w": weights["w"]})) == both


def test_a_normalisation_in_a_body_stays() -> None:
    for op, w, x in (("Conv", reals(2, 1, 3, 3), reals(1, 1, 5, 5)), ("MatMul", reals(4, 2), reals(3, 4))):
        branches = [
            helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_y", 1, None)])
            for name, node in (("then", normalization(output="then_y")), ("else", helper.make_node("Neg", ["p"], ["else_y"])))
        ]
        nodes = [
            helper.make_node(op, ["x", "w"], ["p"]),
            helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ]
        made = model(nodes, constants(2, w=w), x.shape)
        made.graph.input.append(helper.make_tensor_value_info("c", 9, ()))
        for condition in (True, False):
            assert operators(after(fold_batch_normalizations, made, {"x": x, "c": np.array(condition)})) == [op, "If"]
