"""Derivatives of operators, expressed by nodes: one rule for each operator, in the table RULES.

A rule gets a DerivativeBuilder and returns, for each input of a node, what the node contributes to the input's adjoint, or None for
an input that is not wanted. The adjoint of a value is the derivative of the final result with respect to it. Rules use only
operators that have rules themselves, so that gradients can be differentiated again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from sardonyx.base import errors
from sardonyx.graph.attributes import attributes_of
from sardonyx.graph.passes.rewrite import add_constant
from sardonyx.graph.schemas import schema_of

Size: TypeAlias = "int | ir.SymbolicDim"
Contributions: TypeAlias = Sequence[ir.Value | None]
AXES_ARE_INPUTS = 13  # from this opset on the axes of ReduceSum, Squeeze and Unsqueeze are an input


class DerivativeBuilder:
    """Adds nodes to a graph and describes the node that a rule differentiates: `inputs`, `output`, the output's adjoint `g`,
    `attributes`, and which inputs are `wanted`.
    """

    def __init__(self, graph: ir.Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.names: Iterator[str] = map(str, itertools.count())
        self.inputs: Sequence[ir.Value] = ()
        self.wanted: Sequence[bool] = ()
        self.attributes: Mapping[str, Any] = {}
        self.output = self.g = ir.Value()

    def contributions(
        self,
        rule: Callable[[DerivativeBuilder], Contributions],
        node: ir.Node,
        inputs: Sequence[ir.Value | None],
        output: ir.Value,
        g: ir.Value,
        wanted: Sequence[bool],
    ) -> Contributions:
        """Apply a rule to a node and return the contributions to the adjoints of the wanted inputs.

        Raises NotImplemented if the rank of an input or of the output is not known.
        """
        if any(v is not None and v.shape is None for v in (*inputs, output)):
            raise errors.NotImplemented(
                f"There is no derivative of {node.op_type} node '{node.name}', because the rank of a value is not known."
            )
        schema = schema_of(node, self.graph.opset_imports)
        assert schema is not None
        self.inputs, self.output, self.g, self.wanted = inputs, output, g, wanted  # type: ignore[assignment]
        self.attributes = attributes_of(node, schema)
        made = list(rule(self))
        made += [None] * (len(inputs) - len(made))
        return [share if asked else None for share, asked in zip(made, wanted, strict=True)]

    def __call__(self, name: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Append a node and return its first output. Its type is not known until types are inferred."""
        node = ir.node(name, inputs, attributes)
        node.outputs[0].name = next(self.names)
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, numbers: Any, like: ir.Value | None = None) -> ir.Value:
        """Add a constant with the element type of `like`, or i64."""
        dtype = np.dtype(np.int64) if like is None or like.dtype is None else like.dtype.numpy()
        return add_constant(self.graph, next(self.names), ir.tensor(np.array(numbers, dtype)))

    def number(self, number: float) -> ir.Value:
        """Add a scalar constant with the element type of the output."""
        return self.constant(number, self.output)

    def filled(self, number: float, like: ir.Value) -> ir.Value:
        """Make a tensor in the shape and type of `like`, all of whose elements are the number."""
        return self("Expand", self.constant(number, like), self("Shape", like))

    # ---- axes ---------------------------------------------------------------------------------------------------------------

    def over_axes(self, name: str, x: ir.Value, axes: Sequence[int], **attributes: Any) -> ir.Value:
        """Append ReduceSum, Squeeze or Unsqueeze over these axes; return x itself if there are none."""
        if not axes:
            return x
        if self.opset < AXES_ARE_INPUTS:
            return self(name, x, axes=list(axes), **attributes)
        return self(name, x, self.constant(list(axes)), **attributes)

    def as_shaped(self, x: ir.Value, like: ir.Value) -> ir.Value:
        """Reshape x to the shape of `like`."""
        return self("Reshape", x, self("Shape", like))

    def summed(self, g: ir.Value, of: Sequence[Size], x: ir.Value) -> ir.Value:
        """Sum g, which has the sizes `of`, over the axes along which x was broadcast to these sizes.

        If only the run knows whether x was broadcast along an axis, the sum gets its axes from nodes that compute them in the run.
        Raises NotImplemented before opset 13, where axes can't be computed.
        """
        more = len(of) - rank(x)
        along: list[int] = list(range(more))
        open_axes = []
        for axis, (own, full) in enumerate(zip(sizes(x), of[more:], strict=True), more):
            if own == 1 and full != 1:
                along.append(axis)
            elif not isinstance(own, int) and not (own == full and own.value is not None):
                open_axes.append(axis)
        if not open_axes:
            return self.over_axes("Squeeze", self.over_axes("ReduceSum", g, along, keepdims=1), range(more)) if along else g
        if self.opset < AXES_ARE_INPUTS:
            raise errors.NotImplemented("There is no derivative of an operator that broadcasts unknown sizes before opset 13.")
        padded = self("Concat", self.constant([1] * more), self("Shape", x), axis=0) if more else self("Shape", x)
        axes = self("Reshape", self("NonZero", self("Equal", padded, self.constant(1))), self.constant([-1]))
        return self.as_shaped(self("ReduceSum", g, axes, keepdims=1, noop_with_empty_axes=1), x)

    def back(self, contributions: Sequence[Callable[[], ir.Value]]) -> list[ir.Value | None]:
        """Return the contributions to the wanted inputs, each summed over the axes along which the input was broadcast to the
        output.
        """
        triples = zip(contributions, self.inputs, self.wanted, strict=False)
        return [self.summed(share(), sizes(self.output), x) if wanted else None for share, x, wanted in triples]


# ---- rules ------------------------------------------------------------------------------------------------------------------

Rule: TypeAlias = Callable[[DerivativeBuilder], Contributions]
"""Function that makes a node's contributions to the adjoints of its inputs."""


def pointwise(factor: Callable[[DerivativeBuilder, ir.Value, ir.Value], ir.Value]) -> Rule:
    """Return the rule of an elementwise y = f(x): the contribution is g factor(x, y)."""
    return lambda s: [s("Mul", s.g, factor(s, s.inputs[0], s.output))]


def broadcast(*shares: Callable[[DerivativeBuilder], ir.Value]) -> Rule:
    """Return the rule of an operator that broadcasts its inputs. shares: for each input its contribution before the sum over
    broadcast axes
    """
    return lambda s: s.back([lambda share=share: share(s) for share in shares])  # type: ignore[misc]


def power(s: DerivativeBuilder) -> Contributions:
    """Rule of x^n: contributions g n x^(n - 1) and g y log(x); where x <= 0 the latter is 0."""
    x, n = s.inputs
    n = n if n.dtype == x.dtype else s("CastLike", n, x) if s.opset >= 15 else s("Cast", n, to=int(x.dtype or 1))

    def of_base() -> ir.Value:
        return s("Mul", s.g, s("Mul", n, s("Pow", x, s("Sub", n, s.number(1)))))

    def of_exponent() -> ir.Value:
        positive = s("Greater", x, s.number(0))
        log = s("Log", s("Where", positive, x, s.number(1)))
        return s("Mul", s.g, s("Mul", s.output, log))

    return s.back([of_base, of_exponent])


def product(s: DerivativeBuilder) -> Contributions:
    """Rule of a matrix product: contributions g B^T and A^T g. Vectors count as matrices of one row or column."""
    a, b = s.inputs
    row, column = rank(a) == 1, rank(b) == 1
    left = s.over_axes("Unsqueeze", a, [0]) if row else a
    right = s.over_axes("Unsqueeze", b, [1]) if column else b
    full = max(rank(a), rank(b), 2)
    outer = sizes(s.output)[: full - 2]
    g = s.over_axes("Unsqueeze", s.g, [full - 2] * row + [full - 1] * column)

    def share(made: ir.Value, x: ir.Value) -> ir.Value:
        if rank(x) == 1:
            return s.as_shaped(s.over_axes("ReduceSum", made, range(full - 2), keepdims=1), x)
        return s.summed(made, [*outer, *sizes(x)[-2:]], x)

    return [
        share(s("MatMul", g, transposed_last(s, right, max(rank(b), 2))), a) if s.wanted[0] else None,
        share(s("MatMul", transposed_last(s, left, max(rank(a), 2)), g), b) if s.wanted[1] else None,
    ]


def sizes(x: ir.Value) -> list[Size]:
    assert x.shape is not None
    return list(x.shape)


def rank(x: ir.Value) -> int:
    return len(sizes(x))


def transposed_last(s: DerivativeBuilder, x: ir.Value, count: int) -> ir.Value:
    """Exchange the last two of `count` axes."""
    return s("Transpose", x, perm=[*range(count - 2), count - 1, count - 2])


def gemm(s: DerivativeBuilder) -> Contributions:
    """Rule of Gemm: contributions alpha g B^T, alpha A^T g and beta g, with transposes by transA and transB."""
    a, b = s.inputs[:2]
    alpha, beta = s.attributes.get("alpha", 1.0), s.attributes.get("beta", 1.0)
    ta, tb = s.attributes.get("transA", 0), s.attributes.get("transB", 0)
    of_a = s("Gemm", b, s.g, alpha=alpha, transA=tb, transB=1) if ta else s("Gemm", s.g, b, alpha=alpha, transB=1 - tb)
    of_b = s("Gemm", s.g, a, alpha=alpha, transA=1, transB=ta) if tb else s("Gemm", a, s.g, alpha=alpha, transA=1 - ta)
    if len(s.inputs) < 3 or not s.wanted[2]:
        return [of_a, of_b]
    return [of_a, of_b, s.summed(s("Mul", s.g, s.number(beta)), sizes(s.output), s.inputs[2])]


def transpose(s: DerivativeBuilder) -> Contributions:
    """Rule of Transpose: the contribution is g with the inverse permutation."""
    perm = s.attributes.get("perm") or range(rank(s.output))[::-1]
    return [s("Transpose", s.g, perm=[int(i) for i in np.argsort(perm)])]


def reduced_axes(s: DerivativeBuilder) -> list[int]:
    """Return the axes of a reduction. Raises NotImplemented if only the run knows them."""
    count = rank(s.inputs[0])
    axes = s.attributes.get("axes")
    if len(s.inputs) > 1 and s.inputs[1] is not None:
        tensor = s.inputs[1].const_value
        if tensor is None:
            raise errors.NotImplemented("There is no derivative of a reduction whose axes are not known.")
        axes = tensor.numpy().tolist()
    if not axes:
        return [] if s.attributes.get("noop_with_empty_axes", 0) else list(range(count))
    return [int(axis) % count for axis in axes]


def spread(s: DerivativeBuilder) -> ir.Value:
    """Broadcast the adjoint of a reduction's output back along the reduced axes."""
    axes = sorted(reduced_axes(s))
    kept = s.g if s.attributes.get("keepdims", 1) else s.over_axes("Unsqueeze", s.g, axes)
    return s("Expand", kept, s("Shape", s.inputs[0]))


def mean(s: DerivativeBuilder) -> Contributions:
    """Rule of ReduceMean: the broadcast adjoint divided by the number of reduced elements."""
    x = s.inputs[0]
    count = s("Div", s("Size", x), s("Size", s.output))
    return [s("Div", spread(s), s("Cast", count, to=int(x.dtype or 1)))]


def softmax(s: DerivativeBuilder) -> Contributions:
    """Rule of Softmax along one axis, as since opset 13: the contribution is y (g - sum of g y). Raises NotImplemented for earlier
    opsets.
    """
    if s.opset < 13:
        raise errors.NotImplemented("There is no derivative of Softmax before opset 13.")
    inner = s.over_axes("ReduceSum", s("Mul", s.g, s.output), [s.attributes.get("axis", -1)], keepdims=1)
    return [s("Mul", s.output, s("Sub", s.g, inner))]


def where(s: DerivativeBuilder) -> Contributions:
    """Rule of Where: g goes to x where the condition is true, to y elsewhere."""
    zero = s.number(0)
    condition = s.inputs[0]
    return s.back([lambda: s.g, lambda: s("Where", condition, s.g, zero), lambda: s("Where", condition, zero, s.g)])


def minus(s: DerivativeBuilder, x: ir.Value) -> ir.Value:
    return s("Neg", x)


def squared(s: DerivativeBuilder, x: ir.Value) -> ir.Value:
    return s("Mul", x, x)


def one_minus(s: DerivativeBuilder, x: ir.Value) -> ir.Value:
    return s("Sub", s.number(1), x)


def reshaped(s: DerivativeBuilder) -> Contributions:
    """Rule of operators that keep all elements in order: g in the shape of the input."""
    return [s.as_shaped(s.g, s.inputs[0])]


def same(s: DerivativeBuilder) -> ir.Value:
    return s.g


RULES: Mapping[str, Rule] = {
    "Add": broadcast(same, same),
    "Sub": broadcast(same, lambda s: minus(s, s.g)),
    "Mul": broadcast(lambda s: s("Mul", s.g, s.inputs[1]), lambda s: s("Mul", s.g, s.inputs[0])),
    "Div": broadcast(lambda s: s("Div", s.g, s.inputs[1]), lambda s: minus(s, s("Mul", s.g, s("Div", s.output, s.inputs[1])))),
    "Sum": lambda s: s.back([lambda: s.g] * len(s.inputs)),
    "Pow": power,
    "Neg": lambda s: [minus(s, s.g)],
    "Identity": lambda s: [s.g],
    "Exp": pointwise(lambda s, x, y: y),
    "Log": lambda s: [s("Div", s.g, s.inputs[0])],
    "Sqrt": lambda s: [s("Div", s.g, s("Mul", s.output, s.number(2)))],
    "Reciprocal": pointwise(lambda s, x, y: minus(s, squared(s, y))),
    "Sin": pointwise(lambda s, x, y: s("Cos", x)),
    "Cos": pointwise(lambda s, x, y: minus(s, s("Sin", x))),
    "Tanh": pointwise(lambda s, x, y: one_minus(s, squared(s, y))),
    "Sigmoid": pointwise(lambda s, x, y: s("Mul", y, one_minus(s, y))),
    "Softplus": pointwise(lambda s, x, y: s("Sigmoid", x)),
    "Erf": pointwise(lambda s, x, y: s("Mul", s("Exp", minus(s, squared(s, x))), s.number(2 / math.sqrt(math.pi)))),
    "Abs": pointwise(lambda s, x, y: s("Sign", x)),
    "Relu": lambda s: [s("Where", s("Greater", s.inputs[0], s.number(0)), s.g, s.number(0))],
    "Softmax": softmax,
    "MatMul": product,
    "Gemm": gemm,
    "Transpose": transpose,
    "Reshape": reshaped,
    "Flatten": reshaped,
    "Squeeze": reshaped,
    "Unsqueeze": reshaped,
    "Expand": broadcast(same),
    "ReduceSum": lambda s: [spread(s)],
    "ReduceMean": mean,
    "Where": where,
    "Cast": lambda s: [s("Cast", s.g, to=int(s.inputs[0].dtype or 1))],
}
"""The rule of each operator that has a derivative."""
CONSTANT = frozenset(
    {"Shape", "Size", "Sign", "Floor", "Ceil", "Round", "Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"}
    | {"Not", "And", "Or", "Xor", "ArgMax", "ArgMin", "NonZero", "ConstantOfShape", "IsNaN", "IsInf"}
)
"""Operators whose derivative is zero: their outputs don't change with small changes of their inputs."""
