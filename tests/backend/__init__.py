"""ONNX's backend interface."""
