"""Graphs of models, held by onnx_ir. Other packages import onnx_ir from here, where its import is made cheap."""

from sardonyx.graph.deferred_import import imports_deferred

with imports_deferred("onnx_ir._core", "sympy", "onnx_ir._symbolic_shapes"):
    import onnx_ir

__all__ = ["onnx_ir"]
