"""Runs that would go on for hours end at once: by Ctrl-C, by `terminate`, by their timeout, whatever they are doing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx
from sardonyx.base.errors import Fail, InvalidArgument
from sardonyx.session.inference_session import InferenceSession

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]

SOON = 0.1
"""Seconds after the wish that a run ends in on an idle machine; tests allow TIMES of it."""
TIMES = 10
BEFORE = 0.2  # seconds that a run has before it is to end
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HUGE = 1 << 62


def model(nodes: list[Any], inputs: dict[str, list[Any]], constants: dict[str, Array], outputs: list[str]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def repeated(body: list[Any], size: list[Any], times: int) -> bytes:
    """A loop over a state of one value, s -> t."""
    graph = helper.make_graph(
        [*body, helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT, []),
            helper.make_tensor_value_info("c", BOOL, []),
            helper.make_tensor_value_info("s", FLOAT, size),
        ],
        [helper.make_tensor_value_info("d", BOOL, []), helper.make_tensor_value_info("t", FLOAT, size)],
    )
    loop = helper.make_node("Loop", ["times", "", "x"], ["y"], body=graph)
    return model([loop], {"x": size}, {"times": np.array(times), "one": np.ones(1, np.float32)}, ["y"])


def additions() -> tuple[bytes, Feeds]:
    """A short body: the time goes into the steps between its calls."""
    return repeated([helper.make_node("Add", ["s", "one"], ["t"])], ["n"], HUGE), {"x": np.ones(3, np.float32)}


def products() -> tuple[bytes, Feeds]:
    """A body with work for a team."""
    body = [helper.make_node("MatMul", ["s", "s"], ["p"]), helper.make_node("Tanh", ["p"], ["t"])]
    return repeated(body, ["n", "n"], HUGE), {"x": np.ones((200, 200), np.float32)}


def whole_sum() -> tuple[bytes, Feeds]:
    """One kernel, one thread: nothing is dealt out."""
    nodes = [helper.make_node("Expand", ["x", "s"], ["e"]), helper.make_node("ReduceSum", ["e"], ["y"], keepdims=0)]
    return model(nodes, {"x": [1]}, {"s": np.array([1 << 20, 1 << 20])}, ["y"]), {"x": np.ones(1, np.float32)}


def sums_of_rows() -> tuple[bytes, Feeds]:
    """Few rows, each endless; the length is known when the model runs."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Mul", ["n", "large"], ["s"]),
        helper.make_node("Expand", ["one", "s"], ["e"]),
        helper.make_node("ReduceMax", ["e"], ["y"], axes=[1]),
    ]
    constants = {"large": np.array([1, 1 << 40]), "one": np.ones(1, np.float32)}
    return model(nodes, {"x": ["a", "b"]}, constants, ["y"]), {"x": np.ones((3, 1), np.float32)}


def many_rows() -> tuple[bytes, Feeds]:
    """Rows without end, each short."""
    nodes = [helper.make_node("Expand", ["x", "s"], ["e"]), helper.make_node("ReduceMax", ["e"], ["y"], keepdims=0)]
    return model(nodes, {"x": [1, "m"]}, {"s": np.array([1 << 38, 1])}, ["y"]), {"x": np.ones((1, 3), np.float32)}


def rows_without_elements() -> tuple[bytes, Feeds]:
    """More rows than the chunks of a call can be divided into, each of which is computed although it has no element to write."""
    nodes = [helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="linear")]
    return model(nodes, {"x": [1, 1, 4, 4]}, {"s": np.array([1 << 40, 128, 3, 0])}, ["y"]), {"x": np.ones((1, 1, 4, 4), np.float32)}


def large_product() -> tuple[bytes, Feeds]:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["p"]), helper.make_node("MatMul", ["p", "x"], ["y"])]
    return model(nodes, {"x": ["n", "n"]}, {}, ["y"]), {"x": np.ones((5000, 5000), np.float32)}


def selection() -> tuple[bytes, Feeds]:
    """A kernel written by hand, with loops that end by a condition."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=0)]
    constants = {"k": np.array([3_000_000])}
    return model(nodes, {"x": ["n"]}, constants, ["y", "i"]), {"x": np.random.default_rng(0).random(6_000_000, np.float32)}


def samples() -> tuple[bytes, Feeds]:
    """Loops by conditions, one in another: a region of interest with 2^40 samples in each cell."""
    nodes = [helper.make_node("RoiAlign", ["x", "r", "b"], ["y"], output_height=2, output_width=2, sampling_ratio=1 << 20)]
    constants = {"r": np.array([[0, 0, 5, 5]], np.float32), "b": np.array([0])}
    return model(nodes, {"x": [1, 2, "h", "w"]}, constants, ["y"]), {"x": np.ones((1, 2, 5, 5), np.float32)}


def recurrence() -> tuple[bytes, Feeds]:
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=64)]
    constants = {"w": np.ones((1, 256, 4), np.float32), "r": np.ones((1, 256, 64), np.float32)}
    return model(nodes, {"x": ["t", "b", 4]}, constants, ["y"]), {"x": np.ones((400_000, 2, 4), np.float32)}


def running_sums() -> tuple[bytes, Feeds]:
    """Sums of sums over one long axis, one thread after the other."""
    nodes = [helper.make_node("CumSum", [f"v{i}", "axis"], [f"v{i + 1}"]) for i in range(8)]
    nodes[-1].output[0] = "y"
    return model(nodes, {"v0": ["n"]}, {"axis": np.array(0)}, ["y"]), {"v0": np.ones(100_000_000, np.float32)}


MAKERS = (
    *(
        additions,
        products,
        whole_sum,
        sums_of_rows,
        many_rows,
        rows_without_elements,
        large_product,
        selection,
        samples,
        recurrence,
        running_sums,
    ),
)
MODELS: dict[str, Callable[[], tuple[bytes, Feeds]]] = {made.__name__: made for made in MAKERS}


def session(made: bytes, threads: int) -> InferenceSession:
    options = sardonyx.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_reference_fallback", "1")
    return InferenceSession(made, options)


@contextmanager
def soon(wished: list[float]) -> Iterator[None]:
    """What is inside ends soon after the time that stands in `wished`."""
    yield
    assert time.monotonic() - wished[0] < TIMES * SOON


def later(wished: list[float], act: Callable[[], object]) -> None:
    """Acts in a moment, and notes when."""

    def wish() -> None:
        wished.append(time.monotonic())
        act()

    threading.Timer(BEFORE, wish).start()


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt also where the tests run in the background, which a shell makes deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_runs_end(name: str, threads: int) -> None:
    """By each of the ways, one after the other in one session, which computes afterwards as before."""
    made, feeds = MODELS[name]()
    runs = session(made, threads)
    options = sardonyx.RunOptions()
    wished: list[float] = []
    later(wished, lambda: setattr(options, "terminate", True))
    with soon(wished), pytest.raises(Fail, match=r"Exiting due to terminate flag being set to true\.$"):
        runs.run(None, feeds, options)
    for given in (None, sardonyx.RunOptions()):
        wished.clear()
        later(wished, lambda: os.kill(os.getpid(), signal.SIGINT))
        with soon(wished), pytest.raises(KeyboardInterrupt):
            runs.run(None, feeds, given)
    limited = sardonyx.RunOptions()
    limited.add_run_config_entry("run.timeout_seconds", str(BEFORE))
    wished[:] = [time.monotonic() + BEFORE]
    with soon(wished), pytest.raises(Fail, match="longer than its timeout"):
        runs.run(None, feeds, limited)


def test_a_run_of_another_thread_ends() -> None:
    """It is told by the flag; a signal goes to the main thread, and the run goes on."""
    made, feeds = products()
    runs = session(made, 2)
    options, found = sardonyx.RunOptions(), list[str]()

    def run() -> None:
        try:
            runs.run(None, feeds, options)
        except Fail as error:
            found.append(error.detail)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(BEFORE)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert thread.is_alive()
    options.terminate = True
    thread.join(TIMES * SOON)
    assert not thread.is_alive()
    assert found == ["Exiting due to terminate flag being set to true."]


def test_handlers_of_signals_run_during_a_run() -> None:
    """One that raises nothing lets it go on; one may end it by the flag, or raise what it likes."""
    made, feeds = additions()
    runs, options, times = session(made, 1), sardonyx.RunOptions(), list[int]()

    def handle(number: int, frame: object) -> None:
        times.append(number)
        options.terminate = len(times) == 2
        if len(times) == 3:
            raise LookupError("of a handler")

    def send() -> None:
        for _ in range(2):
            time.sleep(BEFORE)
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        threading.Thread(target=send).start()
        with pytest.raises(Fail, match="terminate flag"):
            runs.run(None, feeds, options)
        assert len(times) == 2
        later([], lambda: os.kill(os.getpid(), signal.SIGUSR1))
        with pytest.raises(LookupError, match="of a handler"):
            runs.run(None, feeds)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_runs_in_time_are_not_ended() -> None:
    runs = session(repeated([helper.make_node("Add", ["s", "one"], ["t"])], ["n"], 1000), 2)
    options = sardonyx.RunOptions()
    options.add_run_config_entry("run.timeout_seconds", "1e300")
    for given in (options, None, options, None):
        np.testing.assert_array_equal(runs.run(None, {"x": np.zeros(3, np.float32)}, given)[0], [1000] * 3)
    options.terminate = True
    with pytest.raises(Fail, match="terminate flag"):
        runs.run(None, {"x": np.zeros(3, np.float32)}, options)
    options.terminate = False
    runs.run(None, {"x": np.zeros(3, np.float32)}, options)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_timeout_is_a_number_of_seconds(text: str) -> None:
    options = sardonyx.RunOptions()
    options.add_run_config_entry("run.timeout_seconds", text)
    made, feeds = additions()
    with pytest.raises(InvalidArgument, match=f"run.timeout_seconds must be a positive number of seconds, not '{text}'"):
        session(made, 1).run(None, feeds, options)
