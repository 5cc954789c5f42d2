"""Sessions over os.fork: a child, made while other threads of its parent are in runs, goes on with the parent's sessions and makes its own."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest

import sardonyx
from sardonyx import InferenceSession, SessionOptions
from sardonyx.base.errors import InvalidArgument

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
SECONDS = 60  # a child that takes longer hangs
HEAD = '<ir_version: 8, opset_import: ["" : 18]>'
PRODUCT = HEAD + " g (float[n, 64] x) => (float[n, 64] y) { t = Transpose <perm = [1, 0]> (x)  p = MatMul(x, t)  y = MatMul(p, x) }"
RANDOM = HEAD + " g (float[n, 64] x) => (float[n, 64] y) { r = RandomNormalLike(x)  y = Add(x, r) }"
LATE = HEAD + " g (float[n, 64] x, int64[k] s) => (y) { y = Reshape(x, s) }"  # the rank is known when it runs
HOST = HEAD + " g (float[n, 64] x) => (y) { q = SplitToSequence(x)  y = ConcatFromSequence <axis = 0> (q) }"
X = (np.arange(96 * 64) % 7 - 3).reshape(96, 64).astype(np.float32) / 8


def session(text: str) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = 2
    return InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)


def run(s: InferenceSession) -> np.ndarray:
    feeds = {"x": X, "s": np.array([3, -1, 64])}
    return s.run(None, {i.name: feeds[i.name] for i in s.get_inputs()})[0]


def in_child(work: Callable[[], None]) -> None:
    """Does the work in a forked child. Raises AssertionError if it fails there, or hangs."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    until = time.monotonic() + SECONDS
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
        time.sleep(0.002)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError("the child hangs")
    assert ended[1] == 0, f"the child ended with status {ended[1]}"


@contextmanager
def busy(work: Callable[[], object], count: int = 2) -> Iterator[None]:
    """Threads that do the work again and again meanwhile."""
    ended = threading.Event()

    def again() -> None:
        while not ended.is_set():
            work()

    threads = [threading.Thread(target=again) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("text", [PRODUCT, RANDOM, LATE, HOST], ids=["product", "random", "late", "host"])
def test_a_session_goes_on_in_children(text: str) -> None:
    """Whatever another thread holds at the time of the fork: a run's memory, a program's list, the state of random numbers."""
    s = session(text)
    sardonyx.set_seed(5)
    wanted = run(s)

    def work() -> None:
        for _ in range(3):
            got = run(s)
            assert got.shape == wanted.shape
            assert text is RANDOM or np.array_equal(got, wanted)

    with busy(lambda: run(s)):
        for _ in range(6):
            in_child(work)
    work()


def test_children_make_sessions() -> None:
    """While other threads of the parent make some: nobody's locks stay closed, neither LLVM's nor the imports'."""
    wanted = run(session(PRODUCT))

    def work() -> None:
        assert np.array_equal(run(session(PRODUCT)), wanted)

    with busy(lambda: session(PRODUCT), 1):
        for _ in range(3):
            in_child(work)


def test_a_closed_session_is_closed_in_children() -> None:
    s = session(PRODUCT)
    run(s)
    s.close()

    def work() -> None:
        with pytest.raises(InvalidArgument, match="closed"):
            run(s)

    in_child(work)
