"""Elementwise activations (Relu, Sigmoid, Gelu and others), PRelu, Dropout at inference, SwiGLU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import DType, boolean, f32
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.expr import scalar
from sardonyx.expr.known import known
from sardonyx.expr.tensor import Tensor, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops.cases import reals
from sardonyx.ops.pointwise import expand_to, lifted, pointwise, view
from sardonyx.ops.record import Case, Op, as_in_files
from sardonyx.ops.reference import elementwise

SELU_ALPHA = 1.67326319217681884765625
"""Default of Selu's `alpha`, from ONNX's Selu."""
SELU_GAMMA = 1.05070102214813232421875
"""Default of Selu's `gamma`, from ONNX's Selu."""


def relu(x: Expr) -> Expr:
    """Compute max(0, x). NaN stays NaN."""
    return scalar.select(scalar.apply("lt", x, 0), 0, x)


def leaky_relu(x: Expr, alpha: float = 0.01) -> Expr:
    """Compute x for x >= 0, alpha x for x < 0."""
    return scalar.select(scalar.apply("lt", x, 0), scalar.mul(x, alpha), x)


def sigmoid(x: Expr) -> Expr:
    """Compute 1 / (1 + exp(-x))."""
    return scalar.div(1, scalar.add(scalar.apply("exp", scalar.negate(x)), 1))


def clamped_line(x: Expr, slope: float, offset: float) -> Expr:
    """Compute slope x + offset, clamped to [0, 1]."""
    return scalar.minimum(scalar.maximum(scalar.add(scalar.mul(x, slope), offset), 0), 1)


def hard_sigmoid(x: Expr, alpha: float = 0.2, beta: float = 0.5) -> Expr:
    """Compute alpha x + beta, clamped to [0, 1]."""
    return clamped_line(x, alpha, beta)


def hard_swish(x: Expr) -> Expr:
    """Compute x hard_sigmoid(x) with alpha = 1/6 and beta = 1/2.

    The slope is rounded to f32, because ONNX defines HardSwish by a function whose HardSigmoid node has 1/6 as an attribute.
    """
    return scalar.mul(x, clamped_line(x, as_in_files(1 / 6), 0.5))


def elu(x: Expr, alpha: float = 1.0) -> Expr:
    """Compute x for x >= 0, alpha (exp(x) - 1) for x < 0."""
    return scalar.select(scalar.apply("lt", x, 0), scalar.mul(scalar.apply("expm1", x), alpha), x)


def celu(x: Expr, alpha: float = 1.0) -> Expr:
    """Compute max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    below = scalar.mul(scalar.apply("expm1", scalar.div(x, alpha)), alpha)
    return scalar.add(scalar.maximum(x, 0), scalar.minimum(below, 0))


def selu(x: Expr, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Expr:
    """Compute gamma x for x > 0, gamma alpha (exp(x) - 1) otherwise."""
    return scalar.mul(scalar.select(scalar.apply("gt", x, 0), x, scalar.mul(scalar.apply("expm1", x), alpha)), gamma)


def softplus(x: Expr) -> Expr:
    """Compute log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)), which cannot overflow."""
    tail = scalar.apply("log1p", scalar.apply("exp", scalar.negate(scalar.apply("abs", x))))
    return scalar.add(scalar.maximum(x, 0), tail)


def softsign(x: Expr) -> Expr:
    """Compute x / (1 + |x|)."""
    return scalar.div(x, scalar.add(scalar.apply("abs", x), 1))


def gelu(x: Expr, approximate: str = "none") -> Expr:
    """Compute x Phi(x), where Phi is the normal distribution function.

    approximate: "none" uses 0.5 (1 + erf(x / sqrt 2)); "tanh" uses 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    Raises Fail for any other value.
    """
    if approximate == "none":
        curve = scalar.apply("erf", scalar.mul(x, math.sqrt(0.5)))
    elif approximate == "tanh":
        cube = scalar.mul(scalar.mul(scalar.mul(x, x), x), 0.044715)
        curve = scalar.apply("tanh", scalar.mul(scalar.add(x, cube), math.sqrt(2 / math.pi)))
    else:
        raise Fail(f"approximate must be none or tanh, not {approximate}")
    return scalar.mul(scalar.mul(x, 0.5), scalar.add(curve, 1))


def swish(x: Expr, alpha: float = 1.0) -> Expr:
    """Compute x sigmoid(alpha x)."""
    return scalar.mul(x, sigmoid(x if alpha == 1 else scalar.mul(x, alpha)))


def mish(x: Expr) -> Expr:
    """Compute x tanh(softplus(x))."""
    return scalar.mul(x, scalar.apply("tanh", softplus(x)))


def thresholded_relu(x: Expr, alpha: float = 1.0) -> Expr:
    """Compute x for x > alpha, 0 otherwise."""
    return scalar.select(scalar.apply("gt", x, alpha), x, 0)


def shrink(x: Expr, bias: float = 0.0, lambd: float = 0.5) -> Expr:
    """Compute x + bias for x < -lambd, x - bias for x > lambd, 0 otherwise. Integers are converted to f32 and back, as numpy does."""
    inner = x if x.dtype.is_float else scalar.cast(x, f32)
    low, high = scalar.apply("lt", inner, -lambd), scalar.apply("gt", inner, lambd)
    out = scalar.select(low, scalar.add(inner, bias), scalar.select(high, scalar.sub(inner, bias), 0))
    return scalar.cast(out, x.dtype)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Compute x for x >= 0, slope x for x < 0. x: T[*d], slope: T[*s] that broadcasts to *d -> T[*d]"""
    return pointwise(lambda e, s: scalar.select(scalar.apply("lt", e, 0), scalar.mul(e, s), e), x, expand_to(slope, x.shape))


def prelu_1(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu before opset 7, where slope is T[c] (one per channel) or T[1]. x: T[n, c, *d] -> T[n, c, *d]"""
    if slope.rank == 1 and x.rank > 1:
        slope = view(slope, (*slope.shape, *[1] * (x.rank - 2)), lambda c, *_: (c,))
    return prelu(x, slope)


def swiglu(a: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor:
    """Compute swish(a) b, where swish(a) = a sigmoid(alpha a). a, b: T[*d] -> T[*d]"""
    return pointwise(lambda gate, e: scalar.mul(swish(gate, alpha), e), a, b)


def dropout(
    x: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return x itself and a mask of true: Dropout at inference. x: T[*d] -> T[*d], bool[*d]

    Raises Unsupported unless it is known now that no element is dropped: training_mode is absent or false, or ratio is 0.
    """
    if training_mode is not None and not always_keeps(ratio, training_mode):
        raise Unsupported("Dropout in training mode")
    return keep_all(x, boolean)


def always_keeps(ratio: Tensor | None, training_mode: Tensor) -> bool:
    """Return whether it is known now that Dropout drops nothing: training_mode is false, or ratio is 0."""
    mode = known(training_mode)
    if mode is not None and not mode.item():
        return True
    share = known(ratio) if ratio is not None else None
    return share is not None and share.item() == 0


def dropout_10(x: Tensor, ratio: float = 0.5) -> tuple[Tensor, Tensor]:
    """Dropout of opsets 10 and 11, which has no training mode: returns x and a bool mask of true."""
    return keep_all(x, boolean)


def dropout_7(x: Tensor, ratio: float = 0.5) -> tuple[Tensor, Tensor]:
    """Dropout of opsets 7 to 9, whose mask has the dtype of x."""
    return keep_all(x, x.dtype)


def dropout_1(x: Tensor, ratio: float = 0.5, is_test: int = 0, consumed_inputs: object = None) -> tuple[Tensor, Tensor]:
    """Dropout before opset 7, where the attribute is_test selects inference. Raises Unsupported if is_test is 0."""
    if not is_test:
        raise Unsupported("Dropout in training mode")
    return keep_all(x, x.dtype)


def keep_all(x: Tensor, mask: DType) -> tuple[Tensor, Tensor]:
    """Return x and a mask of ones. x: T[*d], mask: the mask's dtype -> T[*d], mask[*d]"""
    return view(x, x.shape, lambda *i: i), expand_to(constant(np.array(1, mask.numpy)), x.shape)


def spread(*attributes: dict[str, Any]) -> tuple[Case, ...]:
    """Make the test cases of a unary function: special values and both signs for each set of attributes, f64, f16 and an empty
    tensor.
    """
    numbers = np.array([0, -0.0, 1e-3, -1e-3, 0.5, -0.5, 1, -1, 3, -3, 20, -20, 90, -90, np.inf, -np.inf, np.nan], np.float32)
    some = np.linspace(-4, 4, 15).reshape(3, 5)
    first = attributes[0] if attributes else {}
    return (
        *(Case((numbers,), a) for a in attributes or ({},)),
        Case((some.astype(np.float64),), first),
        Case((some.astype(np.float16),), first),
        Case((np.zeros((2, 0, 3), np.float32),), first),
    )


def unary(name: str, fn: Callable[..., Expr], since: int, *attributes: dict[str, Any], tolerance: float = 1e-6) -> Op:
    """Make the record of an elementwise function, with one group of test cases for each set of attributes."""
    return Op(name, since=since, lower=lifted(fn), cases=spread(*attributes), tolerance=tolerance)


OPS = (
    unary("Relu", relu, 6),
    unary("LeakyRelu", leaky_relu, 6, {}, {"alpha": 0.3}),
    unary("Sigmoid", sigmoid, 6),
    unary("HardSigmoid", hard_sigmoid, 6, {}, {"alpha": 0.5, "beta": 0.6}),
    unary("HardSwish", hard_swish, 14, tolerance=1e-3),
    unary("Elu", elu, 6, {}, {"alpha": 2.0}),
    unary("Celu", celu, 12, {}, {"alpha": 2.0}),
    unary("Selu", selu, 6, {}, {"alpha": 2.0, "gamma": 3.0}),
    unary("Softplus", softplus, 1),
    unary("Softsign", softsign, 1),
    unary("Gelu", gelu, 20, {}, {"approximate": "tanh"}),
    unary("Swish", swish, 24, {}, {"alpha": 1.5}),
    unary("Mish", mish, 18),
    unary("ThresholdedRelu", thresholded_relu, 10, {}, {"alpha": 2.0}),
    unary("Shrink", shrink, 9, {}, {"bias": 1.5, "lambd": 1.5}),
    Op("PRelu", since=7, lower=prelu, cases=(Case((reals(2, 3, 4), reals(3, 1))), Case((reals(3, 5), reals(1))))),
    Op("PRelu", since=6, lower=prelu_1),
    Op("SwiGLU", since=28, lower=swiglu, cases=(Case((reals(2, 3), reals(2, 3)), {"alpha": 0.5}),)),
    Op("Dropout", since=12, lower=dropout, cases=(Case((reals(2, 3),)), Case((reals(2, 3), np.float32(0.1), np.array(False))))),
    Op("Dropout", since=10, lower=dropout_10),
    Op("Dropout", since=7, lower=dropout_7),
    Op("Dropout", since=1, lower=dropout_1, reference=elementwise.dropout),
)
