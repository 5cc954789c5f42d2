"""What constants alone decide is computed when the model is loaded, with the same numbers as when it runs, within budgets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import sardonyx
from sardonyx import ops
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.passes import constant_folding
from sardonyx.graph.passes.constant_folding import KEPT, fold_constants
from sardonyx.graph.verify import verify
from sardonyx.ops.record import Case, Op
from tests.graph.passes.harness import Array, after, bodies, operators, reals

X = {"x": reals(2, 3)}


def test_chains_of_constants() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) <float[3] a = {1, 2, 3}, float[3] b = {4, 5, 6}> { c = Mul(a, b) d = Neg(c) y = Add(x, d) }"
    found = after(fold_constants, text, X)
    assert operators(found) == ["Add"]
    np.testing.assert_array_equal(found.graph.initializers["d"].const_value.numpy(), [-4, -10, -18])  # type: ignore[union-attr]


def test_sizes_that_are_fixed() -> None:
    text = """g (float[2,3] x, float[n,3] z) => (int64[k] y) {
        a = Shape(x) b = Shape <start = 1> (z) c = Shape(z) d = Size(x) e = Shape <start = -1, end = -5> (x) y = Concat <axis = 0> (a, b, c, e)
    }"""
    found = after(fold_constants, text, {**X, "z": reals(5, 3)})
    assert operators(found) == ["Shape", "Concat"]


def test_outputs_and_bodies() -> None:
    text = """g (float[2,3] x, bool c) => (float[3] w, float[2,3] y) <float[3] a = {1, 2, 3}> {
        w = Neg(a)
        y = If(c) <then_branch = t () => (float[2,3] o) { b = Mul(a, w) o = Add(x, b) },
                   else_branch = e () => (float[2,3] p) { d = Exp(a) p = Add(x, d) }>
    }"""
    for condition in (True, False):
        found = after(fold_constants, text, {**X, "c": np.array(condition)})
        assert operators(found) == ["If"]
        assert bodies(found) == [["Add"], ["Add"]]


@pytest.mark.parametrize(
    "node",
    [
        "d = RandomNormalLike(a)",
        "d = Add(a, v)",  # a caller may override v
        "q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z)",
        "d = Gather(a, far)",  # fails, and shall when the model is run
    ],
)
def test_what_stays(node: str) -> None:
    text = f"""g (float[3] x, float[3] v) => (float[k] y)
        <float[3] a = {{1, 2, 3}}, float[3] v = {{1, 1, 1}}, float s = {{0.5}}, uint8 z = {{3}}, int64[3] far = {{0, 1, 7}}>
        {{ {node} y = Add(d, x) }}"""
    found = load(onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> ' + text).SerializeToString(), LoadOptions())
    there = operators(found)
    fold_constants(found)
    assert operators(found) == there


# ---- the same as running --------------------------------------------------------------------------------------------------


def records() -> list[tuple[Op, Case]]:
    """A few cases of each operator that may be folded."""
    found = [op for op in ops.every() if op.domain == "" and op.meaning and op.name not in KEPT]
    return [(op, case) for op in found for case in op.cases[:3] if case.inputs]


def model_of(op: Op, case: Case, fixed: bool, version: int) -> bytes:
    """The operator over inputs, or over constants."""
    names = ["" if a is None else f"i{k}" for k, a in enumerate(case.inputs)]
    given = {name: np.asarray(a) for name, a in zip(names, case.inputs, strict=True) if name}
    node = helper.make_node(op.name, names, outputs := [f"o{k}" for k in range(case.outputs)], **case.attributes)
    inputs = (
        []
        if fixed
        else [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()]
    )
    constants = [numpy_helper.from_array(a, n) for n, a in given.items()] if fixed else []
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10).SerializeToString()


def outcome(data: bytes, feeds: Mapping[str, Array]) -> list[Array] | str:
    """What a session gives, or the class of its error."""
    try:
        return sardonyx.InferenceSession(data).run(None, dict(feeds))  # type: ignore[return-value]
    except Exception as error:
        return type(error).__name__


def version_of(op: Op) -> int:
    """The latest opset in which this record is the operator's meaning."""
    later = [o.since for o in ops.records("", op.name) if o.since > op.since]
    return min(later, default=25) - 1


SOME = records()[:: max(1, len(records()) // 40)]


@pytest.mark.parametrize(("op", "case"), SOME, ids=[f"{op.name}-{op.since}-{k}" for k, (op, _) in enumerate(SOME)])
def test_folding_gives_what_running_gives(op: Op, case: Case) -> None:
    version = version_of(op)
    feeds = {f"i{k}": np.asarray(a) for k, a in enumerate(case.inputs) if a is not None}
    ran = outcome(model_of(op, case, fixed=False, version=version), feeds)
    folded = outcome(model_of(op, case, fixed=True, version=version), {})
    if isinstance(ran, str) or isinstance(folded, str):
        assert isinstance(ran, str) == isinstance(folded, str), f"{ran} and {folded}"
        return
    for r, f in zip(ran, folded, strict=True):
        assert r.dtype == f.dtype
        assert r.shape == f.shape
        if r.dtype.kind in "f":
            np.testing.assert_allclose(f, r, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("axes", [[-2, -1], [-1, -2], [0, -1], [-3, -1], [1, 0]])
def test_axes_counted_from_the_end_of_the_result(axes: list[int]) -> None:
    text = f"g () => (float[k,l,m] y) <float[5] w = {{1, 2, 3, 4, 5}}> {{ y = Unsqueeze <axes = {axes}> (w) }}"
    found = load(onnx.parser.parse_model('<ir_version: 6, opset_import: ["" : 11]> ' + text).SerializeToString(), LoadOptions())
    fold_constants(found)
    verify(found)
    assert list(found.graph.initializers["y"].shape) == list(np.expand_dims(np.zeros(5), tuple(axes)).shape)  # type: ignore[arg-type]


# ---- budgets ------------------------------------------------------------------------------------------------------------


def folded(nodes: list[onnx.NodeProto], constants: Mapping[str, Any], output: str = "y") -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = load(proto.SerializeToString(), LoadOptions())
    fold_constants(found)
    return found


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([helper.make_node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([1 << 31, 1 << 31])}),
        ([helper.make_node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([1 << 62, 4])}),
        ([helper.make_node("ConstantOfShape", ["s"], ["y"])], {"s": np.ones(100_000, np.int64)}),
        ([helper.make_node("Expand", ["x", "s"], ["y"])], {"x": np.ones(1, np.float32), "s": np.array([1 << 40])}),
        ([helper.make_node("Range", ["a", "b", "c"], ["y"])], {"a": np.array(0), "b": np.array(1 << 50), "c": np.array(1)}),
        ([helper.make_node("Tile", ["x", "s"], ["y"])], {"x": np.ones(4, np.float32), "s": np.array([1 << 40])}),
        ([helper.make_node("MatMul", ["x", "x"], ["y"])], {"x": np.ones((400, 400), np.float32)}),
    ],
)
def test_what_takes_too_much_is_left(nodes: list[onnx.NodeProto], constants: Mapping[str, Any]) -> None:
    start = time.process_time()
    found = folded(nodes, constants)
    assert operators(found) == [nodes[0].op_type]
    assert time.process_time() - start < 2


def test_many_constants_take_no_more_than_their_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constant_folding, "SECONDS", -1.0)
    found = folded([helper.make_node("Neg", ["x"], ["y"])], {"x": np.ones(3, np.float32)})
    assert operators(found) == ["Neg"]
