"""Cast and CastLike from and to strings.

A number becomes the shortest text that reads back as the same number; NaN, INF and -INF are the standard's names. The
standard is silent on bools: they become 1 and 0, as in ONNX Runtime. Texts are read as integers or decimal numbers, in any
case and with blanks around them. Casting to an integer dtype truncates fractions, and wraps numbers out of range, as casts
between numbers do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sardonyx.base.dtypes import BY_CODE, FLOATS, DType, boolean, from_numpy, string
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.host.table import Array, Function, Table, fresh, texts


def cast(to: int, saturate: int = 1, round_mode: str = "up") -> Function:
    """x: S[*d] -> T[*d], where `to` is the code of T, and S or T are strings. Raises Fail if strings can't be read as T."""
    dtype = BY_CODE[to]
    convert = converter(dtype)
    return fresh(convert)


def cast_like(saturate: int = 1, round_mode: str = "up") -> Function:
    """x: S[*d], like: T[*e] -> T[*d]"""
    return fresh(lambda x, like: converter(from_numpy(like.dtype))(x))


def converter(dtype: DType) -> Callable[[Array], Array]:
    """Return the function that converts an array from or to strings. Raises Fail as `cast`."""
    if dtype == string:
        return written
    if not (dtype in FLOATS or dtype.is_integer or dtype == boolean):
        raise Fail(f"strings can't be cast to {dtype.onnx_name}")
    return lambda x: read(x, dtype)


# ---- numbers as texts ----------------------------------------------------------------------------------------------------------


def written(x: Array) -> Array:
    """Format an array of numbers or strings as string[*d]."""
    dtype = from_numpy(x.dtype)
    values = x.astype(np.float32) if dtype.is_float and x.dtype.kind != "f" else x.astype(np.int64) if dtype.bits < 8 else x
    return texts([text_of(value) for value in values.reshape(-1)], x.shape)


def text_of(value: Any) -> str:
    if isinstance(value, np.floating) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "INF" if value > 0 else "-INF"
    return str(int(value)) if isinstance(value, np.bool_) else str(value)


# ---- texts as numbers -----------------------------------------------------------------------------------------------------------


def read(x: Array, dtype: DType) -> Array:
    """Parse texts as numbers. x: string[*d] -> T[*d]. Raises InvalidArgument for a text that is no number."""
    values = x.reshape(-1).tolist()
    if dtype.is_float:
        return np.array([decimal(text) for text in values], np.float64).astype(dtype.numpy).reshape(x.shape)
    numbers = [whole(text) for text in values] if dtype.is_integer else [decimal(text) != 0 for text in values]
    kept = [within(number, dtype) for number in numbers]
    return np.array(kept, np.int64 if dtype.bits < 64 else dtype.numpy).astype(dtype.numpy).reshape(x.shape)


def decimal(text: str) -> float:
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise InvalidArgument(f"'{text}' is not a number")


def whole(text: str) -> int:
    """Parse an integer of at most 64 bits. Raises InvalidArgument."""
    try:
        found = int(text) if "_" not in text else None
    except ValueError:
        found = None
    if found is None:
        number = decimal(text)
        found = int(number) if math.isfinite(number) else None
    if found is None or not -(1 << 63) <= found < 1 << 64:
        raise InvalidArgument(f"'{text}' is not an integer of 64 bits")
    return found


def within(number: int, dtype: DType) -> int:
    """Wrap a number to the dtype's bits."""
    if dtype == boolean:
        return number
    lower = number & ((1 << dtype.bits) - 1)
    return lower - (1 << dtype.bits) if dtype.kind == "int" and lower >> (dtype.bits - 1) else lower


TABLE: Table = {"Cast": ((6, cast),), "CastLike": ((15, cast_like),)}
