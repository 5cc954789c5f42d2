"""Folds a constant factor or summand per channel into the weights and bias of the convolution before it.

1. Mul(Conv(x, w, b), c) -> Conv(x, w c, b c)
2. Add(Conv(x, w, b), c) -> Conv(x, w, b + c)

c is one number, or one for each channel: shape [1, m, 1, ...] or [m, 1, ...]. The rules apply only if no other node reads the value
in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sardonyx.graph.passes.rewrite import add_constant, bypass, computed, float64, only_reader, tensor_of

Numbers = npt.NDArray[np.float64]


def fold_convolution_constants(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 and 2) to the whole model. Returns whether it changed."""
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain == "" and node.op_type == "Conv":
            while fold_reader(node):
                changed = True
    return changed


def fold_reader(node: ir.Node) -> bool:
    """Fold the only user of the convolution into it if a rule applies. Returns whether one did."""
    reader = only_reader(node.outputs[0])
    if reader is None or reader.domain != "" or reader.op_type not in ("Mul", "Add") or "broadcast" in reader.attributes:
        return False
    other = reader.inputs[1] if reader.inputs[0] is node.outputs[0] else reader.inputs[0]
    weights, constant = tensor_of(node.inputs[1]), tensor_of(other)
    before = node.inputs[2] if len(node.inputs) > 2 else None
    bias = tensor_of(before)
    if weights is None or constant is None or (before is not None and bias is None):
        return False
    channels = int(weights.shape.numpy()[0])
    if bias is not None and tuple(bias.shape.numpy()) != (channels,):
        return False
    if not is_per_channel(constant.shape.numpy(), channels, len(weights.shape)) or not bypass(reader, node.outputs[0]):
        return False
    rewrite(node, reader.op_type, weights, bias, constant, channels)
    return True


def is_per_channel(shape: Sequence[int], channels: int, rank: int) -> bool:
    """Return whether a constant of this shape is one number, or one for each channel, and does not broadcast the result."""
    if len(shape) > rank:
        return False
    aligned = (1,) * (rank - len(shape)) + tuple(shape)
    return aligned[1] in (1, channels) and all(size == 1 for axis, size in enumerate(aligned) if axis != 1)


def rewrite(
    node: ir.Node,
    kind: str,
    weights: ir.TensorProtocol,
    bias: ir.TensorProtocol | None,
    constant: ir.TensorProtocol,
    channels: int,
) -> None:
    """Apply rule 1 or 2: give the convolution new constants, which are computed when they are read."""
    graph, name = node.graph, node.inputs[1].name  # type: ignore[union-attr]
    assert graph is not None

    def numbers() -> Numbers:
        return np.broadcast_to(float64(constant).reshape(-1), channels)

    def new_bias() -> Numbers:
        old = np.zeros(channels) if bias is None else float64(bias)
        return np.asarray(old * numbers() if kind == "Mul" else old + numbers())

    def new_weights() -> Numbers:
        return np.asarray(float64(weights) * numbers().reshape(-1, *[1] * (len(weights.shape) - 1)))

    if kind == "Mul":
        node.replace_input_with(1, add_constant(graph, f"{name}_scaled", computed(new_weights, weights)))
    if kind == "Add" or bias is not None:
        node.resize_inputs(3)
        value = add_constant(graph, f"{name}_{kind.lower()}_bias", computed(new_bias, weights, ir.Shape([channels])))
        node.replace_input_with(2, value)
