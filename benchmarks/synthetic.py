"""Graphs made for one measurement each: a long loop, and graphs of very many small nodes. Weights are drawn from seeds."""

import itertools
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16
SIDE = 64
BRANCH = 8
CONSTANTS = 1021
STEPS = ("Add", "Tanh", "Mul", "Relu", "Sub", "Sigmoid", "Max", "Neg")

Nodes = list[onnx.NodeProto]


def loop(iterations: int) -> onnx.ModelProto:
    """Make a Loop of `iterations` times x = tanh(x w), x and w: f32[64, 64]. w is symmetric, so that x converges, and its norm
    keeps x from vanishing.
    """
    random = np.random.default_rng(0)
    half = random.standard_normal((SIDE, SIDE)) / np.sqrt(SIDE)
    weight = (half + half.T).astype(np.float32)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("MatMul", ["state", "weight"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
    )
    constants = {"count": np.array(iterations), "weight": weight}
    return _model([helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)], constants, [SIDE, SIDE])


def chain(count: int) -> onnx.ModelProto:
    """Make `count` nodes on f32[16], each of which reads the one before; every eighth adds the value of seven nodes earlier."""
    nodes: Nodes = []
    steps = itertools.count()
    value = "x"
    for index in range(count):
        if index % BRANCH == BRANCH - 1:
            nodes.append(helper.make_node("Add", [value, f"v{index - BRANCH + 1}"], [f"v{index}"]))
        else:
            nodes.append(_step(next(steps), value, f"v{index}"))
        value = f"v{index}"
    return _model(_ending(nodes, value), _constants(), [WIDTH])


def wide(count: int) -> onnx.ModelProto:
    """Make about `count` nodes on f32[16]: branches of seven nodes from the input, added in pairs down to one value."""
    nodes: Nodes = []
    steps = itertools.count()
    ends = []
    for branch in range(count // BRANCH):
        value = "x"
        for index in range(BRANCH - 1):
            nodes.append(_step(next(steps), value, f"v{branch}_{index}"))
            value = f"v{branch}_{index}"
        ends.append(value)
    while len(ends) > 1:
        pairs = list(zip(ends[::2], ends[1::2], strict=False))
        sums = [f"{left}_" for left, _ in pairs]
        nodes += [helper.make_node("Add", list(pair), [result]) for pair, result in zip(pairs, sums, strict=True)]
        ends = sums + ends[2 * len(pairs) :]
    return _model(_ending(nodes, ends[0]), _constants(), [WIDTH])


def layers(count: int) -> onnx.ModelProto:
    """Make about `count` nodes: layers of MatMul, Add, Relu, Concat, Slice on f32[1, 16], each with one of 64 weights."""
    nodes: Nodes = []
    value = "x"
    for index in range(count // 5):
        name = f"v{index}"
        nodes += [
            helper.make_node("MatMul", [value, f"w{index % 64}"], [f"{name}_product"]),
            helper.make_node("Add", [f"{name}_product", f"c{index % CONSTANTS}"], [f"{name}_sum"]),
            helper.make_node("Relu", [f"{name}_sum"], [f"{name}_relu"]),
            helper.make_node("Concat", [f"{name}_relu", value], [f"{name}_both"], axis=1),
            helper.make_node("Slice", [f"{name}_both", "first", "last", "axis"], [name]),
        ]
        value = name
    random = np.random.default_rng(1)
    weights = {f"w{index}": (random.standard_normal((WIDTH, WIDTH)) / 4).astype(np.float32) for index in range(64)}
    ends = {"first": np.array([3]), "last": np.array([3 + WIDTH]), "axis": np.array([1])}
    return _model(_ending(nodes, value), _constants() | weights | ends, [1, WIDTH])


MANY_NODES: dict[str, Callable[[int], onnx.ModelProto]] = {"chain": chain, "wide": wide, "layers": layers}


def _step(number: int, value: str, result: str) -> onnx.NodeProto:
    """Make one of eight operators on `value`, with one of 1,021 constants if it takes two operands; values stay bounded."""
    kind = STEPS[number % len(STEPS)]
    operands = [f"c{number % CONSTANTS}"] if kind in ("Add", "Mul", "Sub", "Max") else []
    return helper.make_node(kind, [value, *operands], [result])


def _constants() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {f"c{index}": random.uniform(-1, 1, WIDTH).astype(np.float32) for index in range(CONSTANTS)}


def _ending(nodes: Nodes, value: str) -> Nodes:
    """Return the nodes, and one that returns `value` as y."""
    return [*nodes, helper.make_node("Tanh", [value], ["y"])]


def _model(nodes: Nodes, constants: dict[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    """Make a checked model from x: f32[shape] to y: f32[shape]."""
    graph = helper.make_graph(
        nodes,
        "synthetic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model
