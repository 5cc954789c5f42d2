"""Every record's own cases, by a session in which the compiler runs the operator, against its reference."""

from __future__ import annotations

import numpy as np
import pytest

from sardonyx.base.dtypes import bf16, f16
from sardonyx.ops import every
from sardonyx.ops.record import Case, Op
from tests.ops import harness

NARROW = (f16.numpy, bf16.numpy)
CASES = [
    pytest.param(op, case, id=f"{op.domain}.{op.name}-{op.since}-{case.name or i}")
    for op in every()
    if op.meaning is not None
    for i, case in enumerate(op.cases)
]

BY_ONNXRUNTIME = frozenset(
    (
        *("AveragePool", "MaxPool", "LpPool", "GlobalMaxPool", "GlobalLpPool", "LRN", "LpNormalization", "ConvTranspose", "Resize"),
        *("Softmax", "LogSoftmax", "Hardmax", "RNN", "GRU", "LSTM", "MaxRoiPool", "NonMaxSuppression"),
        *("GatherElements", "GridSample", "STFT"),
        *("LinearClassifier", "Normalizer", "SVMClassifier", "SVMRegressor", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    )
)
"""Operators that onnx.reference gets wrong, or refuses, for some attributes or versions."""


@pytest.mark.parametrize(("op", "case"), CASES)
def test_case(op: Op, case: Case) -> None:
    got = harness.run_case(op, case)
    inputs = [widened(x) for x in case.inputs] if op.name not in ("Cast", "CastLike") else case.inputs
    if op.domain == "com.microsoft" or not op.in_standard or op.name in BY_ONNXRUNTIME:
        newest = 9 if op.domain == "" and not op.in_standard else 21  # for which onnxruntime has all of them
        version = min(harness.newest_version(op), newest)
        expected = harness.onnxruntime_reference(
            op.name, inputs, case.attributes, version=version, domain=op.domain, outputs=case.outputs
        )
    else:
        version = harness.newest_version(op)
        expected = harness.reference(op.name, inputs, case.attributes, version=version, domain=op.domain, outputs=case.outputs)
    expected = [e.astype(g.dtype) if g.dtype in NARROW else e for g, e in zip(got, expected, strict=True)]
    harness.assert_same(got, expected, op.tolerance, op.tolerance)


def widened(x: harness.Array | None) -> harness.Array | None:
    """f16 and bf16 as f32: their reference is the operator in higher precision, rounded once."""
    return x.astype(np.float32) if x is not None and x.dtype in NARROW else x
