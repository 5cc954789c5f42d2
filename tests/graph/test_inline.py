"""A model's own functions: inlined, with their attributes, however deep; recursion and growth without bound are refused."""

from __future__ import annotations

import time

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1]>'
LOCAL = '<opset_import: ["": 21, "f": 1], domain: "f">'


def source(graph: str, *functions: str) -> bytes:
    return onnx.parser.parse_model("\n".join((HEAD, graph, *(f"{LOCAL} {f}" for f in functions)))).SerializeToString()


def outputs(model: bytes) -> list[np.ndarray]:
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    mine, theirs = sx.InferenceSession(model), ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    got, expected = mine.run(None, {"x": x}), theirs.run(None, {"x": x})
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return list(got)


def test_a_function_that_calls_another() -> None:
    outputs(
        source(
            "g (float[n,3] x) => (float[n,3] y) { t = f.twice (x) y = f.twice (t) }",
            "twice (a) => (b) { c = f.negated (a) d = f.negated (a) b = Add (c, d) }",
            "negated (a) => (b) { b = Neg (a) }",
        )
    )


def test_attributes_are_handed_on_and_have_defaults() -> None:
    outputs(
        source(
            "g (float[n,3] x) => (float[n,3] y, float[n,3] z) { y = f.leaky <alpha = 0.25> (x) z = f.leaky (x) }",
            "leaky <alpha: float = 0.5> (a) => (b) { b = LeakyRelu <alpha: float = @alpha> (a) }",
        )
    )


def test_a_function_inside_a_body() -> None:
    outputs(
        source(
            """g (float[n,3] x) => (float[n,3] y) { s = ReduceSum <keepdims = 0> (x) z = Constant <value_float = 0.5> () c = Less (s, z)
            y = If (c) <then_branch = t () => (float[n,3] p) { p = f.square (x) }, else_branch = e () => (float[n,3] q) { q = Neg (x) }> }""",
            "square (a) => (b) { b = Mul (a, a) }",
        )
    )


def test_functions_that_call_themselves_are_refused() -> None:
    wrong = source(
        "g (float[n,3] x) => (float[n,3] y) { y = f.a (x) }", "a (u) => (v) { v = f.b (u) }", "b (u) => (v) { v = f.a (u) }"
    )
    with pytest.raises(Fail, match="Function calls itself"):
        sx.InferenceSession(wrong)


def test_growth_without_bound_is_refused_in_no_time() -> None:
    """Forty functions, each calling the next one twice: 2^40 nodes."""
    functions = [f"f{i} (a) => (b) {{ c = f.f{i + 1} (a) b = f.f{i + 1} (c) }}" for i in range(40)]
    bomb = source("g (float[n,3] x) => (float[n,3] y) { y = f.f0 (x) }", *functions, "f40 (a) => (b) { b = Neg (a) }")
    start = time.process_time()
    with pytest.raises(Fail, match="would make a graph of"):
        sx.InferenceSession(bomb)
    assert time.process_time() - start < 20
