"""Runs that repeat one before them: the same numbers and the same errors as by the ordinary way, whatever is fed in between."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sardonyx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.runtime import execution, replay, team
from sardonyx.session.inference_session import InferenceSession
from tests.graph.models import data

Array = np.ndarray


def session(text: str, threads: int = 1) -> InferenceSession:
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    return InferenceSession(data(text), options)


def scaled(threads: int = 1) -> InferenceSession:
    return session("g (float[N, M] x, float[M] s) => (float[N, M] y, float[N, M] z) { y = Mul (x, s)  z = Neg (y) }", threads)


def feeds(rows: int, columns: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {"x": random.standard_normal((rows, columns), np.float32), "s": random.standard_normal(columns, np.float32)}


def check(made: InferenceSession, feed: dict[str, Any]) -> None:
    y, z = made.run(None, feed)
    expected = np.asarray(feed["x"], np.float32) * np.asarray(feed["s"], np.float32)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(z, -expected)
    assert y.flags.writeable


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What native replays have answered."""
    answers: list[int] = []
    bound = replay.Function.bound

    def spied(self: replay.Function, request: Array) -> replay.Replay:
        inner = bound(self, request)

        def call(inputs: list[Array], outputs: list[Array]) -> int:
            answers.append(inner(inputs, outputs))
            return answers[-1]

        return call

    monkeypatch.setattr(replay.Function, "bound", spied)
    monkeypatch.setattr(execution, "PATIENCE", 30.0)  # no worker that comes late stands in the way of a repetition
    return answers


def test_it_is_there_on_this_interpreter() -> None:
    assert replay.available()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (0, 4), (300, 1000)])
def test_the_second_run_repeats_the_first(repeated: list[int], size: tuple[int, int], threads: int) -> None:
    made = scaled(threads)
    for seed in range(4):
        check(made, feeds(*size, seed))
    assert repeated == [1, 1, 1]


def test_other_shapes_go_the_ordinary_way_and_back(repeated: list[int]) -> None:
    made = scaled()
    for rows in (3, 3, 5, 5, 3, 3):
        check(made, feeds(rows, 4, rows))
    assert repeated == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.tolist(),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x.view(type("Derived", (np.ndarray,), {})),
        lambda x: np.frombuffer(bytes(1) + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
        lambda x: x[:0],
    ],
    ids=["list", "columns first", "strides", "subclass", "unaligned", "empty"],
)
def test_arrays_of_other_kinds(repeated: list[int], change: Callable[[Array], Any]) -> None:
    made = scaled()
    feed = feeds(6, 4)
    for given in (feed, {**feed, "x": change(feed["x"])}, feed, feed):
        check(made, given)
    assert repeated[0] == 0


def test_arrays_that_bring_a_dtype_of_their_own_are_as_good(repeated: list[int]) -> None:
    made = scaled()
    feed = feeds(2, 3)
    for given in (feed, *(pickle.loads(pickle.dumps(feed)) for _ in range(3)), feed):
        assert given is feed or given["x"].dtype is not feed["x"].dtype
        check(made, given)
    assert repeated == [1, 1, 1, 1]


def test_numbers_of_the_same_size_are_told_apart(repeated: list[int]) -> None:
    made = scaled()
    feed = feeds(2, 3)
    check(made, feed)
    for dtype in (np.int32, np.uint32):
        with pytest.raises(InvalidArgument, match="Unexpected input data type"):
            made.run(None, {**feed, "x": feed["x"].view(dtype)})
    check(made, {**feed, "x": feed["x"].astype(">f4")})
    check(made, feed)
    assert repeated == [0, 0, 0, 1]


def test_read_only_arrays_are_as_good(repeated: list[int]) -> None:
    made = scaled()
    feed = feeds(2, 3)
    for x in feed.values():
        x.flags.writeable = False
    check(made, feed)
    check(made, feed)
    assert repeated == [1]


def test_errors_are_the_same_before_and_after() -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"x": np.ones((2, 3), np.float32)},
        {**feeds(2, 3), "more": np.ones(1)},
        {"x": np.ones((2, 3), np.float32), "t": np.ones(3, np.float32)},
        {**feeds(2, 3), "s": np.ones(4, np.float32)},
        {**feeds(2, 3), "s": np.ones(3)},
        {**feeds(2, 3), "s": np.ones((1, 3), np.float32)},
        {**feeds(2, 3), "s": None},
        {**feeds(2, 3), "s": "text"},
    ]

    def outcome(made: InferenceSession, feed: dict[str, Any]) -> tuple[type, str]:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is, it is compared)
            made.run(None, feed)
        return caught.type, str(caught.value)

    made = scaled()
    first = [outcome(made, feed) for feed in wrong]
    check(made, feeds(2, 3))
    for feed, expected in zip(wrong, first, strict=True):
        assert outcome(made, feed) == expected
        check(made, feeds(2, 3))


def test_a_check_that_fails_in_a_replay(repeated: list[int]) -> None:
    made = session("g (float[N, 2] x, int64[K] i) => (float[K, 2] y) { y = Gather (x, i) }")
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    for index in (1, 2, 3, -4, 0):
        feed = {"x": x, "i": np.array([index])}
        if -3 <= index < 3:
            np.testing.assert_array_equal(made.run(None, feed)[0], x[[index]])
        else:
            with pytest.raises(InvalidArgument, match=f"index {index} is out of bounds for an axis of 3"):
                made.run(None, feed)
    assert repeated == [1, 2, 2, 1]


def test_a_run_that_failed_is_not_repeated(repeated: list[int]) -> None:
    """Its sizes are in the context, but not those of the run that could be repeated."""
    made = session("g (float[N, M] x, float[K] s) => (float[N, M] y, float[N, M] z) { y = Mul (x, s)  z = Neg (y) }")
    check(made, feeds(2, 3))
    with pytest.raises(Fail, match="Mul node 'y': 3 by 4 cannot be broadcast"):
        made.run(None, {**feeds(5, 3), "s": np.ones(4, np.float32)})
    check(made, feeds(2, 3))
    check(made, feeds(2, 3))
    assert repeated == [0, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_large_arenas_are_borrowed_anew(repeated: list[int], threads: int) -> None:
    made = session(
        "g (float[N, M] x) => (float[M, N] y) { t = Softmax <axis = 0> (x)  u = Softmax (t)  y = Transpose (u) }", threads
    )
    x = np.random.default_rng(0).standard_normal((200, 300), np.float32)
    first = made.run(None, {"x": x})[0]
    for _ in range(3):
        np.testing.assert_array_equal(made.run(None, {"x": x})[0], first)
    assert repeated == [1, 1, 1]


def test_threads_share_a_session() -> None:
    made = scaled(2)
    failures: list[BaseException] = []

    def work(rows: int) -> None:
        try:
            for seed in range(200):
                check(made, feeds(rows + seed % 2, 7, seed))
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2, 3, 400)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_forked_child_repeats(repeated: list[int]) -> None:
    made = scaled(2)
    feed = feeds(400, 700)
    check(made, feed)
    child = multiprocessing.get_context("fork").Process(target=check, args=(made, feed))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    check(made, feed)
    assert repeated == [1]


def test_a_closed_session() -> None:
    made = scaled()
    check(made, feeds(2, 3))
    made.close()
    with pytest.raises(InvalidArgument, match="closed"):
        made.run(None, feeds(2, 3))


def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scaled()
    monkeypatch.setattr(team, "available", lambda: False)
    for _ in range(3):
        check(made, feeds(2, 3))
