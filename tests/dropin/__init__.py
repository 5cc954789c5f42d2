"""Programs for ONNX Runtime that run with this package under its name."""
