"""The meaning of every operator, in numpy: node by node through onnx's reference implementation, corrected where that is wrong."""
