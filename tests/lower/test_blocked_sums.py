"""Long sums: divided as they should be, and as exact as onnxruntime's, whatever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx
from benchmarks.errors import numbers
from sardonyx.base.dtypes import f32
from sardonyx.base.symbolic import Symbol, value
from sardonyx.codegen import features
from sardonyx.loop.blocks import BLOCK
from sardonyx.loop.nodes import Const, Index, Reduce, walk
from sardonyx.lower.blocked_sums import reduce_in_blocks
from sardonyx.ops import linalg
from sardonyx.ops.pointwise import along
from tests.lower.harness import compiled, reals

Array = np.ndarray[Any, Any]
HARDWARE = [features.host(), features.AVX2, features.SSE2]
every_target = pytest.mark.parametrize("target", HARDWARE, ids=lambda t: t.name)
LONG = (1, 255, 257, 4096, 4097, 9000)


# ---- the loops ----------------------------------------------------------------------------------------------------------


def test_only_long_sums_of_floats_are_divided() -> None:
    short, long = Symbol("k", 8), Symbol("k", 1000)
    x, y = Const(1.0, f32), Index(value(long))
    assert reduce_in_blocks("add", [(short, "serial")], x, BLOCK) == Reduce("add", ((short, "serial"),), x)
    assert reduce_in_blocks("max", [(long, "serial")], x, BLOCK) == Reduce("max", ((long, "serial"),), x)
    assert reduce_in_blocks("add", [(long, "serial")], y, BLOCK) == Reduce("add", ((long, "serial"),), y)


@pytest.mark.parametrize("extent", [1000, value(Symbol("n"))])
def test_a_sum_of_sums(extent: Any) -> None:
    outer, k = Symbol("o", 3), Symbol("k", extent)
    total = reduce_in_blocks("add", [(outer, "serial"), (k, "vector")], Const(1.0, f32), BLOCK)
    assert isinstance(total, Reduce)
    assert [s.name for s, _ in total.loops] == ["o", "k.block"]
    (inner,) = [n for n in walk(total.body) if isinstance(n, Reduce)]
    assert [kind for _, kind in inner.loops] == ["vector"]
    assert total.symbols == (frozenset() if extent == 1000 else value(Symbol("n")).symbols)  # type: ignore[union-attr]


# ---- every way of computing them ----------------------------------------------------------------------------------------


@every_target
@pytest.mark.parametrize("signature", ["f32[a, b]", "f32[3, b]", "f64[a, b]", "f16[a, b]", "i32[a, b]"])
def test_sums_of_any_length(signature: str, target: features.Target) -> None:
    program = compiled(lambda x: [along("add", x, [1]), along("max", x, [1]), along("mul", x, [1])], signature, target=target)
    dtype = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i32": np.int32}[signature[:3]]
    for n in (0, *LONG):
        ones = np.random.default_rng(n).choice([-1, 1], (3, n)).astype(dtype)
        program.check(ones, interpreted=n < 200)


@every_target
def test_sums_down_columns_of_any_length(target: features.Target) -> None:
    program = compiled(lambda x: along("add", x, [0]), "f32[a, b]", target=target)
    for n in (0, *LONG):
        for columns in (1, 5, 33):
            program.check(reals(n, columns), interpreted=n < 200)


@pytest.mark.parametrize("signature", ["f32[a, b, c, d]", "f32[5, 3, 40, 60]", "f32[5, 3, c, 60]"])
@pytest.mark.parametrize("axes", [[0, 2, 3], [2, 3], [0, 1], [1, 3], [0, 3], [1, 2, 3], [0, 1, 2, 3]], ids=str)
def test_sums_over_several_axes(axes: list[int], signature: str) -> None:
    program = compiled(lambda x: along("add", x, axes), signature)
    program.check(reals(5, 3, 40, 60), interpreted=False)
    if "5" not in signature:
        for shape in ((1, 2, 3, 5), (2, 0, 3, 4), (0, 1, 1, 1), (130, 2, 1, 3), (2, 3, 129, 1)):
            program.check(reals(*shape))


@every_target
@pytest.mark.parametrize("depth", ["129", "2500", "k"])
def test_dot_products_of_any_length(depth: str, target: features.Target) -> None:
    """A vector times a vector, few rows times keys as they lie, rows times columns."""
    for rows, columns in ((1, 1), (1, 20), (3, 1), (9, 20)):
        program = compiled(
            lambda q, k: linalg.matmul(q, linalg.transpose(k)), f"f32[{rows}, {depth}]", f"f32[{columns}, {depth}]", target=target
        )
        for n in (1, 130, 2500) if depth == "k" else (int(depth),):
            program.check(reals(rows, n), reals(columns, n, seed=1), interpreted=n < 200)


def test_long_sums_of_what_is_not_finite() -> None:
    program = compiled(lambda x: [along("add", x, [1]), along("add", x, [0])], "f32[a, b]")
    x = np.ones((4, 5000), np.float32)
    x[0, 0], x[1, 2500], x[2, -1] = np.inf, np.nan, -np.inf
    across, _ = program.check(x)
    np.testing.assert_array_equal(across.reshape(-1), [np.inf, np.nan, -np.inf, 5000])


# ---- beside onnxruntime -------------------------------------------------------------------------------------------------


def single_node(node: Any, x: Array, weights: dict[str, Array], shape: list[Any]) -> bytes:
    graph = helper.make_graph(
        [node],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def errors(model: bytes, x: Array, exact: Array) -> tuple[float, float]:
    """Ours (the same for one and two threads) and onnxruntime's, in parts of the largest output."""
    out = []
    for package, threads in ((sardonyx, 1), (sardonyx, 2), (onnxruntime, 1)):
        options = package.SessionOptions()
        options.intra_op_num_threads = threads
        session = package.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        out.append(session.run(None, {"x": x})[0])
    assert out[0].tobytes() == out[1].tobytes(), "one and two threads differ"
    ours, theirs = (float(abs(y.astype(np.float64) - exact).max() / abs(exact).max()) for y in (out[0], out[2]))
    return ours, theirs


@pytest.mark.parametrize("kind", ["equal", "positive", "normal"])
@pytest.mark.parametrize("depth", [700, 3072, 14_000])
def test_products_are_as_exact_as_onnxruntimes(depth: int, kind: str) -> None:
    """Of 1, 3 and 8 rows; the length known when the model is loaded, or not."""
    for rows in (1, 3, 8):
        x, w = numbers("ones" if kind == "equal" else kind, rows, depth), numbers(kind, depth, 48)
        exact = x.astype(np.float64) @ w.astype(np.float64)
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        for shape in ([rows, depth], ["rows", depth]):
            ours, theirs = errors(single_node(node, x, {"w": w}, shape), x, exact)
            assert ours <= 2 * theirs + 1e-7, (rows, shape)


@pytest.mark.parametrize("kind", ["equal", "positive"])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize("axes", [[0, 2, 3], [0, 1], [3], [0, 1, 2, 3]], ids=str)
def test_reductions_are_as_exact_as_onnxruntimes(axes: list[int], op: str, kind: str) -> None:
    x = numbers(kind, 30, 4, 40, 50)
    wide = x.astype(np.float64)
    squares = (wide**2).sum(tuple(axes), keepdims=True)
    exact = {"ReduceMean": wide.mean(tuple(axes), keepdims=True), "ReduceL2": np.sqrt(squares), "ReduceSumSquare": squares}[op]
    node = helper.make_node(op, ["x"], ["y"], axes=axes)
    for shape in (list(x.shape), ["a", "b", "c", "d"]):
        ours, theirs = errors(single_node(node, x, {}, shape), x, exact)
        assert ours <= 2 * theirs + 2e-7, shape
