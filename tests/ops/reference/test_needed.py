"""Each correction is needed: onnx.reference has no right answer to its case here. And it is right: it gives what the compiler, or numpy, gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import onnx.parser
import pytest

from sardonyx import GraphOptimizationLevel, InferenceSession, SessionOptions, ops
from sardonyx.graph import schemas
from sardonyx.graph.reference import kernels
from tests.ops import harness
from tests.ops.harness import Array

ML = schemas.ML


@dataclass(frozen=True)
class Needed:
    """A node, at an opset version, that onnx.reference gets wrong. expected: by default what the compiler gives."""

    name: str
    version: int
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    expected: tuple[Any, ...] | None = None
    domain: str = ""


def reals(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def read_only(*shape: int) -> Array:
    x = np.zeros(shape, np.float32)
    x.flags.writeable = False
    return x


def old_binary(name: str, function: Any, kind: str = "real") -> Needed:
    """Broadcast as it was before opset 7: b's axes are those of a from `axis` on."""
    a, b = reals(2, 3, 4) + 3, reals(3, seed=1) + 3
    if kind == "bool":
        a, b = a > 3, b > 3
    if kind == "int":
        a, b = a.astype(np.int64), b.astype(np.int64)
    return Needed(name, 6, (a, b), {"broadcast": 1, "axis": 1}, expected=(function(a, b[:, None]),))


def from_records(name: str, which: int, domain: str = "", since: int | None = None) -> Needed:
    """Case number `which` of the operator's record."""
    records = {op.since: op for op in ops.records(domain, name)}
    op = records[since if since is not None else max(records)]
    case, version = op.cases[which], harness.newest_version(op)
    return Needed(name, version, case.inputs, case.attributes, case.outputs, domain=domain)


def trained(x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> tuple[Array, ...]:
    """BatchNormalization by the batch's own statistics. x: f32[n, c, d]"""
    now = x.mean((0, 2)), x.var((0, 2))
    m, v, s, b = (p[:, None] for p in (*now, scale, bias))
    running = [0.9 * old + 0.1 * new for old, new in zip((mean, variance), now, strict=True)]
    return ((x - m) / np.sqrt(v + 1e-5) * s + b).astype(np.float32), *(r.astype(np.float32) for r in (*running, *now))


HALF, BYTES = np.float32(0.5), np.arange(6, dtype=np.uint8).reshape(2, 3)
WEIRD = np.array([[1000, 1001], [-np.inf, -np.inf], [np.inf, 0]], np.float32)
NORMAL = (reals(2, 3, 4), reals(3), reals(3, seed=1), reals(3, seed=2), np.abs(reals(3, seed=3)) + 1)
IMAGE, SCALES = reals(1, 1, 5, 7), np.array([1, 1, 0.6, 1.5], np.float32)
ROIS = np.array([[0, 0, 5, 5], [1.5, 2, 7, 6]], np.float32)
NEEDED = (
    old_binary("Add", np.add),
    old_binary("Sub", np.subtract),
    old_binary("Mul", np.multiply),
    old_binary("Div", np.divide),
    old_binary("Pow", np.power),
    old_binary("Greater", np.greater),
    old_binary("Less", np.less),
    old_binary("Equal", np.equal, "int"),
    old_binary("And", np.logical_and, "bool"),
    old_binary("Or", np.logical_or, "bool"),
    old_binary("Xor", np.logical_xor, "bool"),
    Needed("Softmax", 11, (reals(2, 3, 4),)),
    Needed("LogSoftmax", 11, (reals(2, 3, 4),)),
    Needed("LogSoftmax", 13, (read_only(0, 3),)),
    Needed("Erf", 13, (np.array([0.3, -2]),), expected=(np.array([math.erf(0.3), math.erf(-2)]),)),
    Needed("Hardmax", 11, (reals(2, 3, 4),)),
    Needed("Dropout", 6, (reals(3, 4),), {"ratio": 0.5, "is_test": 1}, expected=(reals(3, 4),)),
    Needed("Reshape", 4, (reals(2, 3, 4),), {"shape": [0, -1]}),
    Needed("Split", 1, (reals(6, 2),), {"axis": 0, "split": [1, 5]}, 2, (reals(6, 2)[:1], reals(6, 2)[1:])),
    Needed("ReduceMean", 18, (np.zeros((0, 3), np.int32), np.array([0]))),
    Needed("ReduceMean", 13, (np.zeros((0, 3), np.int32),), {"axes": [0]}),
    Needed("ReduceLogSum", 11, (np.arange(1, 7).reshape(2, 3),), {"axes": [1]}),
    Needed("ReduceLogSum", 18, (np.arange(1, 7).reshape(2, 3), np.array([1]))),
    Needed("ReduceLogSumExp", 11, (np.arange(1, 7).reshape(2, 3),), {"axes": [1]}),
    Needed("ReduceLogSumExp", 18, (WEIRD, np.array([1]))),
    Needed("Gemm", 6, (reals(2, 3), reals(3, 4), reals(2, 4)), {"beta": 2.0}),
    Needed("Gemm", 13, (np.array([[(1 << 53) + 1]]), np.array([[1]]))),
    Needed("Gemm", 13, (np.array([[1 << 63, 5]], np.uint64), np.array([[1], [1]], np.uint64)), {"alpha": 3.0}),
    from_records("LpNormalization", 1),
    from_records("LRN", 1),
    Needed("BatchNormalization", 9, NORMAL, {}, 5, trained(*NORMAL)),
    Needed("Upsample", 1, (IMAGE,), {"height_scale": 2.0, "width_scale": 3.0}, expected=(IMAGE.repeat(2, 2).repeat(3, 3),)),
    Needed("Upsample", 7, (IMAGE,), {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "linear"}),
    Needed("Upsample", 9, (IMAGE, SCALES), {"mode": "linear"}),
    Needed("Resize", 10, (IMAGE, SCALES)),
    Needed("RoiAlign", 10, (reals(1, 2, 8, 8), ROIS, np.zeros(2, np.int64)), {"output_height": 3, "spatial_scale": 0.7}),
    from_records("MaxRoiPool", 0),
    *(from_records(name, which) for name in ("RNN", "GRU", "LSTM") for which in (2, 3)),
    *(
        Needed(
            "QuantizeLinear",
            21,
            (np.array([3e9, -3e9, np.inf, 7], np.float32), HALF, t(1)),
            expected=(np.array([high, low, high, 15], t),),
        )
        for t, low, high in ((np.uint8, 0, 255), (np.int8, -128, 127), (np.uint16, 0, 65535), (np.int16, -32768, 32767))
    ),
    Needed(
        "QuantizeLinear", 13, (np.full((1, 3), 1e20, np.float32), np.array([0.5, 2, 1], np.float32), np.arange(3, dtype=np.int8))
    ),
    Needed(
        "QuantizeLinear",
        21,
        (np.full((1, 4), 1e20, np.float32), np.ones((1, 2), np.float32), np.ones((1, 2), np.uint8)),
        {"block_size": 2},
    ),
    Needed("DequantizeLinear", 10, (BYTES, HALF)),
    Needed("DequantizeLinear", 13, (BYTES, np.array([0.5, 2, 1], np.float32), np.arange(3, dtype=np.uint8)), {"axis": -1}),
    Needed("Scatter", 9, (reals(3, 3), np.array([[1, 0, 2]]), reals(1, 3, seed=1))),
    from_records("GatherElements", 0),
    from_records("NonMaxSuppression", 0),
    from_records("NonMaxSuppression", 2),
    Needed("OneHot", 11, (np.array([[1, 0], [3, -2]]), np.array([4]), np.array([2, 5], np.float32)), {"axis": 1}),
    Needed("Pad", 18, (reals(3, 3), np.array([-1, 1, 2, 0]))),
    Needed("Slice", 13, (reals(4), np.array([-9]), np.array([-10]), np.array([0]), np.array([-1]))),
    from_records("ConvTranspose", 6),
    from_records("MaxPool", 3),
    from_records("MaxPool", 6),
    Needed("AveragePool", 19, (reals(1, 2, 9),), {"kernel_shape": [3], "strides": [2], "ceil_mode": 1, "auto_pad": "SAME_LOWER"}),
    from_records("LpPool", 1),
    from_records("GlobalLpPool", 0),
    from_records("GlobalMaxPool", 1),
    *(from_records("LinearClassifier", which, ML) for which in (4, 6, 7)),
    Needed("LinearRegressor", 1, (reals(3, 2),), {"coefficients": [1.0, 2.0]}, domain=ML),
    Needed("Normalizer", 1, (-np.abs(reals(2, 3)),), {"norm": "MAX"}, domain=ML),
    Needed("Scaler", 1, (np.arange(6).reshape(3, 2),), {"offset": [1.5, 2.0], "scale": [0.5, 3.0]}, domain=ML),
    from_records("TreeEnsembleRegressor", 6, ML),
    *(from_records("TreeEnsembleClassifier", which, ML) for which in (4, 7)),
)
ELSEWHERE = ("Multinomial", "Optional")
"""Random numbers, and what is no tensor: test_tensors.py, and below."""
IDS = [f"{n.name}-{n.version}-{i}" for i, n in enumerate(NEEDED)]


def run(needed: Needed, provider: str) -> list[Array]:
    version = needed.version if needed.domain == "" else 1
    model = harness.one_node_model(
        needed.name, needed.inputs, needed.attributes, version, needed.domain, needed.outputs, range(1, len(needed.inputs))
    )
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    session = InferenceSession(model.SerializeToString(), options, providers=[provider])
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {provider}
    return session.run(None, {"x0": needed.inputs[0]})


def expected(needed: Needed) -> list[Array]:
    return list(needed.expected) if needed.expected is not None else run(needed, "CPUExecutionProvider")


def compare(got: list[Array], wanted: list[Array]) -> None:
    tolerance = 1e-12 if got[0].dtype == np.float64 else 1e-5
    harness.assert_same(got, wanted, tolerance, tolerance)


@pytest.mark.parametrize("needed", NEEDED, ids=IDS)
def test_the_correction_is_right(needed: Needed) -> None:
    compare(run(needed, "ReferenceExecutionProvider"), expected(needed))


@pytest.mark.parametrize("needed", [n for n in NEEDED if n.version < 7 and n.expected is not None], ids=lambda n: n.name)
def test_old_forms_are_compiled(needed: Needed) -> None:
    compare(run(needed, "CPUExecutionProvider"), expected(needed))


@pytest.mark.parametrize("needed", NEEDED, ids=IDS)
def test_onnx_reference_is_not(needed: Needed) -> None:
    """It gives other numbers, or none: it raises an error, or lacks the operator."""
    wanted = expected(needed)
    with mock.patch.object(kernels, "correction", return_value=None), pytest.raises(Exception):  # noqa: B017, PT011
        compare(run(needed, "ReferenceExecutionProvider"), wanted)


def test_every_reference_has_a_case() -> None:
    shown = set()
    for needed in NEEDED:
        op = ops.find(needed.domain, needed.name, needed.version if needed.domain == "" else 1)
        assert op is not None
        shown.add((needed.domain, needed.name, op.reference))
    listed = {(op.domain, op.name, op.reference) for op in ops.every() if op.reference is not None}
    assert {entry[:2] for entry in listed - shown} == {("", name) for name in ELSEWHERE}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_onnx_reference_has_no_such_values(name: str) -> None:
    """It lacks Multinomial, and makes a list of what Optional holds."""
    inner = "y = Multinomial<sample_size = 3>(x)" if name == "Multinomial" else "o = Optional(x) y = OptionalGetElement(o)"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g (float[2, 3] x) => (y) {{ {inner} }}')

    def shape() -> tuple[int, ...]:
        session = harness.reference_session(model)
        assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {"ReferenceExecutionProvider"}
        return session.run(None, {"x": reals(2, 3)})[0].shape

    assert shape() == (2, 3)
    with mock.patch.object(kernels, "correction", return_value=None), pytest.raises((AttributeError, AssertionError)):
        shape()
