"""ONNX Runtime's inner module paths, for programs that import from them."""
