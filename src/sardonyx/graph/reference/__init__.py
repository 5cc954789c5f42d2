"""The reference interpreter: runs graphs node by node in numpy, by onnx's reference implementation, with corrections where that is
wrong.
"""
