"""The public names of ONNX Runtime's Python package, and programs that use them."""
