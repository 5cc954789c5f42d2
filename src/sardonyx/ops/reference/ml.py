"""Operators of ai.onnx.ml in numpy that onnx.reference lacks or computes unlike other runtimes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sardonyx.ops.reference.arrays import Array

# ---- scores ---------------------------------------------------------------------------------------------------------------


def logistic(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def softmax_zero(x: Array) -> Array:
    """Compute softmax in which elements near zero are not exponentiated, so that zeros stay zero."""
    top = x.max(1, keepdims=True)
    e = np.where(np.abs(x) > 1e-7, np.exp(x - top), x * np.exp(-top))
    total = e.sum(1, keepdims=True)
    return np.where(total == 0, 0.5, e / np.where(total == 0, 1, total))


def probit(x: Array) -> Array:
    """Compute sqrt(2) times the inverse error function of 2 x - 1, by Winitzki's approximation with a = 0.147."""
    y = 2 * x - 1
    log = np.log((1 - y) * (1 + y))
    v = 2 / (np.pi * 0.147) + 0.5 * log
    return np.asarray(1.41421356 * np.sign(y) * np.sqrt(-v + np.sqrt(v * v - log / 0.147)))


TRANSFORMS = {
    "NONE": lambda x: x,
    "LOGISTIC": logistic,
    "SOFTMAX": softmax,
    "SOFTMAX_ZERO": softmax_zero,
    "PROBIT": probit,
}


def class_labels(strings: Sequence[str] | None, numbers: Sequence[int] | None) -> Array:
    return np.array(strings, object) if strings else np.array(numbers, np.int64)


# ---- linear models -----------------------------------------------------------------------------------------------------------


def linear_regressor(
    x: Array,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    targets: int = 1,
    post_transform: str = "NONE",
) -> Array:
    """Compute LinearRegressor. x: T[n, f] -> f32[n, targets]"""
    scores = x.astype(np.float32) @ np.array(coefficients, np.float32).reshape(targets, -1).T
    if intercepts:
        scores = scores + np.array(intercepts, np.float32)
    return np.asarray(TRANSFORMS[post_transform](scores), np.float32)


def linear_classifier(
    x: Array,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Array, Array]:
    """Compute LinearClassifier. x: T[n, f] -> labels [n], scores f32[n, classes]. A single row of coefficients scores the second of
    two classes.
    """
    labels = class_labels(classlabels_strings, classlabels_ints)
    weights = np.array(coefficients, np.float32).reshape(-1, x.shape[1])
    scores = x.astype(np.float32) @ weights.T
    if intercepts:
        scores = scores + np.array(intercepts, np.float32)
    if scores.shape[1] > 1:
        return labels[scores.argmax(1)], TRANSFORMS[post_transform](scores).astype(np.float32)
    score = scores[:, 0]
    if len(labels) == 1:
        return labels[np.zeros(len(x), int)], TRANSFORMS[post_transform](scores).astype(np.float32)
    positive = score > (0.5 if post_transform == "LOGISTIC" else 0)
    pair = second_class(score, post_transform, centred=False)
    return labels[(pair[:, 1] > 0.5).astype(int) if post_transform == "LOGISTIC" else positive.astype(int)], pair


def second_class(score: Array, post_transform: str, centred: bool) -> Array:
    """Return both classes' scores from the second's score s: (1 - s, s), or (-s, s) if scores are centred on 0. Softmax leaves them
    unchanged. -> f32[n, 2]
    """
    if post_transform == "LOGISTIC":
        both = np.stack([logistic(-score), logistic(score)], 1)
    elif centred:
        both = np.stack([-score, score], 1)
    else:
        both = np.stack([1 - score, score], 1)
    return both.astype(np.float32)


# ---- columns -----------------------------------------------------------------------------------------------------------------


def scaler(x: Array, offset: Sequence[float], scale: Sequence[float]) -> Array:
    """Compute (x - offset) * scale in f32."""
    shifted = x.astype(np.float64) - np.array(offset, np.float32)
    return (shifted * np.array(scale, np.float32)).astype(np.float32)


def normalizer(x: Array, norm: str = "MAX") -> Array:
    """Divide rows by their greatest element (MAX), sum of magnitudes (L1) or length (L2). Rows whose norm is 0 are not changed."""
    rows = x.astype(np.float64)
    norms = {
        "MAX": lambda: rows.max(-1, keepdims=True),
        "L1": lambda: np.abs(rows).sum(-1, keepdims=True),
        "L2": lambda: np.sqrt((rows**2).sum(-1, keepdims=True)),
    }[norm]()
    return (rows / np.where(norms == 0, 1, norms)).astype(np.float32)
