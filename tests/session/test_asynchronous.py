"""run_async: outputs, errors and what the callback is told."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import sardonyx as sx
from tests.session.models import model, relu

X = np.array([[1, -2, 3]], np.float32)
GATHER = "g (float[3] x, int64[n] i) => (float[n] y) { y = Gather (x, i) }"


def told(session: Any, names: Any, feed: dict[str, Any], user_data: Any = None, options: Any = None) -> tuple[Any, ...]:
    got: queue.Queue[tuple[Any, ...]] = queue.Queue()
    session.run_async(names, feed, lambda *what: got.put((*what, threading.get_ident())), user_data, options)
    return got.get(timeout=60)


def test_outputs_arrive_on_another_thread() -> None:
    data = {"a": 1}
    outputs, user_data, error, thread = told(sx.InferenceSession(relu()), None, {"x": X}, data)
    np.testing.assert_array_equal(outputs[0], np.maximum(X, 0))
    assert (user_data is data, error) == (True, "")
    assert thread != threading.get_ident()


@pytest.mark.parametrize(
    ("text", "names", "feed"),
    [
        ("relu", None, {"x": X.astype(np.float64)}),
        ("relu", ["nope"], {"x": X}),
        (GATHER, None, {"x": X[0], "i": np.array([9])}),
    ],
)
def test_errors_are_told_as_onnxruntime_does(text: str, names: Any, feed: dict[str, Any]) -> None:
    data = relu() if text == "relu" else model(text)
    ours, theirs = (told(runtime.InferenceSession(data), names, feed)[:3] for runtime in (sx, ort))
    assert ours[:2] == theirs[:2] == ([], None)
    assert ours[2].replace(" ", "")[:40] == theirs[2].replace(" ", "")[:40]


def test_many_at_once() -> None:
    session = sx.InferenceSession(relu())
    got: queue.Queue[tuple[float, float]] = queue.Queue()
    for n in range(200):
        session.run_async(None, {"x": X * 0 + n}, lambda outputs, k, _: got.put((float(outputs[0][0, 0]), k)), float(n))
    found = [got.get(timeout=60) for _ in range(200)]
    assert all(a == b for a, b in found)
    assert len({b for _, b in found}) == 200


def test_what_is_raised_at_once() -> None:
    session = sx.InferenceSession(relu())
    with pytest.raises(ValueError, match="Required inputs"):
        session.run_async(None, {}, print, None)
    with pytest.raises(TypeError, match="must be RunOptions"):
        session.run_async(None, {"x": X}, print, None, 3)  # type: ignore[arg-type]


def test_a_callback_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.put(what.exc_type))

    def callback(*_: Any) -> None:
        raise ZeroDivisionError

    sx.InferenceSession(relu()).run_async(None, {"x": X}, callback, None)
    assert seen.get(timeout=60) is ZeroDivisionError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own() -> None:
    session = sx.InferenceSession(relu())
    told(session, None, {"x": X})
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if told(session, None, {"x": X})[2] == "" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
