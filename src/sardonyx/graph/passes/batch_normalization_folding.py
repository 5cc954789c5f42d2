"""Folds a BatchNormalization with constant statistics into the weights before it. With f = scale / sqrt(variance + epsilon):

1. BN(Conv(x, w, b))          -> Conv(x, w f, (b - mean) f + bias)           f along the output channels
2. BN(ConvTranspose(x, w, b)) -> ConvTranspose(x, w f, (b - mean) f + bias)  f along the output channels, group by group
3. BN(Gemm(a, w, c))          -> Gemm(a, w f, (beta c - mean) f + bias), beta = 1
4. BN(MatMul(a, w))           -> Add(MatMul(a, w f), bias - mean f)          where a has two axes

The rules apply only if no other node reads the value in between and the weights are constant. New weights are computed when they
are read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from msgspec import Struct

from sardonyx.graph import schemas
from sardonyx.graph.passes.rewrite import add_constant, bypass, computed, float64, only_reader, rank_of, tensor_of, unused
from sardonyx.ops.record import as_in_files

EPSILON = as_in_files(1e-5)  # the attribute's default
Numbers = npt.NDArray[np.float64]
Weigh = Callable[[Numbers, Numbers], Numbers]  # (weights, f) -> weights multiplied by f along their output channels


class Statistics(Struct, frozen=True):
    """The four constants of a BatchNormalization, and its epsilon."""

    scale: ir.TensorProtocol
    bias: ir.TensorProtocol
    mean: ir.TensorProtocol
    variance: ir.TensorProtocol
    epsilon: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of all four: (channels,)."""
        return tuple(self.scale.shape.numpy())

    def factor(self) -> Numbers:
        """Return scale / sqrt(variance + epsilon)."""
        return np.asarray(float64(self.scale) / np.sqrt(float64(self.variance) + self.epsilon))

    def shift(self, before: Numbers | float) -> Numbers:
        """Return the bias of the folded operator, from the bias that the operator had before."""
        return np.asarray((before - float64(self.mean)) * self.factor() + float64(self.bias))


def fold_batch_normalizations(model: ir.Model) -> bool:
    """Apply the rules at the head of this file (1 to 4) to the whole model. Returns whether it changed."""
    changed = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.domain != "" or node.op_type not in RULES:
            continue
        reader = only_reader(node.outputs[0])
        if reader is None or reader.op_type != "BatchNormalization" or reader.inputs[0] is not node.outputs[0]:
            continue
        statistics = statistics_of(reader, model.opset_imports)
        if statistics is not None and unused(reader.outputs[1:]):
            changed |= RULES[node.op_type](node, reader, statistics)
    return changed


def statistics_of(node: ir.Node, imports: dict[str, int]) -> Statistics | None:
    """Return the node's statistics if they are constant and the node is not in training mode, else None."""
    schema = schemas.schema_of(node, imports)
    if schema is None or node.attributes.get_int("training_mode") or "spatial" in node.attributes:
        return None
    if schema.since < 14 and sum(bool(value.name) for value in node.outputs) > 1:
        return None
    scale, bias, mean, variance = (tensor_of(value) for value in node.inputs[1:5])
    if scale is None or bias is None or mean is None or variance is None:
        return None
    if scale.shape.rank() != 1 or any(t.shape != scale.shape for t in (bias, mean, variance)):
        return None
    return Statistics(scale, bias, mean, variance, node.attributes.get_float("epsilon", EPSILON))


def along(axis: int) -> Weigh:
    """Return the function that multiplies weights by f along one axis."""

    def weigh(weights: Numbers, factor: Numbers) -> Numbers:
        shape = [1] * weights.ndim
        shape[axis] = -1
        return np.asarray(weights * factor.reshape(shape))

    return weigh


def by_group(groups: int) -> Weigh:
    """Return the function that multiplies ConvTranspose's weights [inputs, outputs / groups, ...] by f along the output channels."""

    def weigh(weights: Numbers, factor: Numbers) -> Numbers:
        parts = weights.reshape(groups, -1, *weights.shape[1:])
        each = factor.reshape(groups, 1, -1, *[1] * (weights.ndim - 2))
        return np.asarray((parts * each).reshape(weights.shape))

    return weigh


def fold_convolution(node: ir.Node, reader: ir.Node, statistics: Statistics) -> bool:
    """Apply rule 1 or 2."""
    if node.op_type == "Conv":
        return fold(node, reader, statistics, along(0), lambda shape: shape[0])
    groups = node.attributes.get_int("group", 1)
    return fold(node, reader, statistics, by_group(groups), lambda shape: shape[1] * groups if divides(groups, shape[0]) else -1)


def divides(a: int, b: int) -> bool:
    """Return whether b is a multiple of a, which is no multiple of zero."""
    return a > 0 and b % a == 0


def fold_gemm(node: ir.Node, reader: ir.Node, statistics: Statistics) -> bool:
    """Apply rule 3."""
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    beta = node.attributes.get_float("beta", 1.0)
    if not fold(node, reader, statistics, along(axis), lambda shape: shape[axis] if len(shape) == 2 else -1, beta):
        return False
    node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    return True


def fold(
    node: ir.Node,
    reader: ir.Node,
    statistics: Statistics,
    weigh: Weigh,
    channels: Callable[[tuple[int, ...]], int],
    beta: float = 1.0,
) -> bool:
    """Give the node new weights and bias, and remove the BatchNormalization `reader`. Returns whether that was possible.

    channels: from the shape of the weights, the number of output channels; it must be that of the statistics. The bias, if there
    is one, has as many elements, or one.
    """
    weights = tensor_of(node.inputs[1])
    before = node.inputs[2] if len(node.inputs) > 2 else None
    bias = tensor_of(before)
    if weights is None or (before is not None and bias is None):
        return False
    (count,) = statistics.shape
    fits = weights.shape.rank() > 1 and channels(tuple(weights.shape.numpy())) == count
    if (
        not fits
        or (bias is not None and tuple(bias.shape.numpy()) not in ((count,), (1,), ()))
        or not bypass(reader, node.outputs[0])
    ):
        return False
    graph, name = node.graph, node.inputs[1].name  # type: ignore[union-attr]
    assert graph is not None
    old: Callable[[], Numbers | float] = (lambda: 0.0) if bias is None else (lambda: beta * float64(bias))
    new_weights = computed(lambda: weigh(float64(weights), statistics.factor()), weights)
    new_bias = computed(lambda: statistics.shift(old()), weights, ir.Shape(statistics.shape))
    node.resize_inputs(3)
    node.replace_input_with(1, add_constant(graph, f"{name}_normalized", new_weights))
    node.replace_input_with(2, add_constant(graph, f"{name}_normalized_bias", new_bias))
    return True


def fold_matmul(node: ir.Node, reader: ir.Node, statistics: Statistics) -> bool:
    """Apply rule 4: the BatchNormalization becomes an Add."""
    weights = tensor_of(node.inputs[1])
    if (
        weights is None
        or len(weights.shape) != 2
        or rank_of(node.inputs[0]) != 2
        or tuple(weights.shape.numpy())[1:] != statistics.shape
    ):
        return False
    graph, name = node.graph, node.inputs[1].name  # type: ignore[union-attr]
    assert graph is not None
    new_weights = computed(lambda: along(1)(float64(weights), statistics.factor()), weights)
    shift = computed(lambda: statistics.shift(0.0), weights, ir.Shape(statistics.shape))
    node.replace_input_with(1, add_constant(graph, f"{name}_normalized", new_weights))
    add = ir.node("Add", [node.outputs[0], add_constant(graph, f"{name}_normalized_bias", shift)], name=reader.name)
    ir.convenience.replace_nodes_and_values(graph, reader, [reader], [add], reader.outputs[:1], add.outputs)
    return True


RULES: dict[str, Callable[[ir.Node, ir.Node, Statistics], bool]] = {
    "Conv": fold_convolution,
    "ConvTranspose": fold_convolution,
    "Gemm": fold_gemm,
    "MatMul": fold_matmul,
}
