"""Values as records: what is written comes back, nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sardonyx.runtime.memory import Bytes
from sardonyx.session.stored_values import Unstorable, restored, stored

VALUES: list[Any] = [
    *(None, True, 7, -1.5, float("inf"), "text", "é\ud800", (), ("a", (1, 2.5), None)),
    np.arange(6, dtype=np.int16).reshape(2, 3),
    np.array(3.5),
    np.zeros((0, 4), np.float32),
    np.array([1.5], ml_dtypes.bfloat16),
    np.arange(6.0).reshape(2, 3).T,
    np.array([["a", ""]], object),
    (np.array([True]), "x", np.array(["y"], object)),
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_what_is_written_comes_back(value: Any):
    pieces: list[Bytes] = []
    record = json.loads(json.dumps(stored(value, pieces)))
    again = restored(record, iter(pieces))
    same(again, value)


def same(a: Any, b: Any) -> None:
    if isinstance(b, tuple):
        assert type(a) is tuple
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(b, np.ndarray):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b
        assert type(a) is type(b)


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()], object), b"raw", np.array([1], "datetime64[s]")])
def test_other_values_are_not_kept(value: Any):
    with pytest.raises((Unstorable, TypeError)):
        stored(value, [])


@pytest.mark.parametrize(
    "record",
    [
        *([], {}, ["list"], ["list", 1], ["list", [{}]], ["array", [2], "f32"], ["array", [1], "f64"], ["array", [1], "string"]),
        *(["array", [-1], "f32"], ["array", "1", "f32"], ["texts", [2], ["a"]], ["texts", [1], [1]], ["other", [1], "f32"]),
    ],
)
def test_nothing_else_is_read(record: Any):
    with pytest.raises(ValueError):  # noqa: PT011
        restored(record, iter([np.zeros(4, np.uint8)]))
