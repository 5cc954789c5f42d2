"""Programs of others, unmodified, that are written for ONNX Runtime: `make test-programs` fetches them and runs each with either."""
