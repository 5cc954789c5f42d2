"""Closed sessions: runs under way finish, later ones get one answer, whatever they ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sardonyx
from sardonyx.base.errors import InvalidArgument
from sardonyx.session.inference_session import InferenceSession
from tests.graph.models import data

NATIVE = "g (float[N, M] x) => (float[N, M] y, float[N, M] z) { a = Exp (x)  y = Mul (a, x)  z = Neg (y) }"
PASSED_ON = "g (float[N, M] x) => (float[N, M] x) { }"
X = np.arange(12, dtype=np.float32).reshape(3, 4)

QUESTIONS: dict[str, Callable[[InferenceSession], Any]] = {
    "all": lambda s: s.run(None, {"x": X}),
    "none": lambda s: s.run([], {"x": X}),
    "some": lambda s: s.run(["x"], {"x": X}),
    "unknown": lambda s: s.run(["nothing"], {"x": X}),
    "no feeds": lambda s: s.run(None, {}),
    "options": lambda s: s.run(None, {"x": X}, sardonyx.RunOptions()),
    "providers": lambda s: s.set_providers(["CPUExecutionProvider"]),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("text", [NATIVE, PASSED_ON], ids=["native", "passed on"])
def test_a_closed_session_has_one_answer(text: str, question: str) -> None:
    session = InferenceSession(data(text))
    session.run(None, {"x": X})
    session.close()
    session.close()
    for _ in range(2):
        with pytest.raises(InvalidArgument, match=r"The session is closed\.$"):
            QUESTIONS[question](session)
    assert [i.name for i in session.get_inputs()] == ["x"]


def test_outputs_stay_when_the_session_is_closed() -> None:
    session = InferenceSession(data(NATIVE))
    big = np.ones((600, 600), np.float32)
    y, z = session.run(None, {"x": big})
    session.close()
    np.testing.assert_array_equal(y, -z)


def test_sessions_are_closed_while_threads_run_them() -> None:
    """Each run computes or is refused; more threads than cores, sessions made and closed all the while."""
    model = data(NATIVE)
    box = [InferenceSession(model)]
    x = np.random.default_rng(0).standard_normal((64, 512), np.float32)
    expected = box[0].run(None, {"x": x})[0]
    found: set[str] = set()
    counts = {"runs": 0, "closed": 0}
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                found.add(str(np.array_equal(box[0].run(None, {"x": x})[0], expected)))
                counts["runs"] += 1
            except InvalidArgument as error:
                found.add(error.detail)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    while counts["closed"] < 60 or counts["runs"] < 200:
        old, box[0] = box[0], InferenceSession(model)
        old.close()
        counts["closed"] += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert "True" in found
    assert found <= {"True", "The session is closed."}
