"""Small models for examples: `logreg_iris.onnx`, `mul_1.onnx` and `sigmoid.onnx`, with ONNX Runtime's names and ports."""

from __future__ import annotations

import os


def get_example(name: str) -> str:
    """Return the path of an example model. Raises FileNotFoundError if there is none of this name."""
    full = os.path.join(os.path.abspath(os.path.dirname(__file__)), name)
    if os.path.basename(name) != name or not name.endswith(".onnx") or not os.path.exists(full):
        raise FileNotFoundError(f"Unable to find example '{name}'")
    return full
