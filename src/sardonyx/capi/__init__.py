"""ONNX Runtime's inner module paths, for programs that import names from there."""
