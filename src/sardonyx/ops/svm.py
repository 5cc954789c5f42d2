"""Support vector machines of the domain ai.onnx.ml: SVMRegressor, SVMClassifier."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import f32
from sardonyx.base.errors import Fail
from sardonyx.base.symbolic import Dim
from sardonyx.expr import scalar
from sardonyx.expr.index import at
from sardonyx.expr.require import require_equal
from sardonyx.expr.tensor import Tensor, compute, constant, kernel_outputs
from sardonyx.loop.builder import Array, KernelBuilder, as_index
from sardonyx.loop.nodes import Expr, Kernel
from sardonyx.loop.values import Value, op, where
from sardonyx.ops import activation, linalg
from sardonyx.ops.cases import reals
from sardonyx.ops.ml import DOMAIN, as_rows, best, in_rows, labelled, transformed, two_columns, whole_labels
from sardonyx.ops.pointwise import add, cast, pointwise, reduce
from sardonyx.ops.record import Case, Op, Rule

Numbers = npt.NDArray[Any]


def kernel_values(x: Tensor, vectors: Numbers, kind: str, params: Sequence[float]) -> Tensor:
    """Compute the kernel function (LINEAR, POLY, RBF, SIGMOID) of each row and each support vector.

    x: T[n, f], vectors: [s, f], params: gamma, coef0, degree -> T[n, s]. Raises Fail for another kernel.
    """
    require_equal(x.shape[1], vectors.shape[1], "features {} do not fit support vectors of {} numbers", x.shape, vectors.shape[1])
    gamma, offset, degree = (*params, 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        known = constant(vectors.astype(x.dtype.numpy))

        def squared_distance(i: Dim, j: Dim, k: Dim) -> Expr:
            d = scalar.sub(at(x, (i, k)), at(known, (j, k)))
            return scalar.mul(d, d)

        distance = reduce("add", x.dtype, [x.shape[0], len(vectors)], [x.shape[1]], squared_distance)
        return pointwise(lambda d: scalar.apply("exp", scalar.mul(d, -gamma)), distance)
    products = linalg.product(x, constant(np.ascontiguousarray(vectors.T).astype(x.dtype.numpy)), x.dtype)
    if kind == "LINEAR":
        return products
    scaled = pointwise(lambda d: scalar.add(scalar.mul(d, gamma), offset), products)
    if kind == "POLY":
        return pointwise(lambda d: scalar.apply("pow", d, degree), scaled)
    if kind == "SIGMOID":
        return pointwise(lambda d: scalar.apply("tanh", d), scaled)
    raise Fail(f"kernel_type must be LINEAR, POLY, RBF or SIGMOID, not {kind}")


def weighted(values: Tensor, weights: Numbers) -> Tensor:
    """Multiply kernel values by weights. values: T[n, s], weights: [s, e] -> T[n, e]"""
    return linalg.product(values, constant(np.ascontiguousarray(weights).astype(values.dtype.numpy)), values.dtype)


def require_one_of_each(**lists: Sequence[float]) -> None:
    """Require that no list is empty. Raises Fail with the list's name."""
    for name, values in lists.items():
        if not values:
            raise Fail(f"an SVM without {name}")


def svm_regressor(
    x: Tensor,
    coefficients: Sequence[float],
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    n_supports: int = 0,
    one_class: int = 0,
    post_transform: str = "NONE",
    rho: Sequence[float] = (0.0,),
    support_vectors: Sequence[float] = (),
) -> Tensor:
    """Compute SVMRegressor: the weighted sum of the kernel values, plus rho. x: T[n, f] -> f32[n, 1]

    Without support vectors the features themselves are weighted. With one_class the result is the sign: 1 or -1.
    """
    require_one_of_each(rho=rho, coefficients=coefficients)
    rows = as_rows(x)
    weights = np.array(coefficients)[:, None]
    if n_supports:
        rows = kernel_values(rows, in_rows(support_vectors, n_supports, "numbers of support vectors"), kernel_type, kernel_params)
    scores = cast(pointwise(lambda s: scalar.add(s, rho[0]), weighted(rows, weights)), f32)
    if one_class:
        return pointwise(lambda s: scalar.select(scalar.apply("gt", s, 0), scalar.literal(1, f32), -1), scores)
    return scores if post_transform != "PROBIT" else transformed(scores, post_transform)


# ---- classifier ------------------------------------------------------------------------------------------------------------------


def svm_classifier(
    x: Tensor,
    coefficients: Sequence[float],
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    kernel_params: Sequence[float] = (),
    kernel_type: str = "LINEAR",
    post_transform: str = "NONE",
    prob_a: Sequence[float] = (),
    prob_b: Sequence[float] = (),
    rho: Sequence[float] = (0.0,),
    support_vectors: Sequence[float] = (),
    vectors_per_class: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """Compute SVMClassifier. x: T[n, f] -> labels i64[n], scores f32[n, e]

    e: one score per class without support vectors; one probability per class with prob_a; else one score per pair of classes, where
    a single pair gives two scores. Raises Unsupported for labels that are strings, Fail for attributes that don't fit.
    """
    labels = whole_labels(classlabels_ints, classlabels_strings)
    require_one_of_each(rho=rho, coefficients=coefficients)
    if any(count < 0 for count in vectors_per_class):
        raise Fail(f"vectors_per_class {list(vectors_per_class)} has a negative number")
    rows = as_rows(x)
    if not sum(vectors_per_class):
        weights = in_rows(coefficients, len(labels), "coefficients").T
        scores = cast(pointwise(lambda s: scalar.add(s, rho[0]), weighted(rows, weights)), f32)
        return labelled(best(scores), labels), transformed(scores, post_transform)
    vectors = in_rows(support_vectors, sum(vectors_per_class), "numbers of support vectors")
    classes = len(vectors_per_class)
    if len(coefficients) != (classes - 1) * len(vectors):
        raise Fail(f"{len(coefficients)} coefficients do not fit {len(vectors)} vectors of {classes} classes")
    pairs = classes * (classes - 1) // 2
    if len(rho) != pairs or (prob_a and not len(prob_a) == len(prob_b) == pairs):
        raise Fail(f"{len(rho)} rho, {len(prob_a)} prob_a and {len(prob_b)} prob_b do not fit {pairs} pairs of classes")
    values = kernel_values(rows, vectors, kernel_type, kernel_params)
    weights = pair_weights(np.array(coefficients).reshape(-1, len(vectors)), vectors_per_class)
    scores = cast(add(weighted(values, weights), constant(np.array(rho, values.dtype.numpy))), f32)
    votes = votes_of(scores, len(vectors_per_class))
    label = labelled(best(votes), labels)
    if prob_a:
        return label, transformed(probabilities(scores, prob_a, prob_b, len(vectors_per_class)), post_transform)
    if len(rho) == 1:
        return label, two_scores(scores, post_transform)
    return label, transformed(scores, post_transform)


def two_scores(score: Tensor, kind: str) -> Tensor:
    """Return the scores (-s, s) of two classes, transformed."""
    return transformed(two_columns(score, scalar.negate), kind)


def pair_weights(coefficients: Numbers, counts: Sequence[int]) -> Numbers:
    """Return each support vector's weight in the score of each pair of classes, 0 for vectors of other classes. coefficients:
    [classes - 1, vectors] -> [vectors, pairs]
    """
    start = np.concatenate([[0], np.cumsum(counts)])
    pairs = list(itertools.combinations(range(len(counts)), 2))
    out = np.zeros((coefficients.shape[1], len(pairs)))
    for p, (i, j) in enumerate(pairs):
        out[start[i] : start[i + 1], p] = coefficients[j - 1, start[i] : start[i + 1]]
        out[start[j] : start[j + 1], p] = coefficients[i, start[j] : start[j + 1]]
    return out


def votes_of(scores: Tensor, classes: int) -> Tensor:
    """Count how many pairs each class wins. scores: f32[n, pairs] -> f32[n, classes]"""
    pairs = list(itertools.combinations(range(classes), 2))
    for_first, for_second = np.zeros((len(pairs), classes), np.float32), np.zeros((len(pairs), classes), np.float32)
    for p, (i, j) in enumerate(pairs):
        for_first[p, i], for_second[p, j] = 1, 1
    first, second = constant(for_first), constant(for_second)

    def term(n: Dim, c: Dim, p: Dim) -> Expr:
        return scalar.select(scalar.apply("gt", at(scores, (n, p)), 0), at(first, (p, c)), at(second, (p, c)))

    return reduce("add", f32, [scores.shape[0], classes], [len(pairs)], term)


def probabilities(scores: Tensor, prob_a: Sequence[float], prob_b: Sequence[float], classes: int) -> Tensor:
    """Compute a probability per class: Platt's sigmoid for each pair of classes, then pairwise coupling. scores: f32[n, pairs] ->
    f32[n, classes]
    """
    slope, shift = (constant(np.array(p, np.float32)) for p in (prob_a, prob_b))

    def pair(i: Dim, p: Dim) -> Expr:
        s = scalar.add(scalar.mul(at(scores, (i, p)), at(slope, (p,))), at(shift, (p,)))
        won = scalar.sub(1, activation.sigmoid(s))
        return scalar.minimum(scalar.maximum(won, 1e-7), 1 - 1e-7)

    wins = compute(f32, scores.shape, pair)
    (out,) = kernel_outputs(coupling_kernel(classes), [wins], [(f32, (scores.shape[0], classes))], [scores.shape[0]])
    return out


@functools.cache
def coupling_kernel(classes: int) -> Kernel:
    """Build the kernel of pairwise coupling as in LIBSVM (T.-F. Wu, C.-J. Lin, R. Weng, Probability estimates for multi-class
    classification by pairwise coupling, 2004, algorithm 2).

        parallel for row:
          q = the matrix of the pairs' probabilities
          while the error is large:  for each class:  update its probability, rescale all
    """
    b = KernelBuilder("pairwise coupling")
    rows = b.size("rows")
    pairs = list(itertools.combinations(range(classes), 2))
    wins, y = b.input("wins", f32, rows * len(pairs)), b.output("y", f32, rows * classes)
    with b.loop("row", rows, kind="parallel") as row:
        r, q = b.scratch("r", f32, classes * classes), b.scratch("q", f32, classes * classes)
        qp = b.scratch("qp", f32, classes)
        for p, (i, j) in enumerate(pairs):
            r[i * classes + j] = wins[row * len(pairs) + p]
            r[j * classes + i] = 1 - wins[row * len(pairs) + p]
        for c in range(classes):
            y[row * classes + c] = 1 / classes
            r[c * classes + c] = 0
        with b.loop("t", classes) as t, b.loop("k", classes) as k:
            squares = b.reduce("add", classes, functools.partial(squared, r, classes, t))
            q[t * classes + k] = where(as_index(t) == as_index(k), squares, -(r[k * classes + t] * r[t * classes + k]))
        total, error, iteration = b.local(f32, 0), b.local(f32, 1), b.local(f32, 0)
        with b.while_((error.value >= 0.005 / classes) & (iteration.value < max(100, classes))):
            with b.loop("t", classes) as t:
                qp[t] = b.reduce("add", classes, functools.partial(multiplied, q, t * classes, y, row * classes))
            total.set(b.reduce("add", classes, functools.partial(multiplied, y, row * classes, qp, 0)))
            error.set(b.reduce("max", classes, lambda k: op("abs", qp[k] - total.value)))
            iteration.add(1)
            with b.if_(error.value >= 0.005 / classes), b.loop("t", classes) as t:
                diagonal = b.let(q[t * classes + t])
                diff = b.let((total.value - qp[t]) / diagonal)
                y[row * classes + t] = y[row * classes + t] + diff
                grown = total.value + diff * (diff * diagonal + qp[t] * 2)
                total.set(grown / ((diff + 1) * (diff + 1)))
                with b.loop("k", classes) as k:
                    qp[k] = (qp[k] + diff * q[t * classes + k]) / (diff + 1)
                    y[row * classes + k] = y[row * classes + k] / (diff + 1)
    return b.build()


def squared(r: Array, classes: int, t: Dim, k: Dim) -> Value:
    return r[k * classes + t] * r[k * classes + t]


def multiplied(a: Array, a_start: Dim, c: Array, c_start: Dim, k: Dim) -> Value:
    return a[a_start + k] * c[c_start + k]


X = reals(6, 3)
VECTORS = [float(v) for v in reals(5, 3, scale=1.5).ravel()]
KERNELS = {"LINEAR": [0.0, 0.0, 0.0], "POLY": [0.5, 1.0, 3.0], "RBF": [0.4, 0.0, 0.0], "SIGMOID": [0.3, 0.1, 0.0]}
TWO = {"vectors_per_class": [2, 3], "support_vectors": VECTORS, "coefficients": [0.5, 1.0, -0.25, -0.75, -0.5], "rho": [0.2]}
THREE = {
    "vectors_per_class": [2, 2, 1],
    "support_vectors": VECTORS,
    "coefficients": [0.5, 1.0, -0.25, -0.75, -0.5, 0.3, 0.2, 0.7, -0.6, 0.1],
    "rho": [0.2, -0.1, 0.05],
    "classlabels_ints": [4, 1, 7],
}
PLAIN: dict[str, Any] = {"kernel_params": KERNELS["LINEAR"]}
PLATT = {"prob_a": [-1.5, -0.7, -2.0], "prob_b": [0.1, -0.2, 0.05]}


def op_record(name: str, meaning: Any, cases: tuple[Case, ...]) -> Op:
    return Op(name, since=1, domain=DOMAIN, lower=meaning, gradient=Rule.NONE, quantised=Rule.NONE, tolerance=1e-4, cases=cases)


OPS = (
    op_record(
        "SVMRegressor",
        svm_regressor,
        (
            *(
                Case(
                    (X,),
                    {
                        "n_supports": 5,
                        "support_vectors": VECTORS,
                        "coefficients": TWO["coefficients"],
                        "rho": [0.3],
                        "kernel_type": kind,
                        "kernel_params": params,
                    },
                    kind.lower(),
                )
                for kind, params in KERNELS.items()
            ),
            Case((X,), {"coefficients": [0.5, -1.0, 2.0], "rho": [0.3], **PLAIN}, "no_vectors"),
            Case((X,), {"coefficients": [0.5, -1.0, 2.0], "rho": [0.3], "one_class": 1, **PLAIN}, "one_class"),
        ),
    ),
    op_record(
        "SVMClassifier",
        svm_classifier,
        (
            Case((X,), TWO | {"classlabels_ints": [0, 1], "kernel_type": "RBF", "kernel_params": KERNELS["RBF"]}, "two", outputs=2),
            Case((X,), TWO | {"classlabels_ints": [0, 1], "post_transform": "LOGISTIC"} | PLAIN, "two_logistic", outputs=2),
            Case((X,), THREE | {"kernel_type": "POLY", "kernel_params": KERNELS["POLY"]}, "three", outputs=2),
            Case((X,), THREE | PLATT | PLAIN, "probabilities", outputs=2),
            Case(
                (X,),
                {"coefficients": VECTORS[:9], "rho": [0.3], "classlabels_ints": [3, 5, 2], **PLAIN},
                "no_vectors",
                outputs=2,
            ),
        ),
    ),
)
