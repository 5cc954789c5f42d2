"""Small models as text, written to files."""

from __future__ import annotations

from pathlib import Path

import onnx


def save(folder: Path, text: str, name: str = "model.onnx") -> Path:
    """The model `graph` of opset 21 given in ONNX's textual form, as a file."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    onnx.save(model, folder / name)
    return folder / name


CHAIN = """
graph (float[batch, 3] x) => (float[batch, 3] d) {
    a = Abs(x)
    b = Neg(a)
    c = Relu(b)
    d = Add(c, a)
}
"""
