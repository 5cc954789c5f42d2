"""Models of one node for tests of sessions."""

from __future__ import annotations

import onnx
import onnx.parser


def model(text: str) -> bytes:
    """The model whose graph is `text` in ONNX's textual syntax, opset 21."""
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}').SerializeToString()


def relu() -> bytes:
    """y = relu(x), x: f32[n, 3]."""
    return model("g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }")
