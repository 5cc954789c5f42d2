"""Divisions before a rounding to narrow integers become multiplications, with the same integers as results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import sardonyx
from sardonyx.base.options import CompileOptions
from sardonyx.inspection.loops import lowered_parts
from sardonyx.loop.nodes import Op, walk
from sardonyx.lower.divisions import LEAST_DIVISOR, MOST_DIVISOR

Array = np.ndarray
SCALES = [0.1, 1 / 3, 0.048065692, 7.192571, float(np.nextafter(np.float32(2), np.float32(0))), 1e-9, 3e11, -0.3]


def quantiser(scale: float, dtype: Any, zero: int) -> bytes:
    weights = [numpy_helper.from_array(np.array(scale, np.float32), "s"), numpy_helper.from_array(np.array(zero, dtype), "z")]
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n"])],
        [helper.make_empty_tensor_value_info("y")],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return made.SerializeToString()  # type: ignore[no-any-return]


def near_ties(scale: float, limit: int) -> Array:
    """Floats around all halves between integers times the scale, and the extremes of f32."""
    halves = (np.arange(-limit, limit + 1) + 0.5) * np.float64(np.float32(scale))
    found = [halves.astype(np.float32)]
    for direction in (np.inf, -np.inf):
        x = found[0]
        for _ in range(3):
            x = np.nextafter(x, np.float32(direction))
            found.append(x)
    edges = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, np.inf, -np.inf, 1e20, -1e20, 2.0**61], np.float32)
    return np.concatenate([*found, edges])


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 3), (np.int8, 0), (np.uint16, 500)])
@pytest.mark.parametrize("scale", SCALES)
def test_same_integers(scale: float, dtype: Any, zero: int) -> None:
    limits = np.iinfo(dtype)
    x = near_ties(scale, 70_000 if limits.bits > 8 else 300)
    with np.errstate(over="ignore"):
        wanted = np.clip(np.rint(x / np.float32(scale)) + np.float32(zero), limits.min, limits.max).astype(dtype)
    np.testing.assert_array_equal(sardonyx.InferenceSession(quantiser(scale, dtype, zero)).run(None, {"x": x})[0], wanted)


def divisions(model: bytes, **options: Any) -> int:
    """The number of divisions of floats in the values that the program stores."""
    program, *_ = lowered_parts(model, CompileOptions(**options))
    bodies = [v.body for nest in program.nests for v in nest.statements if v.body is not None]
    return sum(isinstance(e, Op) and e.fn == "div" for body in bodies for e in walk(body))


@pytest.mark.parametrize(
    ("scale", "target", "left"),
    [(0.1, "avx2", 0), (0.1, "sse2", 1), (0.25, "avx2", 1), (LEAST_DIVISOR / 3, "avx2", 1), (MOST_DIVISOR * 3, "avx2", 1)],
)
def test_divisions_that_are_left(scale: float, target: str, left: int) -> None:
    """Without fused multiply-adds, by powers of two, and by numbers near the limits of f32."""
    assert divisions(quantiser(scale, np.uint8, 0), target=target) == left


def test_other_divisions_are_left() -> None:
    """A quotient that is not rounded to an integer of few bits must be exact whatever its size."""
    weights = [numpy_helper.from_array(np.array(0.1, np.float32), "s")]
    nodes = [helper.make_node("Div", ["x", "s"], ["q"]), helper.make_node("Round", ["q"], ["r"])]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Cast", ["r"], ["y"], to=6)],
        "g",
        [helper.make_tensor_value_info("x", 1, ["n"])],
        [helper.make_empty_tensor_value_info("y")],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    assert divisions(made.SerializeToString(), target="avx2") == 1
