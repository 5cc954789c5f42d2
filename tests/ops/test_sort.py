"""Unique, NonZero and TopK where a record's cases can't say it: constants, outputs that nobody reads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sardonyx.session.inference_session import InferenceSession
from tests.graph.models import data
from tests.ops.harness import run

K = np.array([1, 0, 1, 0, 7])


@pytest.mark.parametrize("known", [(), (0,)], ids=["fed", "constant"])
@pytest.mark.parametrize("wanted", [w for w in itertools.product((False, True), repeat=4) if any(w)])
def test_unique_with_any_of_its_outputs(wanted: tuple[bool, ...], known: tuple[int, ...]) -> None:
    names = ["y", "first", "group", "count"]
    outputs = ", ".join(n if w else "" for n, w in zip(names, wanted, strict=True)).rstrip(" ,")
    results = ", ".join(f"int64[{n}_size] {n}" for n, w in zip(names, wanted, strict=True) if w)
    source = "k = Constant<value = int64[5] {1, 0, 1, 0, 7}>()" if known else "k = Identity(x)"
    model = data(f"g (int64[5] x) => ({results}) {{ {source} {outputs} = Unique(k) }}")
    got = InferenceSession(model, disabled_optimizers=["ConstantFolding"]).run(None, {"x": K})
    expected = [e for e, w in zip(np.unique(K, True, True, True), wanted, strict=True) if w]
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("known", [(), (0, 1)], ids=["fed", "constant"])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_of_ties_takes_the_first(largest: int, known: tuple[int, ...]) -> None:
    x = np.array([2, 1, 2, 1, 2, 1], np.float32)
    values, places = run("TopK", [x, np.array([4])], {"largest": largest}, outputs=2, known=known)
    np.testing.assert_array_equal(values, [2, 2, 2, 1] if largest else [1, 1, 1, 2])
    np.testing.assert_array_equal(places, [0, 2, 4, 1] if largest else [1, 3, 5, 0])
