"""Values that operators refuse when a model runs, and requests that sessions refuse: with onnxruntime's classes of exceptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import sardonyx as sx
from sardonyx.base.errors import Fail, InvalidArgument
from tests.session.models import model

F = np.float32
ONES = np.ones((2, 3), F)


def numbers(*values: int) -> Any:
    return np.array(values, np.int64)


# {what is wrong: (the model, feeds that are right, feeds that are not)}
VALUES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rows to add": (
        "g (float[n, 3] x, float[m, 3] y) => (float[k, 3] z) { z = Add(x, y) }",
        {"x": ONES, "y": ONES},
        {"x": ONES, "y": np.ones((3, 3), F)},
    ),
    "columns to multiply": (
        "g (float[n, k] x, float[l, m] y) => (float[n, m] z) { z = MatMul(x, y) }",
        {"x": ONES, "y": ONES.T},
        {"x": ONES, "y": ONES},
    ),
    "columns of a gemm": (
        "g (float[n, k] x, float[l, m] y) => (float[n, m] z) { z = Gemm(x, y) }",
        {"x": ONES, "y": ONES.T},
        {"x": ONES, "y": ONES},
    ),
    "a size that does not divide": (
        "g (float[n, 3] x, int64[2] s) => (float[a, b] z) { z = Reshape(x, s) }",
        {"x": ONES, "s": numbers(3, -1)},
        {"x": ONES, "s": numbers(4, -1)},
    ),
    "two sizes to find": (
        "g (float[n, 3] x, int64[2] s) => (float[a, b] z) { z = Reshape(x, s) }",
        {"x": ONES, "s": numbers(6, 1)},
        {"x": ONES, "s": numbers(-1, -1)},
    ),
    "another count of elements": (
        "g (float[n, 3] x, int64[2] s) => (float[a, b] z) { z = Reshape(x, s) }",
        {"x": ONES, "s": numbers(6, 1)},
        {"x": ONES, "s": numbers(5, 1)},
    ),
    "a row that is not there": (
        "g (float[n, 3] x, int64[k] i) => (float[k, 3] z) { z = Gather <axis = 0> (x, i) }",
        {"x": ONES, "i": numbers(0, -2)},
        {"x": ONES, "i": numbers(0, 2)},
    ),
    "a row before the first": (
        "g (float[n, 3] x, int64[k] i) => (float[k, 3] z) { z = Gather <axis = 0> (x, i) }",
        {"x": ONES, "i": numbers(-2)},
        {"x": ONES, "i": numbers(-3)},
    ),
    "an element that is not there": (
        "g (float[n, 3] x, int64[n, k] i) => (float[n, k] z) { z = GatherElements <axis = 1> (x, i) }",
        {"x": ONES, "i": numbers(0, 2).reshape(2, 1)},
        {"x": ONES, "i": numbers(0, 3).reshape(2, 1)},
    ),
    "rows to join": (
        "g (float[n, 3] x, float[m, 3] y) => (float[n, 6] z) { z = Concat <axis = 1> (x, y) }",
        {"x": ONES, "y": ONES},
        {"x": ONES, "y": np.ones((3, 3), F)},
    ),
    "a shape that is no broadcast": (
        "g (float[n, 3] x, int64[2] s) => (float[a, b] z) { z = Expand(x, s) }",
        {"x": ONES, "s": numbers(2, 3)},
        {"x": ONES, "s": numbers(3, 3)},
    ),
    "a step of nothing": (
        "g (float[n, 3] x, int64[1] t) => (float[a, 3] z) <int64[1] b = {0}, int64[1] e = {2}> { z = Slice(x, b, e, b, t) }",
        {"x": ONES, "t": numbers(1)},
        {"x": ONES, "t": numbers(0)},
    ),
    "repetition less than none": (
        "g (float[n, 3] x, int64[2] r) => (float[a, b] z) { z = Tile(x, r) }",
        {"x": ONES, "r": numbers(2, 0)},
        {"x": ONES, "r": numbers(2, -1)},
    ),
    "more than there are": (
        "g (float[n, 3] x, int64[1] k) => (float[n, k] z, int64[n, k] i) { z, i = TopK(x, k) }",
        {"x": ONES, "k": numbers(3)},
        {"x": ONES, "k": numbers(4)},
    ),
    "an axis of two": (
        "g (float[n, 3] x) => (float[3] z) <int64[1] a = {0}> { z = Squeeze(x, a) }",
        {"x": ONES[:1]},
        {"x": ONES},
    ),
    "channels": (
        "g (float[1, c, 4, 4] x, float[2, d, 1, 1] w) => (float[1, 2, 4, 4] z) { z = Conv(x, w) }",
        {"x": np.ones((1, 3, 4, 4), F), "w": np.ones((2, 3, 1, 1), F)},
        {"x": np.ones((1, 3, 4, 4), F), "w": np.ones((2, 2, 1, 1), F)},
    ),
    "lengths of parts": (
        "g (float[n, 3] x, int64[2] s) => (float[a, 3] y, float[b, 3] z) { y, z = Split(x, s) }",
        {"x": ONES, "s": numbers(1, 1)},
        {"x": ONES, "s": numbers(1, 2)},
    ),
    "a size below nothing": (
        "g (int64[2] s) => (float[a, b] z) { z = ConstantOfShape(s) }",
        {"s": numbers(2, 0)},
        {"s": numbers(2, -2)},
    ),
    "an integer over nothing": (
        "g (int64[n] s, int64[m] t) => (int64[k] z) { c = Concat <axis = 0> (s, t)  z = Neg(c) }",
        {"s": numbers(1), "t": numbers(2)},
        {"s": numbers(1), "t": np.ones(1, F)},
    ),
}

SIZES = "what is asked of sizes fails with one class here, Fail, whichever operator asks"
DIFFERENT: dict[str, str] = {
    "columns of a gemm": SIZES,
    "a shape that is no broadcast": SIZES,
    "a step of nothing": SIZES,
    "repetition less than none": SIZES,
    "lengths of parts": SIZES,
    "an element that is not there": "indices out of bounds fail with one class here, InvalidArgument, whichever operator reads",
    "an output that is a number": "onnxruntime's binding wants texts; here it is an output that is not there",
    "no feeds": "onnxruntime asks None for its names",
    "a list of feeds": "onnxruntime asks the list for its names",
}
"""{what is wrong: why the class differs}; each of these must differ. All classes are documented ones, or TypeError."""


def classes(source: bytes, feeds: dict[str, Any]) -> tuple[Any, Any]:
    """What onnxruntime, and a session of ours, raise."""
    found = []
    for engine in (ort, sx):
        session = engine.InferenceSession(source)
        with pytest.raises(Exception) as raised:  # noqa: PT011 whatever it is
            session.run(None, feeds)
        found.append(raised.value)
    return found[0], found[1]


@pytest.mark.parametrize("name", VALUES)
def test_values_that_operators_refuse(name: str) -> None:
    text, right, wrong = VALUES[name]
    source = model(text)
    theirs, mine = classes(source, wrong)
    assert (type(mine).__name__ == type(theirs).__name__) == (name not in DIFFERENT), f"{mine!r}\n{theirs!r}"
    assert type(mine) in (Fail, InvalidArgument)
    session = sx.InferenceSession(source)
    wanted = session.run(None, right)
    with pytest.raises(type(mine)):
        session.run(None, wrong)
    for got, w in zip(session.run(None, right), wanted, strict=True):  # the session goes on
        np.testing.assert_array_equal(got, w)


REQUESTS: dict[str, Callable[[Any], object]] = {
    "an output that is not there": lambda s: s.run(["q"], {"x": ONES}),
    "one output, as a text": lambda s: s.run("z", {"x": ONES}),
    "an output that is a number": lambda s: s.run([3], {"x": ONES}),
    "no feeds": lambda s: s.run(None, None),
    "a list of feeds": lambda s: s.run(None, [ONES]),
    "a name that is a number": lambda s: s.run(None, {3: ONES}),
    "nothing fed to an input": lambda s: s.run(None, {"x": None}),
    "options that are a text": lambda s: s.run(None, {"x": ONES}, "fast"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(name: str) -> None:
    source = model("g (float[n, 3] x) => (float[n, 3] z) { z = Neg(x) }")
    raised = []
    for engine in (ort, sx):
        session = engine.InferenceSession(source)
        try:
            REQUESTS[name](session)
        except Exception as error:
            raised.append(type(error).__name__)
        else:
            raised.append("nothing")
    assert (raised[1] == raised[0]) == (name not in DIFFERENT), raised
    assert raised[1] in ("Fail", "InvalidArgument", "TypeError", "ValueError", "nothing")
