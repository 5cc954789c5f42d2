"""Sums of products of dequantised numbers are computed in integers, whichever operator sums, and give what the model says.

Scales are powers of two and weights small, so that every float of the reference is exact: results must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import sardonyx
from sardonyx.base.options import CompileOptions
from sardonyx.codegen import features
from sardonyx.inspection.loops import lowered_parts
from sardonyx.session.options import SessionOptions
from tests.lower.test_groups import tiles_of

Array = np.ndarray
Node = tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]
DRAW = np.random.default_rng(5)


def integers(dtype: Any, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return DRAW.integers(limits.min, limits.max + 1, shape).astype(dtype)


def powers(*shape: int) -> Array:
    return DRAW.choice(np.array([0.25, 0.5, 2], np.float32), shape)


def model(nodes: Sequence[Node], inputs: Mapping[str, Array], weights: Mapping[str, Array], free: bool = False) -> Any:
    """free: the sizes of the inputs are symbols."""
    infos = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(x.dtype), [f"{n}_{a}" if free else s for a, s in enumerate(x.shape)]
        )
        for n, x in inputs.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, list(ins), list(outs), **attributes) for op, ins, outs, attributes in nodes],
        "g",
        infos,
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def integer_tiles(m: Any, **options: Any) -> list[Any]:
    """The tiles of integers in the compiled model."""
    parts = lowered_parts(m.SerializeToString(), CompileOptions(**options))
    return [t for p in parts for kernel in p.kernels.values() for t in tiles_of(kernel.body) if t.group > 1]


def session(m: Any, threads: int = 1, literal: bool = False) -> sardonyx.InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = threads
    if literal:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return sardonyx.InferenceSession(m.SerializeToString(), options)


def check(m: Any, feeds: Mapping[str, Array], in_integers: bool = True) -> None:
    """Compare the result with the reference's, as compiled and in literal order, and see that integers are summed."""
    wanted = ReferenceEvaluator(m).run(None, dict(feeds))
    for threads, literal in ((1, False), (2, False), (1, True)):
        for got, right in zip(session(m, threads, literal).run(None, dict(feeds)), wanted, strict=True):
            np.testing.assert_array_equal(got, right)
    assert bool(integer_tiles(m)) == in_integers


def down(x: str, name: str, zero: str) -> Node:
    return "QuantizeLinear", [x, "s", zero], [name], {}


def up(q: str, scale: str, zero: str, name: str, **attributes: Any) -> Node:
    return "DequantizeLinear", [q, scale, zero], [name], attributes


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "inside": {},
    "border": {"pads": [1, 2, 0, 1]},
    "strides": {"strides": [2, 1], "pads": [1, 1, 1, 1]},
    "groups": {"group": 2, "pads": [1, 1, 1, 1]},
    "dilations": {"dilations": [2, 1], "auto_pad": "SAME_UPPER"},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("a", "b"), [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8)])
@pytest.mark.parametrize("each", [True, False], ids=["channels", "whole"])
def test_convolutions(name: str, a: Any, b: Any, each: bool) -> None:
    """Quantised, dequantised, convolved with bias, Relu, quantised: with zero points, for each channel or for all."""
    attributes = CONVOLUTIONS[name]
    many = (10,) if each else ()
    x = DRAW.normal(0, 30, (2, 6, 9, 8)).astype(np.float32)
    weights = {
        "w": integers(b, 10, 6 // attributes.get("group", 1), 3, 3),
        "zw": integers(b, *many),
        "sw": powers(*many),
        "s": np.float32(0.5),
        "z": np.array(100, a),
        "bias": DRAW.integers(-2000, 2000, 10).astype(np.float32),
        "sy": np.float32(1024),
        "zy": np.array(3, np.uint8),
    }
    nodes: list[Node] = [
        down("x", "q", "z"),
        up("q", "s", "z", "d"),
        up("w", "sw", "zw", "wd", axis=0),
        ("Conv", ["d", "wd", "bias"], ["c"], attributes),
        ("Relu", ["c"], ["r"], {}),
        ("QuantizeLinear", ["r", "sy", "zy"], ["y"], {}),
    ]
    check(model(nodes, {"x": x}, weights), {"x": x})


PRODUCTS: dict[str, Node] = {
    "MatMul": ("MatMul", ["d", "wd"], ["y"], {}),
    "Gemm": ("Gemm", ["d", "wd", "bias"], ["y"], {"alpha": 0.5}),
    "Gemm_transposed": ("Gemm", ["d", "wd", "bias"], ["y"], {"transB": 1}),
    "Einsum": ("Einsum", ["d", "wd"], ["y"], {"equation": "ik,jk->ij"}),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("free", [False, True], ids=["known", "free"])
def test_products(name: str, free: bool) -> None:
    """Weights [32, 32] dequantised by column of the result, activations by row."""
    node = PRODUCTS[name]
    by_row = "transB" in node[3] or name == "Einsum"
    q, zero = integers(np.uint8, 7, 32), np.uint8(9)
    weights = {
        "w": integers(np.int8, 32, 32),
        "zw": integers(np.int8, 32),
        "sw": powers(32),
        "s": np.float32(0.25),
        "z": zero,
        "bias": DRAW.integers(-99, 99, 32).astype(np.float32),
    }
    nodes = [up("q", "s", "z", "d"), up("w", "sw", "zw", "wd", axis=0 if by_row else 1), node]
    m = model(nodes, {"q": q}, weights, free)
    if free and not by_row:
        m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32
    check(m, {"q": q})


def test_operands_that_are_fed() -> None:
    """Scales and zero points that a run decides, one for each row and each column; b is no weight."""
    feeds = {
        "a": integers(np.uint8, 3, 5, 40),
        "sa": powers(5),
        "za": integers(np.uint8, 5),
        "b": integers(np.int8, 3, 40, 24),
        "sb": powers(24),
        "zb": integers(np.int8, 24),
    }
    nodes = [up("a", "sa", "za", "da", axis=1), up("b", "sb", "zb", "db", axis=2), ("MatMul", ["da", "db"], ["y"], {})]
    check(model(nodes, feeds, {}), feeds)


def test_arithmetic_of_other_nodes() -> None:
    """The same expression from Cast, Sub and Mul."""
    feeds = {"q": integers(np.uint8, 5, 40)}
    nodes: list[Node] = [
        ("Cast", ["q"], ["f"], {"to": 1}),
        ("Cast", ["z"], ["zf"], {"to": 1}),
        ("Sub", ["f", "zf"], ["moved"], {}),
        ("Mul", ["s", "moved"], ["d"], {}),
        up("w", "s", "", "wd"),
        ("MatMul", ["d", "wd"], ["y"], {}),
    ]
    check(model(nodes, feeds, {"w": integers(np.int8, 40, 24), "s": np.float32(0.5), "z": np.uint8(77)}), feeds)


@pytest.mark.parametrize("case", ["scale_of_k", "zero_of_k", "float_operand", "too_long", "border_of_one"])
def test_left_in_floats(case: str) -> None:
    """A scale or zero point that varies along the sum, an operand of floats, sums that i32 may not hold, a border that is not 0."""
    k = 40000 if case == "too_long" else 40
    q, w = integers(np.uint8, 2, k) % 4, integers(np.int8, k, 24) % 4
    weights = {"w": w.astype(np.int8), "s": np.float32(1), "sk": powers(k), "z": np.uint8(3), "zk": integers(np.int8, k) % 4}
    weights |= {"pads": np.array([0, 1, 0, 0]), "one": np.float32(1), "zw": np.int8(1)}
    fed, scale, zero = "d", "s", "zw"
    nodes: list[Node] = [up("q", "s", "z", "d")]
    if case == "scale_of_k":
        scale, zero = "sk", ""
    elif case == "zero_of_k":
        scale, zero, weights["s1"] = "sk", "zk", np.ones(k, np.float32)
        scale = "s1"
    elif case == "float_operand":
        nodes = [("Cast", ["q"], ["c"], {"to": 1}), ("Sqrt", ["c"], ["r"], {}), ("Floor", ["r"], ["d"], {})]
    elif case == "border_of_one":
        nodes.append(("Pad", ["d", "pads", "one"], ["p"], {}))
        fed, weights["w"] = "p", integers(np.int8, k + 1, 24) % 4
    nodes += [up("w", scale, zero, "wd", axis=0), ("MatMul", [fed, "wd"], ["y"], {})]
    check(model(nodes, {"q": q.astype(np.uint8)}, weights), {"q": q.astype(np.uint8)}, in_integers=False)


def test_largest_sums() -> None:
    """The longest sum that is computed in integers is exact at the extremes."""
    k = (1 << 31) // (255 * 255)
    q = np.full((1, k), 255, np.uint8)
    q = np.concatenate([q, 255 - q])
    weights = {"w": np.full((k, 16), -128, np.int8), "s": np.float32(1), "z": np.uint8(0), "zw": np.int8(127)}
    nodes = [up("q", "s", "", "d"), up("w", "s", "zw", "wd"), ("MatMul", ["d", "wd"], ["y"], {})]
    m = model(nodes, {"q": q}, weights)
    assert integer_tiles(m)
    got = session(m).run(None, {"q": q})[0]
    np.testing.assert_array_equal(got, (q.astype(np.int64) @ np.full((k, 16), -255)).astype(np.float32))


def test_literal_order() -> None:
    """Without the rule (session.disable_quant_qdq), the floats that the model says are multiplied."""
    nodes = [up("q", "s", "", "d"), up("w", "s", "", "wd"), ("MatMul", ["d", "wd"], ["y"], {})]
    m = model(nodes, {"q": integers(np.uint8, 3, 40)}, {"w": integers(np.int8, 40, 24), "s": np.float32(0.5)})
    assert integer_tiles(m)
    assert not integer_tiles(m, integer_sums=False)


@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 0), (np.uint8, 128)])
def test_zero_points_that_are_all_equal(dtype: Any, zero: int) -> None:
    """Zero points for each channel that leave nothing to correct: no row of a is summed, and none where 128 is moved away."""
    weights = {"w": integers(dtype, 40, 5000), "s": powers(5000), "one": np.float32(0.5), "z": np.full(5000, zero, dtype)}
    nodes = [up("q", "one", "", "d"), up("w", "s", "z", "wd"), ("MatMul", ["d", "wd"], ["y"], {})]
    m = model(nodes, {"q": integers(np.uint8, 9, 40)}, weights)
    check(m, {"q": integers(np.uint8, 9, 40)})
    program, *_ = lowered_parts(m.SerializeToString(), CompileOptions())
    as_they_are = dtype is np.uint8 and features.select().groups[0].count != 4
    assert as_they_are or not any("sum_a" in nest.root.tensor.name for nest in program.nests)


LOOP = """<ir_version: 10, opset_import: ["" : 21]>
g (int64 n, float[4, 16] x, uint8[4, 16] b) => (float[4, 16] y, uint8[4, 16] c)
<float s = {0.5}, uint8 z = {7}, float big = {64}, float sw = {0.25}, int8[16, 16] w, bool yes = {1}> {
    y, c = Loop (n, yes, x, b) <body = body (int64 i, bool go, float[4, 16] xs, uint8[4, 16] bs)
    => (bool still, float[4, 16] next, uint8[4, 16] bytes) {
        still = Identity(go)
        wd = DequantizeLinear(w, sw)
        q = QuantizeLinear(xs, s, z)
        d = DequantizeLinear(q, s, z)
        p = MatMul(d, wd)
        next = Mul(p, sw)
        e = DequantizeLinear(bs, s, z)
        r = MatMul(e, wd)
        bytes = QuantizeLinear(r, big, z)
    }>
}"""


def test_states_of_loops() -> None:
    """Bytes that one iteration makes for the next, and numbers that it quantises itself."""
    m = onnx.parser.parse_model(LOOP)
    del m.graph.value_info[:]
    m.graph.initializer.append(numpy_helper.from_array(integers(np.int8, 16, 16), "w"))
    x = DRAW.normal(0, 30, (4, 16)).astype(np.float32)
    check(m, {"n": np.array(3), "x": x, "b": integers(np.uint8, 4, 16)})
