"""Graphs as onnx_ir holds them. Whoever needs onnx_ir outside this package takes it from here: its first import is made cheap."""

from sardonyx.graph.deferred_import import imports_deferred

with imports_deferred("onnx_ir._core", "sympy", "onnx_ir._symbolic_shapes"):
    import onnx_ir

__all__ = ["onnx_ir"]
