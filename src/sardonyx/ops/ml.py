"""Operators of the domain ai.onnx.ml on numbers: features and linear models. Trees are in tree.py, support vector machines in
svm.py; strings and maps run on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sardonyx.base.dtypes import DType, boolean, f32, f64, from_numpy, i64
from sardonyx.base.errors import Fail, Unsupported
from sardonyx.base.symbolic import Dim, product
from sardonyx.expr import scalar
from sardonyx.expr.index import at, element
from sardonyx.expr.require import require_equal, require_same
from sardonyx.expr.tensor import Read, Tensor, assemble, compute, constant
from sardonyx.loop.nodes import Expr
from sardonyx.ops import activation, linalg
from sardonyx.ops.cases import integers, reals
from sardonyx.ops.pointwise import add, along, cast, mul, pointwise, reduce, sub, view
from sardonyx.ops.record import Case, Op, Rule
from sardonyx.ops.reduce import place_of
from sardonyx.ops.reference import ml as own
from sardonyx.ops.shape import reshaped
from sardonyx.ops.softmax import softmax_over

DOMAIN = "ai.onnx.ml"


def numbers(values: Sequence[float], dtype: npt.DTypeLike = np.float32) -> Tensor:
    """Make a constant vector."""
    return constant(np.array(values, dtype))


# ---- features --------------------------------------------------------------------------------------------------------------


def scaler(x: Tensor, offset: Sequence[float] = (0.0,), scale: Sequence[float] = (1.0,)) -> Tensor:
    """Compute Scaler: (x - offset) scale, where offset and scale hold one number, or one per feature. x: T[*d, f] -> f32[*d, f]"""
    return mul(sub(cast(x, f32), numbers(offset)), numbers(scale))


def binarizer(x: Tensor, threshold: float = 0.0) -> Tensor:
    """Compute Binarizer: 1 where x > threshold, else 0. x: T[*d] -> T[*d]"""
    return pointwise(lambda e: scalar.cast(scalar.apply("gt", scalar.cast(e, compute_dtype(e.dtype)), threshold), e.dtype), x)


def compute_dtype(dtype: DType) -> DType:
    """Return the dtype in which features are compared and added: f64 for f64, else f32."""
    return f64 if dtype is f64 else f32


def normalizer(x: Tensor, norm: str = "MAX") -> Tensor:
    """Compute Normalizer: x divided by the norm (MAX, L1 or L2) of its row; rows of norm 0 are not changed. x: T[n, f] or T[f] ->
    f32 of the same shape

    Raises Fail for a scalar and for an unknown norm.
    """
    if x.rank == 0:
        raise Fail("Normalizer of a scalar")
    wide = cast(x, f32)
    axis = [x.rank - 1]
    if norm == "MAX":
        size = along("max", wide, axis)
    elif norm == "L1":
        size = along("add", wide, axis, lambda e: scalar.apply("abs", e))
    elif norm == "L2":
        size = along("add", wide, axis, lambda e: scalar.mul(e, e))
        size = pointwise(lambda e: scalar.apply("sqrt", e), size)
    else:
        raise Fail(f"Normalizer: norm must be MAX, L1 or L2, not {norm}")
    return pointwise(lambda e, s: scalar.select(scalar.apply("eq", s, 0), e, scalar.div(e, s)), wide, size)


def imputer(
    x: Tensor,
    imputed_value_floats: Sequence[float] = (),
    imputed_value_int64s: Sequence[int] = (),
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Tensor:
    """Compute Imputer: replace each element that equals the replaced value (any NaN, if that is NaN) by the imputed value of its
    feature.

    x: T[*d, f] -> T[*d, f]; one imputed value for all features, or one per feature. Raises Fail if the values don't fit.
    """
    floats = x.dtype.is_float
    values: Sequence[float] = imputed_value_floats if floats else imputed_value_int64s
    replaced: float = replaced_value_float if floats else replaced_value_int64
    if not values:
        raise Fail("[ShapeInferenceError] Imputer without values of the input's type")
    low, high = (-math.inf, math.inf) if floats else (np.iinfo(x.dtype.numpy).min, np.iinfo(x.dtype.numpy).max)
    if any(not low <= value <= high for value in values if not math.isnan(value)):
        raise Fail(f"Imputer with values outside {x.dtype}: {list(values)}")
    if len(values) > 1 and x.rank == 0:
        raise Fail(f"Imputer with {len(values)} values for a scalar")
    if len(values) > 1:
        require_equal(x.shape[-1], len(values), "{} imputed values do not fit the features of {}", len(values), x.shape)

    def exchanged(e: Expr, value: Expr) -> Expr:
        gone = scalar.is_nan(e) if math.isnan(replaced) else scalar.apply("eq", e, replaced)
        return scalar.select(gone, value, e)

    return pointwise(exchanged, x, numbers(values, x.dtype.numpy))


def one_hot_encoder(x: Tensor, cats_int64s: Sequence[int] = (), cats_strings: Sequence[str] = (), zeros: int = 1) -> Tensor:
    """Compute OneHotEncoder: 1 at the category that equals the element, else 0. x: T[*d] -> f32[*d, categories]

    With zeros=0 the run fails for an element that equals no category. Raises Unsupported for categories that are strings.
    """
    if not cats_int64s:
        raise Unsupported("OneHotEncoder of strings")
    whole, categories, count = cast(x, i64), numbers(cats_int64s, np.int64), len(cats_int64s)

    def equal(*i: Dim) -> Expr:
        return scalar.apply("eq", at(whole, i[:-1]), at(categories, i[-1:]))

    if zeros:
        return compute(f32, [*x.shape, count], lambda *i: scalar.cast(equal(*i), f32))
    none = -1 - count  # an index outside the table of categories, so that reading it fails
    place = reduce("max", i64, x.shape, [count], lambda *i: scalar.select(equal(*i), scalar.index(i[-1]), none))
    known = numbers(range(count), np.int64)

    def body(*i: Dim) -> Expr:
        found = at(known, (element(at(place, i[:-1]), count),))
        return scalar.cast(scalar.apply("eq", found, scalar.index(i[-1])), f32)

    return compute(f32, [*x.shape, count], body)


def label_encoder(
    x: Tensor,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: npt.NDArray[Any] | None = None,
    keys_floats: Sequence[float] | None = None,
    keys_int64s: Sequence[int] | None = None,
    keys_strings: Sequence[str] | None = None,
    keys_tensor: npt.NDArray[Any] | None = None,
    values_floats: Sequence[float] | None = None,
    values_int64s: Sequence[int] | None = None,
    values_strings: Sequence[str] | None = None,
    values_tensor: npt.NDArray[Any] | None = None,
) -> Tensor:
    """Compute LabelEncoder: replace each element by the value of its key (the last of equal keys), or by the default. x: T[*d] ->
    U[*d]

    Raises Unsupported for strings, Fail unless there are as many keys as values.
    """
    if keys_strings is not None or values_strings is not None:
        raise Unsupported("LabelEncoder of strings")
    keys = table(keys_tensor, keys_floats, keys_int64s)
    values = table(values_tensor, values_floats, values_int64s)
    if keys.dtype.kind not in "fiu" or values.dtype.kind not in "fiu":
        raise Unsupported("LabelEncoder of strings")
    if len(keys) != len(values):
        raise Fail(f"LabelEncoder with {len(keys)} keys, but {len(values)} values")
    default: Any = default_float if values_floats is not None else default_int64
    if values_tensor is not None and default_tensor is not None:
        default = default_tensor.item()
    return looked_up(x, keys, values, np.asarray(default, values.dtype))


def table(tensor: npt.NDArray[Any] | None, floats: Sequence[float] | None, ints: Sequence[int] | None) -> npt.NDArray[Any]:
    """Return the keys or values of LabelEncoder from the attribute that holds them. Raises Fail if there is none."""
    if tensor is not None:
        return tensor.ravel()
    if floats is not None:
        return np.array(floats, np.float32)
    if ints is not None:
        return np.array(ints, np.int64)
    raise Fail("LabelEncoder without keys or values")


def looked_up(x: Tensor, keys: npt.NDArray[Any], values: npt.NDArray[Any], default: npt.NDArray[Any]) -> Tensor:
    """Look up each element among the keys (NaN equals NaN) and return the value of the last equal key, or the default. x: T[*d] ->
    U[*d]
    """
    known_keys = constant(keys.astype(x.dtype.numpy))
    answers = constant(np.append(values, default))

    def place(*i: Dim) -> Expr:
        e, key = at(x, i[:-1]), at(known_keys, i[-1:])
        same = scalar.apply("eq", e, key)
        if x.dtype.is_float:
            same = scalar.apply("or", same, scalar.logical_and(scalar.is_nan(e), scalar.is_nan(key)))
        return scalar.select(same, scalar.index(i[-1]), -1)

    found = reduce("max", i64, x.shape, [len(keys)], place)
    return compute(from_numpy(values.dtype), x.shape, lambda *i: at(answers, (known_place(at(found, i), len(keys)),)))


def known_place(found: Expr, count: int) -> Dim:
    """Return the index of the value to read: that of the found key, or, if found < 0, that of the default, which is stored last."""
    return element(scalar.select(scalar.apply("lt", found, 0), count, found), count + 1)


def array_feature_extractor(x: Tensor, indices: Tensor) -> Tensor:
    """Compute ArrayFeatureExtractor: columns of x. x: T[*d, f], indices: i64[*k] -> T[*d, count]; a vector x gives T[1, count]"""
    if x.rank == 0:
        raise Fail("ArrayFeatureExtractor of a scalar")
    flat = reshaped(indices, [product(indices.shape)])
    outer = x.shape[:-1] or (1,)

    def index(*i: Dim) -> list[Dim]:
        return [*(i[:-1] if x.rank > 1 else ()), element(at(flat, (i[-1],)), x.shape[-1])]

    return view(x, [*outer, flat.shape[0]], index)


def feature_vectorizer(*xs: Tensor, inputdimensions: Sequence[int] | None = None) -> Tensor:
    """Compute FeatureVectorizer: the inputs' columns side by side, each input truncated or padded with zeros to its dimension.

    xs: T[n, f] or T[f] -> f32[n, sum of dimensions]. Raises Fail for other ranks, or if the number of dimensions differs from that
    of inputs.
    """
    if any(x.rank not in (1, 2) for x in xs):
        raise Fail(f"FeatureVectorizer of {', '.join(str(list(x.shape)) for x in xs)}")
    if inputdimensions and (len(inputdimensions) != len(xs) or min(inputdimensions) < 0):
        raise Fail(f"FeatureVectorizer of {len(xs)} inputs with the dimensions {list(inputdimensions)}")
    rows = [view(x, [1, *x.shape], lambda _, j: (j,)) if x.rank == 1 else x for x in xs]
    for x in rows:
        require_same(
            x.shape[:-1], rows[0].shape[:1], "FeatureVectorizer of {} and {}, which differ in rows", x.shape, rows[0].shape
        )
    widths: list[Dim] = list(inputdimensions) if inputdimensions else [x.shape[1] for x in rows]
    parts, start = [], []
    place: Dim = 0
    for x, width in zip(rows, widths, strict=True):
        parts.append(compute(f32, [rows[0].shape[0], width], lambda i, j, x=x: scalar.cast(cell(x, i, j), f32)))
        start.append(place)
        place = place + width
    return assemble(f32, [rows[0].shape[0], place], [(p, [0, s]) for p, s in zip(parts, start, strict=True)])


def cell(x: Tensor, i: Dim, j: Dim) -> Expr:
    """Return x[i, j], or zero if j is past the last column."""
    return Read(x, (i, j), scalar.apply("lt", scalar.index(j), scalar.index(x.shape[1])))


# ---- scores to probabilities, and labels ---------------------------------------------------------------------------------------


def transformed(scores: Tensor, kind: str) -> Tensor:
    """Apply a classifier's or regressor's post_transform to each row of scores. T[n, e] -> T[n, e]. Raises Fail for an unknown one."""
    if kind == "NONE":
        return scores
    if kind == "LOGISTIC":
        return pointwise(activation.sigmoid, scores)
    if kind == "SOFTMAX":
        return softmax_over(scores, [1])
    if kind == "SOFTMAX_ZERO":
        return softmax_zero(scores)
    if kind == "PROBIT":
        return pointwise(probit, scores)
    raise Fail(f"post_transform {kind} is unknown")


def softmax_zero(scores: Tensor) -> Tensor:
    """Compute SOFTMAX_ZERO: softmax in which scores of magnitude <= 1e-7 are not exponentiated, so that a score of 0 stays 0. T[n,
    e] -> T[n, e]
    """
    largest = along("max", scores, [1])

    def exponential(s: Expr, m: Expr) -> Expr:
        near_zero = scalar.apply("le", scalar.apply("abs", s), 1e-7)
        shrunk = scalar.mul(s, scalar.apply("exp", scalar.negate(m)))
        return scalar.select(near_zero, shrunk, scalar.apply("exp", scalar.sub(s, m)))

    e = pointwise(exponential, scores, largest)
    total = along("add", e, [1])
    return pointwise(lambda v, t: scalar.select(scalar.apply("eq", t, 0), 0.5, scalar.div(v, t)), e, total)


def probit(p: Expr) -> Expr:
    """Compute sqrt(2) erfinv(2 p - 1) by the formula that onnxruntime uses: S. Winitzki's approximation of erfinv, with a = 0.147."""
    x = scalar.sub(scalar.mul(p, 2), 1)
    log = scalar.apply("log", scalar.mul(scalar.sub(1, x), scalar.add(x, 1)))
    v = scalar.add(scalar.mul(log, 0.5), 2 / (math.pi * 0.147))
    size = scalar.apply("sqrt", scalar.sub(scalar.apply("sqrt", scalar.sub(scalar.mul(v, v), scalar.mul(log, 1 / 0.147))), v))
    return scalar.mul(scalar.apply("copysign", size, x), math.sqrt(2))


def two_columns(score: Tensor, first: Callable[[Expr], Expr]) -> Tensor:
    """Return (first(score), score) for each row. score: T[n, 1] -> T[n, 2]"""

    def body(i: Dim, j: Dim) -> Expr:
        s = at(score, (i, 0))
        return scalar.select(scalar.apply("eq", scalar.index(j), 0), first(s), s)

    return compute(score.dtype, [score.shape[0], 2], body)


def labelled(place: Tensor, labels: Sequence[int]) -> Tensor:
    """Return labels[place]. place: i64[n] -> i64[n]"""
    if list(labels) == list(range(len(labels))):
        return place
    known_labels = numbers(labels, np.int64)
    return view(known_labels, place.shape, lambda i: (element(at(place, (i,)), len(labels)),))


def best(scores: Tensor) -> Tensor:
    """Return the index of the greatest score of each row, the first one of equal scores. T[n, e] -> i64[n]"""
    return place_of("max")(scores, axis=1, keepdims=0)


def whole_labels(ints: Sequence[int] | None, strings: Sequence[str] | None) -> list[int]:
    """Return the labels of the classes. Raises Unsupported if they are strings."""
    if strings:
        raise Unsupported("a classifier of labels that are strings")
    return list(ints or ())


# ---- linear models -----------------------------------------------------------------------------------------------------------


def as_rows(x: Tensor) -> Tensor:
    """Return features as a matrix: T[n, f], or T[f] as one row, in f32 (f64 stays f64). Raises Fail for other ranks."""
    if x.rank not in (1, 2):
        raise Fail(f"features must be a matrix or a vector, not of shape {list(x.shape)}")
    matrix = view(x, [1, *x.shape], lambda _, j: (j,)) if x.rank == 1 else x
    return cast(matrix, compute_dtype(x.dtype))


def in_rows(values: Sequence[float], rows: int, what: str) -> npt.NDArray[Any]:
    """Arrange values as a matrix of this many rows. Raises Fail, calling them `what`, if their number is not divisible."""
    if rows < 1 or not values or len(values) % rows:
        raise Fail(f"{len(values)} {what} cannot be divided into {rows} rows")
    return np.array(values).reshape(rows, -1)


def linear_scores(x: Tensor, coefficients: Sequence[float], intercepts: Sequence[float] | None, rows: int) -> Tensor:
    """Compute x coefficients^T + intercepts. x: T[n, f] -> T[n, rows]. Coefficients beyond the first rows f are ignored, as in
    onnxruntime.
    """
    if isinstance(x.shape[1], int):
        coefficients = coefficients[: rows * x.shape[1]]
    w = in_rows(coefficients, rows, "coefficients").astype(x.dtype.numpy)
    y = linalg.product(x, constant(np.ascontiguousarray(w.T)), x.dtype)
    return y if not intercepts else add(y, numbers(intercepts, x.dtype.numpy))


def linear_regressor(
    x: Tensor,
    coefficients: Sequence[float],
    intercepts: Sequence[float] | None = None,
    targets: int = 1,
    post_transform: str = "NONE",
) -> Tensor:
    """Compute LinearRegressor. x: T[n, f] -> f32[n, targets]"""
    return transformed(cast(linear_scores(as_rows(x), coefficients, intercepts, targets), f32), post_transform)


def linear_classifier(
    x: Tensor,
    coefficients: Sequence[float],
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    intercepts: Sequence[float] | None = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Tensor, Tensor]:
    """Compute LinearClassifier. x: T[n, f] -> labels i64[n], scores f32[n, classes]. A single row of coefficients scores the second
    of two classes.
    """
    labels = whole_labels(classlabels_ints, classlabels_strings)
    rows = as_rows(x)
    count = len(intercepts) if intercepts else max(len(labels), 1)
    scores = cast(linear_scores(rows, coefficients, intercepts, count), f32)
    if count > 1:
        return labelled(best(scores), labels), transformed(scores, post_transform)
    return one_score(scores, labels, post_transform)


def one_score(score: Tensor, labels: Sequence[int], post_transform: str) -> tuple[Tensor, Tensor]:
    """Return the label and the scores (1 - s, s) from the score s of the second of two classes. Softmax leaves these scores
    unchanged, as in onnxruntime.
    """
    positive = view(pointwise(lambda s: scalar.apply("gt", s, 0), score, dtype=boolean), [score.shape[0]], lambda i: (i, 0))
    pair = list(labels) if len(labels) == 2 else [0, labels[0] if labels else 1]
    label = labelled(cast(positive, i64), pair)
    own = score if post_transform.startswith("SOFTMAX") and len(labels) == 2 else transformed(score, post_transform)
    return label, two_columns(own, lambda s: scalar.sub(1, s)) if len(labels) == 2 else own


F = reals(4, 3)
WHOLE = integers(4, 3, lo=-2, hi=3)
WEIGHTS = [0.5, -1.0, 2.0, 1.5, 0.25, -0.75, -0.5, 1.0, 0.1]
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")


def op(name: str, meaning: Callable[..., Any], *cases: Case, since: int = 1, **fields: Any) -> Op:
    return Op(name, since=since, domain=DOMAIN, lower=meaning, quantised=Rule.NONE, cases=cases, tolerance=1e-5, **fields)


def host(name: str) -> Op:
    """Make the record of an operator of strings or maps, which runs in Python."""
    return Op(name, since=1, domain=DOMAIN, host=True, gradient=Rule.NONE, quantised=Rule.NONE)


OPS = (
    *(host(name) for name in ("CastMap", "CategoryMapper", "DictVectorizer", "LabelEncoder", "ZipMap")),
    op("Scaler", scaler, Case((F,), {"offset": [0.5, 1.0, -1.0], "scale": [2.0, 0.5, 1.0]}), reference=own.scaler),
    op("Binarizer", binarizer, Case((F,), {"threshold": 0.5}), Case((WHOLE,), {"threshold": 1.0}), gradient=Rule.NONE),
    op("Normalizer", normalizer, *(Case((np.abs(F),), {"norm": n}) for n in ("MAX", "L1", "L2")), reference=own.normalizer),
    op(
        "Imputer",
        imputer,
        Case((np.where(F > 1, np.nan, F),), {"imputed_value_floats": [7.0], "replaced_value_float": math.nan}),
        Case((WHOLE,), {"imputed_value_int64s": [7, 8, 9], "replaced_value_int64": -1}),
    ),
    op(
        "OneHotEncoder",
        one_hot_encoder,
        Case((WHOLE,), {"cats_int64s": [3, 0, -2]}),
        Case((WHOLE,), {"cats_int64s": [-2, -1, 0, 1, 2, 3], "zeros": 0}, "all_known"),
        gradient=Rule.NONE,
    ),
    op(
        "LabelEncoder",
        label_encoder,
        Case((WHOLE,), {"keys_int64s": [1, -2, 3], "values_floats": [0.5, 1.5, 2.5], "default_float": 9.0}),
        since=2,
        gradient=Rule.NONE,
    ),
    op("ArrayFeatureExtractor", array_feature_extractor, Case((F, np.array([2, 0]))), Case((F[0], np.array([[1]])))),
    op("FeatureVectorizer", feature_vectorizer, Case((F, F[:, :1].copy()), {"inputdimensions": [2, 3]})),
    op(
        "LinearRegressor",
        linear_regressor,
        Case((F,), {"coefficients": WEIGHTS, "intercepts": [0.1, 0.2, 0.3], "targets": 3}),
        reference=own.linear_regressor,
    ),
    op(
        "LinearClassifier",
        linear_classifier,
        *(
            Case(
                (F,),
                {"coefficients": WEIGHTS, "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [4, 2, 7], "post_transform": t},
                outputs=2,
            )
            for t in TRANSFORMS
        ),
        *(
            Case(
                (F,), {"coefficients": WEIGHTS[:3], "intercepts": [0.1], "classlabels_ints": [0, 1], "post_transform": t}, outputs=2
            )
            for t in TRANSFORMS
        ),
        gradient=Rule.NONE,
        reference=own.linear_classifier,
    ),
)
