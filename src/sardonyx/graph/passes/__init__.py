"""Graph passes."""

from __future__ import annotations

import onnx_ir as ir

from sardonyx.base.options import CompileOptions


def optimise(model: ir.Model, options: CompileOptions) -> None:
    """Runs the passes."""
