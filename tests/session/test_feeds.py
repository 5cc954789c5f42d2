"""Feeds: what is accepted and what is refused, each beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import sardonyx as sx
from tests.session.models import model, relu

ONES = np.ones((2, 3), np.float32)
ACCEPTED: dict[str, Any] = {
    "array": ONES,
    "Fortran order": np.asfortranarray(ONES),
    "every other column": np.ones((2, 6), np.float32)[:, ::2],
    "backwards": ONES[::-1],
    "broadcast": np.broadcast_to(np.float32(1), (2, 3)),
    "no rows": np.ones((0, 3), np.float32),
    "nested list": [[1, 2, 3], [4, 5, 6]],
    "read-only": np.frombuffer(ONES.tobytes(), np.float32).reshape(2, 3),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    feed = {"x": ACCEPTED[name]}
    (mine,), (theirs,) = (e.InferenceSession(relu()).run(None, feed) for e in (sx, ort))
    np.testing.assert_array_equal(mine, theirs)
    assert mine.shape == theirs.shape


def test_an_array_off_its_alignment_and_one_of_another_byte_order() -> None:
    raw = np.frombuffer(b"\0" + ONES.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    session = sx.InferenceSession(relu())
    for x in (raw, ONES.astype(">f4")):
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], ONES)


REFUSED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "another name": {"q": ONES},
    "one more": {"x": ONES, "q": ONES},
    "f64": {"x": ONES.astype(np.float64)},
    "i64": {"x": ONES.astype(np.int64)},
    "f16": {"x": ONES.astype(np.float16)},
    "bool": {"x": ONES.astype(bool)},
    "rank 1": {"x": ONES[0]},
    "rank 3": {"x": ONES[None]},
    "rank 0": {"x": np.array(1, np.float32)},
    "four columns": {"x": np.ones((2, 4), np.float32)},
    "no columns": {"x": np.ones((2, 0), np.float32)},
    "a ragged list": {"x": [[1.0], [1.0, 2.0]]},
    "an object": {"x": object()},
    "a text": {"x": "abc"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_onnxruntimes_class(name: str) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011 whatever onnxruntime raises
        ort.InferenceSession(relu()).run(None, REFUSED[name])
    session = sx.InferenceSession(relu())
    with pytest.raises(Exception) as mine:  # noqa: PT011
        session.run(None, REFUSED[name])
    assert type(mine.value).__name__ == type(theirs.value).__name__, f"{mine.value!r}\n{theirs.value!r}"
    np.testing.assert_array_equal(session.run(None, {"x": ONES})[0], ONES)  # the session goes on


def test_texts() -> None:
    source = model("g (string[n] x) => (string[n] y) { y = Identity (x) }")
    for x in (np.array(["a", "bc"]), np.array(["a", "bc"], object), np.array([b"a", b"bc"]), ["a", "bc"]):
        assert sx.InferenceSession(source).run(None, {"x": x})[0].tolist() == ["a", "bc"]


def test_an_input_with_a_default_may_be_fed_or_left_out() -> None:
    source = model("g (float[2] x, float[2] b) => (float[2] y) <float[2] b = {1, 2}> { y = Add (x, b) }")
    x, b = np.zeros(2, np.float32), np.array([5, 6], np.float32)
    session = sx.InferenceSession(source)
    assert [i.name for i in session.get_overridable_initializers()] == ["b"]
    assert session.run(None, {"x": x})[0].tolist() == [1, 2]
    assert session.run(None, {"x": x, "b": b})[0].tolist() == [5, 6]
    assert session.run(None, {"x": x})[0].tolist() == [1, 2]


def test_a_feed_is_not_written_to() -> None:
    x = -ONES
    sx.InferenceSession(relu()).run(None, {"x": x})
    np.testing.assert_array_equal(x, -ONES)
