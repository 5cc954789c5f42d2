"""What a session tells about its model, beside onnxruntime."""

from __future__ import annotations

import onnx
import onnxruntime as ort
import pytest

import sardonyx as sx
from tests.session.models import model, relu


def described() -> bytes:
    made = onnx.load_from_string(relu())
    made.producer_name, made.domain, made.doc_string, made.model_version = "maker", "org.test", "a model", 7
    made.graph.doc_string = "a graph"
    onnx.helper.set_model_props(made, {"author": "me", "empty": ""})
    loaded: bytes = made.SerializeToString()
    return loaded


FIELDS = (
    *("custom_metadata_map", "description", "domain", "graph_description"),
    *("graph_name", "producer_name", "version"),
)


@pytest.mark.parametrize("source", [relu(), described()], ids=["bare", "described"])
@pytest.mark.parametrize("field", FIELDS)
def test_metadata_is_what_onnxruntime_tells(source: bytes, field: str) -> None:
    mine, theirs = (getattr(e.InferenceSession(source).get_modelmeta(), field) for e in (sx, ort))
    assert mine == theirs


@pytest.mark.parametrize(
    "text",
    [
        "g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }",
        "g (float[2,3] x, int64[1] s) => (float[] y) { y = Reshape (x, s) }",
        "g (float x, double[a,b,2] z) => (float y, double[a,b,2] w) { y = Relu (x) w = Abs (z) }",
        "g (string[n] x) => (string[n] y) { y = Identity (x) }",
        "g (float16[?,4] x) => (float16[?,4] y) { y = Neg (x) }",
        "g (seq(float[n]) x) => (seq(float[n]) y) { y = Identity (x) }",
    ],
)
def test_inputs_and_outputs_are_what_onnxruntime_tells(text: str) -> None:
    mine, theirs = (e.InferenceSession(model(text)) for e in (sx, ort))
    for ours, other in zip([*mine.get_inputs(), *mine.get_outputs()], [*theirs.get_inputs(), *theirs.get_outputs()], strict=True):
        assert (ours.name, ours.type) == (other.name, other.type)
        assert named(ours.shape) == named(other.shape), text


def named(shape: list[int | str | None]) -> list[int | str | None]:
    """Without the names that onnxruntime invents for unknown sizes."""
    return [None if isinstance(s, str) and s.startswith("unk__") else s for s in shape]


def test_assignments_name_every_node() -> None:
    (part,) = sx.InferenceSession(relu()).get_provider_graph_assignment_info()
    assert part.ep_name == "CPUExecutionProvider"
    assert [(n.domain, n.op_type) for n in part.get_nodes()] == [("", "Relu")]
