"""ONNX's own test cases of single operators (and of their expansions into functions), for all operators with a record."""

from __future__ import annotations

import warnings

import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from sardonyx import ops
from sardonyx.base.dtypes import BY_CODE
from sardonyx.base.errors import Unsupported
from tests.ops import harness

DRAWN = "expects the numbers that numpy's own generator draws"
SKIPPED: dict[str, str] = {
    "test_bernoulli": DRAWN,
    "test_bernoulli_expanded": DRAWN,
    "test_bernoulli_double": DRAWN,
    "test_bernoulli_double_expanded": DRAWN,
    "test_bernoulli_seed": DRAWN,
    "test_bernoulli_seed_expanded": DRAWN,
    "test_training_dropout": DRAWN,
    "test_training_dropout_default": DRAWN,
    "test_training_dropout_default_mask": DRAWN,
    "test_training_dropout_mask": DRAWN,
}
"""{name of the case: why it is not compared}; each of these must fail."""

LOOSE = {"test_dft_inverse": 1e-6, "test_dft_inverse_opset19": 1e-6}
"""{name of the case: absolute tolerance}, where what is expected holds more than the case's own of rounding errors."""


def has_records(model: onnx.ModelProto) -> bool:
    """Has every node of the model an operator with a meaning as tensors, and every input a type that a tensor can have?"""
    types = [i.type.tensor_type.elem_type for i in model.graph.input]
    if not all(t in BY_CODE and BY_CODE[t].is_number for t in types):
        return False
    versions = {i.domain: i.version for i in model.opset_import}
    found = [ops.find(n.domain, n.op_type, versions.get(n.domain, 1)) for n in model.graph.node]
    return all(op is not None and op.meaning is not None for op in found)


def collect() -> dict[str, TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {c.name: c for c in collect_testcases(None) if has_records(c.model)}


CASES = collect()


def compare(case: TestCase) -> None:
    ((inputs, expected),) = case.data_sets
    feeds = {i.name: harness.array(x) for i, x in zip(case.model.graph.input, inputs, strict=True)}
    try:
        got = harness.run_model(case.model, feeds)
    except Unsupported:
        got = harness.run_model(case.model, feeds, known=True)
    harness.assert_same(got, expected, case.rtol, LOOSE.get(case.name, case.atol))


@pytest.mark.parametrize("name", [n for n in CASES if n not in SKIPPED])
def test_node_case(name: str) -> None:
    compare(CASES[name])


@pytest.mark.parametrize("name", SKIPPED)
def test_skipped_case_still_fails(name: str) -> None:
    with pytest.raises((AssertionError, Unsupported)):
        compare(CASES[name])
