"""Operators outside the standard, from the model's file to the session: their schemas and inference follow from their records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from sardonyx import InferenceSession, ops
from sardonyx.base.errors import Fail, InvalidGraph, SardonyxError
from sardonyx.graph import record_schemas, schemas
from sardonyx.inspection.verify import verify
from tests.graph.models import data, model, values

MICROSOFT = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
THIRTEEN = '<ir_version: 8, opset_import: ["" : 13]> '
OUTSIDE = [op for op in ops.every() if not op.in_standard]
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def shape(found: object) -> list[object]:
    return [size if isinstance(size, int) else size.value for size in found.shape]


@pytest.mark.parametrize("op", OUTSIDE, ids=lambda op: f"{op.domain}.{op.name}")
def test_every_record_outside_the_standard_makes_a_schema(op: ops.Op) -> None:
    schema = schemas.find(op.domain, op.name, op.since)
    assert schema is not None
    assert schema.name == op.name
    assert schema.min_input >= 1
    repeated = record_schemas.signature_of(op).repeated
    assert (schema.max_input == len(schema.inputs)) is (repeated is None)
    assert set(schema.required) <= set(schema.attributes)


@pytest.mark.parametrize("head", [MICROSOFT, '<ir_version: 8, opset_import: ["" : 17]> '], ids=["imported", "not imported"])
def test_inference_goes_on_behind_them(head: str) -> None:
    text = "g (float[n, 4] x, float[4, 5] w) => (float[n, b] y) { g = com.microsoft.Gelu(x) t = Transpose(g) u = Transpose(t) y = MatMul(u, w) }"
    found = values(model(text, head))
    assert shape(found["g"]) == ["n", 4]
    assert shape(found["t"]) == [4, "n"]
    assert shape(found["y"]) == ["n", 5]


def test_inside_a_body() -> None:
    text = (
        "g (bool c, float[n, 4] x) => (float[a, b] y) { y = If (c) <then_branch = t () => (float[p, q] u) { u = com.microsoft.QuickGelu(x) },"
        " else_branch = e () => (float[p, q] v) { v = Relu(x) }> }"
    )
    session = InferenceSession(data(text, MICROSOFT))
    for c in (True, False):
        (got,) = session.run(None, {"c": np.array(c), "x": X})
        np.testing.assert_allclose(got, X / (1 + np.exp(-1.702 * X)) if c else np.maximum(X, 0), 1e-5, 1e-6)


def test_sizes_that_are_constants_of_the_model() -> None:
    text = "g (float[n, 4] x) => (float[n, b] y) { w = Constant<value = float[4, 2] {1, 2, 3, 4, 5, 6, 7, 8}>() y = com.microsoft.FusedMatMul<alpha = 0.5>(x, w) }"
    assert shape(values(model(text, MICROSOFT))["y"]) == ["n", 2]


@pytest.mark.parametrize(
    ("node", "error", "message"),
    [
        ("Gelu(x, x)", InvalidGraph, "input size 2"),
        ("BiasGelu(x)", InvalidGraph, "input size 1"),
        ("BiasGelu(, x)", InvalidGraph, "has no input x"),
        ("Gelu<alpha = 1.0>(x)", InvalidGraph, "Unrecognized attribute: alpha"),
        ("QuickGelu<alpha = 1>(x)", InvalidGraph, "Mismatched attribute type"),
        ("MultiHeadAttention(x)", InvalidGraph, "Required attribute 'num_heads'"),
        ("FusedMatMul(x, x)", Fail, "FusedMatMul"),
        ("Gelo(x)", Fail, "Gelo"),
    ],
)
def test_wrong_nodes_are_refused_when_the_model_is_loaded(node: str, error: type[SardonyxError], message: str) -> None:
    with pytest.raises(error, match=message):
        model(f"g (float[3, 4] x) => (y) {{ y = com.microsoft.{node} }}", MICROSOFT)


@pytest.mark.parametrize(("kind", "node"), [("int32", "Gelu(x)"), ("string", "FastGelu(x)"), ("double", "BiasGelu(x, w)")])
def test_wrong_element_types_are_refused_when_the_model_is_loaded(kind: str, node: str) -> None:
    with pytest.raises(SardonyxError, match="Type Error"):
        model(f"g ({kind}[3, 4] x, float[4] w) => (y) {{ y = com.microsoft.{node} }}", MICROSOFT)


def test_layer_normalization_before_the_standard_had_it() -> None:
    text = (
        "g (float[n, 4] x, float[4] s, float[4] b) => (float[p, q] y) { y = LayerNormalization<axis = -1, epsilon = 0.1>(x, s, b) }"
    )
    scale, bias = np.array([1, 2, 3, 4], np.float32), np.array([4, 3, 2, 1], np.float32)
    (got,) = InferenceSession(data(text, THIRTEEN)).run(None, {"x": X, "s": scale, "b": bias})
    expected = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 0.1) * scale + bias
    np.testing.assert_allclose(got, expected, 1e-5, 1e-5)


def test_the_standards_own_operators_are_not_there_before_their_time() -> None:
    with pytest.raises(InvalidGraph, match="No Op registered for Gelu"):
        model("g (float[3] x) => (y) { y = Gelu(x) }", THIRTEEN)


def test_onnx_has_its_own_schemas_afterwards() -> None:
    model("g (float[3] x) => (y) { y = com.microsoft.Gelu(x) }", MICROSOFT)
    with pytest.raises(Fail):
        model("g (float[3, 4] x) => (y) { y = com.microsoft.FusedMatMul(x, x) }", MICROSOFT)
    assert not onnx.defs.has("Gelu", 1, "com.microsoft")
    assert not onnx.defs.has("FusedMatMul", 1, "com.microsoft")
    assert record_schemas.find("", "LayerNormalization", 17) is None


def test_models_are_loaded_by_many_threads_at_once() -> None:
    texts = [
        f"g (float[n, {k}] x) => (y) {{ y = com.microsoft.{name}(x) }}" for k in range(1, 20) for name in ("Gelu", "QuickGelu")
    ]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: shape(values(model(text, MICROSOFT))["y"]), texts))
    assert found == [["n", k] for k in range(1, 20) for _ in range(2)]


def test_verify_compares_them_with_numpy(tmp_path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data("g (float[2, 4] x) => (float[2, 4] y) { g = com.microsoft.FastGelu(x) y = Relu(g) }", MICROSOFT))
    assert all(finding.is_agreement for finding in verify(path, {"x": X[:2]}, 1e-5))
