"""Operators of ai.onnx.ml that run on the host: label tables, categories and maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.host.table import Array, Function, Table, fresh, plain, texts

# ---- tables ----------------------------------------------------------------------------------------------------------------


def label_encoder(
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: Array | None = None,
    keys_floats: Sequence[float] | None = None,
    keys_int64s: Sequence[int] | None = None,
    keys_strings: Sequence[str] | None = None,
    keys_tensor: Array | None = None,
    values_floats: Sequence[float] | None = None,
    values_int64s: Sequence[int] | None = None,
    values_strings: Sequence[str] | None = None,
    values_tensor: Array | None = None,
) -> Function:
    """x: T[*d] -> U[*d]: replace each element by the value of its key, or the default. Of equal keys the last counts; NaN is a
    key too.
    """
    keys = first_given(keys_tensor, keys_strings, keys_int64s, keys_floats)
    if values_tensor is not None:
        dtype, values = values_tensor.dtype, values_tensor.reshape(-1).tolist()
        default = default_tensor.reshape(-1).tolist()[0] if default_tensor is not None else default_for(dtype)
    elif values_strings is not None:
        dtype, values, default = np.dtype(object), list(values_strings), default_string
    elif values_int64s is not None:
        dtype, values, default = np.dtype(np.int64), list(values_int64s), default_int64
    else:
        dtype, values, default = np.dtype(np.float32), first_given(values_floats), default_float
    if len(keys) != len(values):
        raise Fail(f"LabelEncoder has {len(keys)} keys, but {len(values)} values")
    return looked_up(keys, values, default, dtype)


def first_given(*lists: Any) -> list[Any]:
    """Return the first argument that isn't None, as a list. Raises Fail if there is none."""
    for found in lists:
        if found is not None:
            return found.reshape(-1).tolist() if isinstance(found, np.ndarray) else list(found)
    raise Fail("LabelEncoder has no keys or no values")


def default_for(dtype: np.dtype[Any]) -> Any:
    """Return the value for missing keys if the node has no default attribute."""
    return "_Unused" if dtype.kind == "O" else -1 if dtype.kind in "iu" else -0.0


def looked_up(keys: Sequence[Any], values: Sequence[Any], default: Any, dtype: np.dtype[Any]) -> Function:
    """Return the function that looks up each element of an array."""
    table = dict(zip(keys, values, strict=True))
    of_nan = [value for key, value in zip(keys, values, strict=True) if key != key]
    if of_nan:
        return one_by_one(lambda key: table.get(key, default) if key == key else of_nan[-1], dtype)
    if dtype.kind != "O":
        return by_bytes({key: np.array(value, dtype).tobytes() for key, value in table.items()}, np.array(default, dtype))
    return in_order(texts([*values, default], (-1,)), table) if list(keys) == list(range(len(keys))) else by_key(table, default)


def one_by_one(value_of: Callable[[Any], Any], dtype: np.dtype[Any]) -> Function:
    def run(x: Array) -> Array:
        out = np.empty(x.size, dtype)
        out[:] = [value_of(key) for key in x.reshape(-1).tolist()]
        return out.reshape(x.shape)

    return fresh(run)


def by_bytes(table: Mapping[Any, bytes], default: Array) -> Function:
    """Look up numbers by joining their bytes, which is faster than converting a list to an array."""
    dtype, missing = default.dtype, default.tobytes()
    single = of_one_element({key: np.frombuffer(value, dtype) for key, value in table.items()}, np.frombuffer(missing, dtype))

    def run(x: Array) -> Array:
        if x.size == 1:
            return single(x)
        elements = x.tolist() if x.ndim == 1 else x.reshape(-1).tolist()
        found = np.frombuffer(bytearray().join(map(table.get, elements, itertools.repeat(missing))), dtype)
        return found if x.ndim == 1 else found.reshape(x.shape)

    return fresh(run)


def of_one_element(table: Mapping[Any, Array], default: Array) -> Callable[[Array], Array]:
    """Return a function that looks up an array of one element, the most common case; its answers are stored as arrays."""

    def run(x: Array) -> Array:
        found = table.get(x.item(), default).copy()
        return found if x.ndim == 1 else found.reshape(x.shape)

    return run


def by_key(table: Mapping[Any, str], default: str) -> Function:
    """Look up strings in a dict."""
    single = of_one_element({key: texts([value], (1,)) for key, value in table.items()}, texts([default], (1,)))

    def run(x: Array) -> Array:
        if x.size == 1:
            return single(x)
        out = np.empty(x.size, object)
        out[:] = list(map(table.get, x.tolist() if x.ndim == 1 else x.reshape(-1).tolist(), itertools.repeat(default)))
        return out if x.ndim == 1 else out.reshape(x.shape)

    return fresh(run)


def in_order(values: Array, table: Mapping[int, str]) -> Function:
    """Look up strings by index; the last of `values` for an index out of range."""
    few, many = by_key(table, values[-1]), by_place(values)
    return fresh(lambda x: few(x) if x.size <= FEW else many(x))


FEW = 64
"""The most elements for which a loop in Python is faster than numpy's functions."""


def by_place(values: Array) -> Callable[[Array], Array]:
    """x: i64[*d] -> U[*d]: values[x], or the last value for an index out of range."""
    count = len(values) - 1

    def run(x: Array) -> Array:
        if x.min() < 0 or x.max() > count:
            x = np.where((x >= 0) & (x < count), x, count)
        found: Array = values[x]
        return found

    return run


def label_encoder_1(classes_strings: Sequence[str], default_int64: int = -1, default_string: str = "_Unused") -> Function:
    """Map each string to its index in the list, or each index to its string."""
    return category_mapper(range(len(classes_strings)), classes_strings, default_int64, default_string)


def category_mapper(
    cats_int64s: Sequence[int],
    cats_strings: Sequence[str],
    default_int64: int = -1,
    default_string: str = "_Unused",
) -> Function:
    """Map strings to numbers, or numbers to strings."""
    if len(cats_int64s) != len(cats_strings):
        raise Fail(f"CategoryMapper has {len(cats_int64s)} numbers, but {len(cats_strings)} strings")
    to_number = looked_up(cats_strings, cats_int64s, default_int64, np.dtype(np.int64))
    to_text = looked_up(cats_int64s, cats_strings, default_string, np.dtype(object))
    return fresh(lambda x: to_number(x) if x.dtype == object else to_text(x))


def one_hot_encoder(
    cats_int64s: Sequence[int] | None = None, cats_strings: Sequence[str] | None = None, zeros: int = 1
) -> Function:
    """x: string[*d] -> f32[*d, categories]: 1 at the string's category, else 0. With zeros = 0 an unknown string raises
    InvalidArgument.
    """
    count = len(cats_strings or ())
    rows = dict(zip(cats_strings or (), map(bytes, np.eye(count, dtype=np.float32)), strict=True))
    unknown = bytes(4 * count)
    arrays = {name: np.frombuffer(row, np.float32) for name, row in rows.items()}

    def run(x: Array) -> Array:
        if x.size == 1 and (one := arrays.get(x.item())) is not None:
            return one.copy().reshape(*x.shape, count)
        names = x.reshape(-1).tolist()
        try:
            found = bytearray().join(map(rows.get, names, itertools.repeat(unknown)) if zeros else map(rows.__getitem__, names))
        except KeyError as error:
            raise InvalidArgument("Unknown Category and zeros = 0.") from error
        return np.frombuffer(found, np.float32).reshape(*x.shape, count)

    return fresh(run)


def array_feature_extractor(x: Array, indices: Array) -> Array:
    """x: T[*d, f], indices: i64[*k] -> T[*d, count]: select these indices of the last axis; a vector gives T[1, count]."""
    count, places = x.shape[-1], indices.reshape(-1)
    if (places.item() if places.size == 1 else min(places.tolist(), default=0)) < 0:
        raise IndexError(f"Invalid Y argument: index is out of range: Y[...] must be within [0, {count - 1}]")
    if x.ndim == 1:
        return x.take(places).reshape(1, -1)
    return x.take(places, -1)


# ---- maps ------------------------------------------------------------------------------------------------------------------


def zip_map(classlabels_int64s: Sequence[int] | None = None, classlabels_strings: Sequence[str] | None = None) -> Function:
    """x: f32[n, classes] or f32[classes] -> for each row {label: score}, sorted by label, as in onnxruntime"""
    labels = tuple(classlabels_strings or classlabels_int64s or ())
    count, zipped = len(labels), row_zipper(labels)

    def run(x: Array) -> list[dict[Any, float]]:
        if x.shape[-1] != count:
            raise InvalidArgument(f"ZipMap has {count} labels, but its input has {x.shape[-1]} columns")
        return zipped(x.tolist() if x.ndim == 2 else x.reshape(-1, count).tolist())

    return fresh(run)


MOST_WRITTEN = 100
"""The most labels for which a specialised comprehension is generated."""


def row_zipper(labels: Sequence[Any]) -> Callable[[list[list[float]]], list[dict[Any, float]]]:
    """Return a function that makes {label: score} for each row of scores.

    For up to MOST_WRITTEN labels it is generated as `[{k0: v0, k1: v1} for v0, v1 in rows]`, which takes a third of the time
    of dict(zip(labels, row)).
    """
    if not 0 < len(labels) <= MOST_WRITTEN:
        return lambda rows: [dict(sorted(zip(labels, row, strict=True))) for row in rows]
    order = sorted(range(len(labels)), key=labels.__getitem__)
    keys = ", ".join(f"k{i}" for i in range(len(labels)))
    scores = ", ".join(f"v{i}" for i in range(len(labels)))
    pairs = ", ".join(f"k{i}: v{i}" for i in order)
    made = eval(f"lambda {keys}: lambda rows: [{{{pairs}}} for {scores}, in rows]")  # noqa: S307: the text contains no label
    return made(*labels)  # type: ignore[no-any-return]


# {cast_to: (element type, conversion of a value, value for missing entries)}
CASTS: dict[str, tuple[Any, Callable[[Any], Any], Any]] = {
    "TO_FLOAT": (np.float32, float, 0),
    "TO_INT64": (np.int64, lambda value: int(float(value)), 0),
    "TO_STRING": (object, str, ""),
}


def cast_map(cast_to: str = "TO_FLOAT", map_form: str = "DENSE", max_map: int = 1) -> Function:
    """Return a map's values in the order of its keys, [1, entries]; or, with keys as column numbers, [1, max_map]."""
    dtype, convert, empty = CASTS[cast_to]

    def run(x: Mapping[int, Any]) -> Array:
        count = len(x) if map_form == "DENSE" else max_map
        out = np.full((1, count), empty, dtype)
        for place, key in enumerate(sorted(x)):
            column = place if map_form == "DENSE" else key
            if 0 <= column < count:
                out[0, column] = convert(x[key])
        return out

    return run


def dict_vectorizer(int64_vocabulary: Sequence[int] | None = None, string_vocabulary: Sequence[str] | None = None) -> Function:
    """x: {key: value} -> [1, vocabulary]: the value of each key of the vocabulary, 0 if x lacks it."""
    vocabulary = tuple(string_vocabulary or int64_vocabulary or ())

    def run(x: Mapping[Any, Any]) -> Array:
        first = next(iter(x.values()), 0.0)
        if isinstance(first, str):
            return texts([x.get(key, "") for key in vocabulary], (1, -1))
        return np.array([[x.get(key, 0) for key in vocabulary]], np.int64 if isinstance(first, int) else np.float32)

    return run


TABLE: Table = {
    "ArrayFeatureExtractor": plain(fresh(array_feature_extractor)),
    "CastMap": ((1, cast_map),),
    "CategoryMapper": ((1, category_mapper),),
    "DictVectorizer": ((1, dict_vectorizer),),
    "LabelEncoder": ((1, label_encoder_1), (2, label_encoder)),
    "OneHotEncoder": ((1, one_hot_encoder),),
    "ZipMap": ((1, zip_map),),
}
