"""All corrections, by a session that leaves every node to the reference: ONNX's cases, and the records' cases beside the meaning."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from sardonyx.base.errors import Unsupported
from sardonyx.ops import every, find
from sardonyx.ops.record import Case, Op
from tests.ops import harness

DRAWN = ("test_training_dropout", "test_bernoulli")  # expect the numbers that numpy's own generator draws


def is_corrected(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    versions = {i.domain: i.version for i in model.opset_import}
    if not onnx.defs.has(node.op_type, node.domain):
        return False
    since = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain).since_version
    op = find(node.domain, node.op_type, since)
    return op is not None and op.reference is not None


def collect() -> dict[str, TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return {c.name: c for c in cases if any(is_corrected(n, c.model) for n in c.model.graph.node) and not c.name.startswith(DRAWN)}


CASES = collect()
RECORDS = [
    pytest.param(op, case, id=f"{op.name}-{op.since}-{case.name or i}")
    for op in every()
    if op.meaning is not None and op.reference is not None
    for i, case in enumerate(op.cases)
]


@pytest.mark.parametrize("name", CASES)
def test_case_of_the_standard(name: str) -> None:
    case = CASES[name]
    session = harness.reference_session(case.model)
    for inputs, expected in case.data_sets:
        feeds = {i.name: plain(x) for i, x in zip(case.model.graph.input, inputs, strict=True)}
        for g, e in zip(session.run(None, feeds), expected, strict=True):
            compare(g, plain(e), case)


def plain(x: Any) -> Any:
    """A value of a case as a session takes it."""
    return x if x is None or isinstance(x, list) else harness.array(x)


def compare(got: Any, expected: Any, case: TestCase) -> None:
    if isinstance(expected, list):
        for g, e in zip(got, expected, strict=True):
            compare(g, e, case)
    else:
        harness.assert_same([np.asarray(got)], [np.asarray(expected)], case.rtol, case.atol)


@pytest.mark.parametrize(("op", "case"), RECORDS)
def test_case_of_a_record(op: Op, case: Case) -> None:
    version = harness.newest_version(op)
    got = harness.run_by_reference(op.name, case.inputs, case.attributes, version=version, domain=op.domain, outputs=case.outputs)
    harness.assert_same(got, meaning(op, case, version), 1e-5, 1e-5)


def meaning(op: Op, case: Case, version: int) -> list[harness.Array]:
    """What the record means, in numpy; inputs are known beforehand where the operator asks for it."""
    model = harness.one_node_model(op.name, case.inputs, case.attributes, version, op.domain, case.outputs)
    try:
        return harness.run_model(model, harness.named(case.inputs))
    except Unsupported:
        return harness.run_model(model, harness.named(case.inputs), known=True)


BESIDE = frozenset(
    (
        *("Upsample", "Resize", "RoiAlign", "Multinomial", "Optional", "DequantizeLinear"),
        *("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "Reshape", "Split", "Dropout"),
    )
)
"""Tried in the files beside this one, in old versions."""


def test_every_correction_is_tried() -> None:
    tried = BESIDE | {n.op_type for c in CASES.values() for n in c.model.graph.node} | {p.values[0].name for p in RECORDS}
    listed = {op.name for op in every() if op.reference is not None}
    assert sorted(listed - tried) == []
