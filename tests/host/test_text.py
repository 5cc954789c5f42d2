"""com.microsoft.Tokenizer, from a session, beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from sardonyx import InferenceSession
from sardonyx.base.errors import SardonyxError

TEXTS = np.array(["Hello World", "I love  computer science !", "", "ab12_x äöü, ok."], object)
PLAIN = {"mark": 0, "mincharnum": 1, "pad_value": "#"}


def model(rank: int, **attributes: Any) -> bytes:
    node = onnx.helper.make_node("Tokenizer", ["x"], ["y"], domain="com.microsoft", **attributes)
    kind = onnx.TensorProto.STRING
    x, y = onnx.helper.make_tensor_value_info("x", kind, [None] * rank), onnx.helper.make_tensor_value_info("y", kind, None)
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def same_as_onnxruntime(x: np.ndarray[Any, Any], **attributes: Any) -> None:
    made = model(x.ndim, **attributes)
    (expected,) = onnxruntime.InferenceSession(made).run(None, {"x": x})
    session = InferenceSession(made)
    (got,) = session.run(None, {"x": x})
    assert got.shape == expected.shape
    assert got.tolist() == expected.tolist()
    assert [part.ep_name for part in session.get_provider_graph_assignment_info()] == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    "x", [TEXTS, TEXTS[:, None], TEXTS.reshape(2, 2), TEXTS[2:3], TEXTS[:0], TEXTS[:0].reshape(2, 0)], ids=lambda x: str(x.shape)
)
@pytest.mark.parametrize("mark", [0, 1])
@pytest.mark.parametrize(
    "how",
    [
        {"separators": [" "]},
        {"separators": [""]},
        {"separators": [" ", "o"]},
        {"separators": ["[ ,.]+"]},
        {"tokenexp": "[a-zA-Z0-9_]+"},
        {"tokenexp": r"\w\w+"},
        {"tokenexp": "l|lo|World"},
        {"tokenexp": "[[:alpha:]]+?"},
        {"tokenexp": "[a-z]*"},
        {"tokenexp": "nowhere"},
        {"separators": [" "], "tokenexp": "a"},
    ],
    ids=str,
)
def test_tokens(how: dict[str, Any], mark: int, x: np.ndarray[Any, Any]) -> None:
    same_as_onnxruntime(x, **PLAIN | {"mark": mark} | how)


@pytest.mark.parametrize("least", [2, 3, 40])
def test_short_tokens_are_left_out(least: int) -> None:
    same_as_onnxruntime(TEXTS, **PLAIN | {"mincharnum": least, "separators": [" "]})


@pytest.mark.parametrize(
    "wrong",
    [{}, {"mincharnum": 0, "tokenexp": "a"}, {"mincharnum": 2, "separators": [""]}, {"tokenexp": "["}, {"separators": ["("]}],
)
def test_wrong_attributes_are_refused_when_the_session_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(SardonyxError, match="Tokenizer"):
        InferenceSession(model(1, **PLAIN | wrong))


def test_texts_of_three_axes_are_refused() -> None:
    with pytest.raises(SardonyxError, match="Tokenizer"):
        InferenceSession(model(3, **PLAIN, separators=[" "]))
