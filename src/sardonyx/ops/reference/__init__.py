"""Operators in numpy that onnx.reference lacks, refuses or computes wrongly. Records name them as their `reference`."""
