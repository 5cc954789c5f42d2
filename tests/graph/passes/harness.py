"""Runs one pass on a small model: the graph is verified after it, and gives the numbers that it gave before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.verify import verify
from tests.graph.models import HEAD, data, operators

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[ir.Model], bool]
Numbers = Callable[[onnx.ModelProto, Mapping[str, Array]], list[Array]]


def after(
    run: Run,
    model: str | onnx.ModelProto,
    feeds: Mapping[str, Array],
    head: str = HEAD,
    tolerance: float = 1e-5,
    numbers: Numbers | None = None,
) -> ir.Model:
    """The model (in ONNX's text form, or as it is) after a pass. Asserts that the pass says whether it changed the graph, that what it
    leaves is well formed, and that it computes the same. numbers: what computes the outputs, onnx.reference by default."""
    numbers = numbers or by_reference
    source = onnx.load_model_from_string(data(model, head)) if isinstance(model, str) else model
    found = load(source.SerializeToString(), LoadOptions())
    before, shown = numbers(source, feeds), str(found.graph)
    changed = run(found)
    assert changed == (str(found.graph) != shown)
    verify(found)
    compare(numbers(as_proto(found), feeds), before, tolerance)
    return found


def as_proto(model: ir.Model) -> onnx.ModelProto:
    return ir.serde.serialize_model(model)


def by_reference(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs, by onnx.reference."""
    evaluator: Any = ReferenceEvaluator(model)
    return [np.asarray(output) for output in evaluator.run(None, dict(feeds))]


def by_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs, by ONNX Runtime: onnx.reference has no groups of transposed convolutions."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, dict(feeds))]


def compare(got: list[Array], wanted: list[Array], tolerance: float) -> None:
    assert [a.dtype for a in got] == [a.dtype for a in wanted]
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, tolerance, tolerance)


def bodies(model: ir.Model) -> list[list[str]]:
    """The operators of each body, in order."""
    return [[node.op_type for node in graph] for graph in model.graph.subgraphs()]


def reals(*shape: int) -> Array:
    return np.random.default_rng([7, *shape]).standard_normal(shape).astype(np.float32)


__all__ = ["after", "as_proto", "bodies", "by_onnxruntime", "by_reference", "compare", "operators", "reals"]
