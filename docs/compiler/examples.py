"""The networks that docs/compiler.md shows: one that goes through all stages, and one for each place of a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True)
class Example:
    """A graph in ONNX's textual form; declared values that no node makes are weights. Each node has the name of its first output."""

    name: str
    graph: str

    def model(self) -> onnx.ModelProto:
        """The same model each time."""
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 4]>\n{self.name} {self.graph}')
        generator = np.random.default_rng(0)
        for node in model.graph.node:
            node.name = node.output[0]
        for info in model.graph.value_info:
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            model.graph.initializer.append(numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), info.name))
        return model


NETWORK = Example(
    "wines",
    """\
(float[8, samples] table, string[1, samples] sensor) => (float[samples, 16] p) <float[8, 16] w, float[16] b> {
    trust = ai.onnx.ml.LabelEncoder <keys_strings = ["old", "new"], values_floats = [0.5, 1.0], default_float = 0.25> (sensor)
    weighed = Mul(table, trust)
    x = Transpose(weighed)
    product = MatMul(x, w)
    scores = Add(product, b)
    p = Softmax(scores)
}""",
)

PLACES = (
    Example("view", "(float[16, 6] x) => (float[6, 16] y) {\n    t = Transpose(x)\n    y = Relu(t)\n}"),
    Example(
        "inline",
        "(float[6, 16] x) => (float[6, 16] y) <float[16] a, float[16] b> {\n    t = Mul(x, a)\n    s = Add(t, b)\n    y = Relu(s)\n}",
    ),
    Example(
        "tile",
        "(float[6, 8] x) => (float[6, 16] y) <float[8, 16] w, float[16] b> {\n    t = MatMul(x, w)\n    s = Add(t, b)\n    y = Relu(s)\n}",
    ),
    Example(
        "row", "(float[6, 16] x) => (float[6, 16] y) <int64[1] axis = {1}> {\n    s = ReduceSum(x, axis)\n    y = Div(x, s)\n}"
    ),
    Example(
        "root", "(float[6, 16] x) => (float[6, 16] y) <int64[1] axis = {0}> {\n    s = ReduceMax(x, axis)\n    y = Sub(x, s)\n}"
    ),
)
