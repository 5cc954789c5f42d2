"""Encodes values of a model (constants, attributes) for JSON, and decodes them. Data of arrays go to a separate block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sardonyx.base import dtypes
from sardonyx.host.table import texts
from sardonyx.runtime.memory import Bytes
from sardonyx.runtime.records import element_type, fields, listed, text, whole

LIST, ARRAY, TEXTS = "list", "array", "texts"


class Unstorable(Exception):
    """Raised for a value or part that can't be stored in the cache."""


def stored(value: Any, pieces: list[Bytes]) -> Any:
    """Encode a value; append the data of numeric arrays to `pieces`. Raises Unstorable."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [LIST, [stored(element, pieces) for element in value]]
    if isinstance(value, np.ndarray) and value.dtype == object:
        elements = value.reshape(-1).tolist()
        if all(isinstance(element, str) for element in elements):
            return [TEXTS, value.shape, elements]
    elif isinstance(value, np.ndarray) and dtypes.from_numpy(value.dtype).is_number:
        pieces.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        return [ARRAY, value.shape, dtypes.from_numpy(value.dtype).name]
    raise Unstorable(f"a value of type {type(value).__name__} can't be stored")


def restored(record: object, pieces: Iterator[Bytes]) -> Any:
    """Decode a value; lists become tuples. Raises ValueError for anything that `stored` doesn't write."""
    if record is None or isinstance(record, bool | int | float | str):
        return record
    if isinstance(record, list) and len(record) == 2 and record[0] == LIST:
        return listed(record[1], lambda element: restored(element, pieces))
    kind, sizes, told = fields(record, 3)
    shape = listed(sizes, lambda size: whole(size, 0))
    if kind == TEXTS:
        elements = list(listed(told, text))
        if len(elements) != math.prod(shape):
            raise ValueError("the number of strings does not fit their shape")
        return texts(elements, shape)
    dtype, piece = element_type(told), next(pieces, None)
    if kind != ARRAY or piece is None or piece.size != math.prod(shape) * dtype.numpy.itemsize or not dtype.is_number:
        raise ValueError("the data of an array are missing")
    return piece.view(dtype.numpy).reshape(shape)
