"""Operators that onnx.reference lacks, gets wrong or refuses, in numpy of ours: what records name as their `reference`."""
