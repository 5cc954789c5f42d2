"""Graphs of models, held by onnx_ir. Other packages import onnx_ir from here, where its import and that of onnx are made cheap."""

from sardonyx.graph.deferred_import import QuickMetadata, imports_deferred

UNUSED = ("compose", "gen_proto", "parser", "printer", "serialization", "utils", "version_converter")
"""Modules of onnx that loading a model does not need: they take half of the time that importing onnx takes."""

MESSAGES = "google.protobuf.internal.python_message"
"""Protobuf's messages in Python, which it imports even where it uses its C library instead."""

with (
    imports_deferred("onnx", QuickMetadata(), *(f"onnx.{name}" for name in UNUSED)),
    imports_deferred("google.protobuf.descriptor_pool", MESSAGES),
    imports_deferred("google.protobuf.internal.builder", MESSAGES),
):
    import onnx  # noqa: F401
with imports_deferred("onnx_ir._core", "sympy", "onnx_ir._symbolic_shapes"):
    import onnx_ir

__all__ = ["onnx_ir"]
