"""Fills in what docs/kernels.md shows of its examples, from what the compiler makes of them: `python docs/kernels.py`."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sardonyx.base.options import CompileOptions
from sardonyx.inspection.loops import kernels_of, lowered_parts
from sardonyx.loop.printer import text
from sardonyx.lower.describe import describe

PAGE = Path(__file__).with_name("kernels.md")
TARGET = "avx512"
WIDTH = 170
"""Characters of a line that are shown."""


@dataclass(frozen=True)
class Example:
    """A graph in ONNX's textual form; declared values that no node makes are weights. Each node has the name of its first output.

    shown: which kernels, in the order of their calls; the first `lines` lines of each.
    """

    name: str
    graph: str
    shown: tuple[int, ...] = (-1,)
    lines: int = 24
    winograd: bool = True

    def model(self) -> onnx.ModelProto:
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]>\n{self.name} {self.graph}')
        for node in model.graph.node:
            node.name = node.output[0]
        for info in model.graph.value_info:
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            number = 0.5 if np.issubdtype(dtype, np.floating) else 3
            model.graph.initializer.append(numpy_helper.from_array(np.full(shape, number, dtype), info.name))
        return model

    def section(self) -> str:
        """The graph, its nests, and the loops of the kernels."""
        options = CompileOptions(target=TARGET, winograd=self.winograd)
        (program,) = lowered_parts(self.model().SerializeToString(), options)
        kernels = kernels_of(program)
        loops = [shortened(text(kernels[i][0]), self.lines) for i in self.shown]
        return "```\n" + "\n\n".join([self.graph, renumbered(describe(program)), *loops]) + "\n```\n"


def renumbered(words: str) -> str:
    """Tensors are numbered in the order of their making, in the whole process; here in the order of their appearance."""
    numbers: dict[str, str] = {}
    return re.sub(
        r"(?<=#)\d+|(?<=\bi)\d+(?=_)|(?<=\bt)\d+(?=\.state)", lambda m: numbers.setdefault(m[0], str(len(numbers) + 1)), words
    )


def shortened(words: str, most: int) -> str:
    """The first lines, the long ones without their middle; where lines repeat but for their numbers, two of each."""
    lines = words.splitlines()
    kinds = [re.sub(r"\d+", "0", line) for line in lines]
    out: list[str] = []
    for i, line in enumerate(lines):
        if len(out) == most:
            return "\n".join([*out, f"… ({len(lines) - i} more lines)"])
        if any(i >= 2 * p and kinds[i] == kinds[i - p] == kinds[i - 2 * p] for p in (1, 2)):
            line = " " * (len(line) - len(line.lstrip())) + "…"
            if out[-1] == line:
                continue
        out.append(line if len(line) <= WIDTH else f"{line[: WIDTH // 2]} … {line[-WIDTH // 2 + 3 :]}")
    return "\n".join(out)


EXAMPLES = (
    Example(
        "product",
        """\
(float[rows, 768] x) => (float[rows, 3072] y) <float[768, 3072] w, float[3072] b> {
    product = MatMul(x, w)
    sum = Add(product, b)
    y = Relu(sum)
}""",
    ),
    Example(
        "convolution",
        """\
(float[batch, 64, 56, 56] x) => (float[batch, 64, 56, 56] y) <float[64, 64, 3, 3] w, float[64] b> {
    sum = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    y = Relu(sum)
}""",
        winograd=False,
    ),
    Example(
        "winograd",
        """\
(float[batch, 64, 56, 56] x) => (float[batch, 64, 56, 56] y) <float[64, 64, 3, 3] w, float[64] b> {
    sum = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    y = Relu(sum)
}""",
        shown=(-3, -2, -1),
        lines=8,
    ),
    Example(
        "integers",
        """\
(uint8[rows, 768] x) => (int32[rows, 768] y) <int8[768, 768] w> {
    y = MatMulInteger(x, w)
}""",
    ),
    Example(
        "dequantised",
        """\
(uint8[1, 64, 56, 56] q) => (uint8[1, 64, 56, 56] y)
<int8[64, 64, 3, 3] w, float[64] sw, float[64] b, float sx = {0.1}, uint8 zx = {131}, float sy = {0.3}, uint8 zy = {0}> {
    x = DequantizeLinear(q, sx, zx)
    weights = DequantizeLinear <axis = 0> (w, sw)
    sum = Conv <pads = [1, 1, 1, 1]> (x, weights, b)
    clipped = Relu(sum)
    y = QuantizeLinear(clipped, sy, zy)
}""",
        shown=(-1,),
    ),
    Example(
        "depthwise",
        """\
(float[batch, 16, 16, 384] x) => (float[batch, 14, 14, 384] y) <float[384, 1, 3, 3] w, float[384] b> {
    planes = Transpose <perm = [0, 3, 1, 2]> (x)
    sum = Conv <group = 384> (planes, w, b)
    clipped = Relu(sum)
    y = Transpose <perm = [0, 2, 3, 1]> (clipped)
}""",
    ),
    Example(
        "norm",
        """\
(float[rows, 768] x) => (float[rows, 768] y) <float[768] scale, float[768] bias> {
    y = LayerNormalization(x, scale, bias)
}""",
        lines=30,
    ),
    Example(
        "softmax",
        """\
(float[rows, n] x) => (float[rows, n] y) {
    y = Softmax(x)
}""",
    ),
    Example(
        "attention",
        """\
(float[batch, 12, n, 64] q, float[batch, 12, 64, n] k, float[batch, 12, n, 64] v) => (float[batch, 12, n, 64] y) <float scale = {0.125}> {
    scores = MatMul(q, k)
    scaled = Mul(scores, scale)
    p = Softmax(scaled)
    y = MatMul(p, v)
}""",
        lines=40,
    ),
    Example(
        "bottleneck",
        """\
(float[batch, 24, 56, 56] x) => (float[batch, 24, 56, 56] y)
<float[144, 24, 1, 1] w1, float[144, 1, 3, 3] w2, float[24, 144, 1, 1] w3> {
    wide = Conv(x, w1)
    expanded = Relu(wide)
    window = Conv <group = 144, pads = [1, 1, 1, 1]> (expanded, w2)
    filtered = Relu(window)
    narrow = Conv(filtered, w3)
    y = Add(narrow, x)
}""",
        shown=(-2, -1),
    ),
    Example(
        "one_row",
        """\
(float[1, 768] x) => (float[1, 3072] y) <float[768, 3072] w, float[3072] b> {
    product = MatMul(x, w)
    sum = Add(product, b)
    y = Relu(sum)
}""",
    ),
    Example(
        "decode",
        """\
(float[1, 12, new, 64] q, float[1, 12, past, 64] keys, float[1, 12, past, 64] values, float[1, 12, new, 64] k, float[1, 12, new, 64] v)
=> (float[1, 12, new, 64] y, float[1, 12, all, 64] new_keys, float[1, 12, all, 64] new_values) <float scale = {0.125}> {
    new_keys = Concat <axis = 2> (keys, k)
    new_values = Concat <axis = 2> (values, v)
    turned = Transpose <perm = [0, 1, 3, 2]> (new_keys)
    scores = MatMul(q, turned)
    scaled = Mul(scores, scale)
    p = Softmax(scaled)
    y = MatMul(p, new_values)
}""",
        lines=32,
    ),
    Example(
        "recurrent",
        """\
(float[steps, batch, 32] x) => (float[steps, 1, batch, 64] y) <float[1, 256, 32] w, float[1, 256, 64] r> {
    y = LSTM <hidden_size = 64> (x, w, r)
}""",
        shown=(0, 2),
    ),
    Example(
        "maps",
        """\
(float[batch, 64, 32, 32] x, float[batch, 64, 32, 32] z) => (float[batch, 64, 32, 32] y, float[batch, 64, 34, 34] bordered)
<int64[8] border = {0, 0, 1, 1, 0, 0, 1, 1}> {
    product = Mul(x, z)
    sum = Add(product, x)
    y = Sigmoid(sum)
    bordered = Pad(x, border)
}""",
        shown=(0, 1, -1),
    ),
    Example(
        "whole",
        """\
(float[rows, n] x) => (float y) {
    square = Mul(x, x)
    y = ReduceMean <keepdims = 0> (square)
}""",
    ),
    Example(
        "trees",
        """\
(float[rows, 4] x) => (float[rows, 1] y) {
    y = ai.onnx.ml.TreeEnsembleRegressor <n_targets = 1,
        nodes_treeids = [0, 0, 0, 1, 1, 1], nodes_nodeids = [0, 1, 2, 0, 1, 2],
        nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"], nodes_featureids = [2, 0, 0, 1, 0, 0],
        nodes_values = [0.5, 0.0, 0.0, 1.5, 0.0, 0.0], nodes_truenodeids = [1, 0, 0, 1, 0, 0], nodes_falsenodeids = [2, 0, 0, 2, 0, 0],
        target_treeids = [0, 0, 1, 1], target_nodeids = [1, 2, 1, 2], target_ids = [0, 0, 0, 0], target_weights = [1.0, 2.0, 3.0, 4.0]> (x)
}""",
    ),
)


def filled(page: str) -> str:
    """The page with each example's section between its markers."""
    for example in EXAMPLES:
        begin, end = f"<!-- {example.name}: begin -->\n", f"<!-- {example.name}: end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{PAGE.name} has no place for {example.name}")
        page = f"{before}{begin}\n{example.section()}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
