"""The engines that are compared, each with the same three calls and in a process of its own.

Engines are imported only in the process that runs them, so that none sees the threads or the memory of another.
"""

import functools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]
Create = Callable[[Path, int], Run]


class EngineError(RuntimeError):
    """An engine refused a model or failed on it; its traceback is on stderr."""


@dataclass(frozen=True)
class Engine:
    """How an engine is set up.

    - name: also the package that is imported
    - load: imports the package and returns what creates a session from (model file, threads)
    - cold: environment variables that make session creation start from nothing; empty if it always does
    """

    name: str
    load: Callable[[], Create]
    cold: tuple[tuple[str, str], ...] = ()


def _sardonyx() -> Create:
    from sardonyx import InferenceSession, SessionOptions  # the package imports them when they are asked for

    def create(path: Path, threads: int) -> Run:
        options = SessionOptions()
        options.intra_op_num_threads = threads
        session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda feeds: session.run(None, feeds)

    return create


def _onnxruntime() -> Create:
    import onnxruntime

    def create(path: Path, threads: int) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda feeds: session.run(None, feeds)

    return create


def _openvino() -> Create:
    import openvino

    core = openvino.Core()

    def create(path: Path, threads: int) -> Run:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        request = core.compile_model(path, "CPU", settings).create_infer_request()

        return lambda feeds: list(request.infer(feeds, share_inputs=True).values())

    return create


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine("sardonyx", _sardonyx, cold=(("SARDONYX_CACHE", "off"),)),
        Engine("onnxruntime", _onnxruntime),
        Engine("openvino", _openvino),
    )
}


def median_time(run: Callable[[], object], seconds: float, least: int = 3) -> float:
    """Return the median seconds of a call, over at least `least` calls that take about `seconds`, after one call that is not
    counted.
    """
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Worker:
    """An engine in a process of its own, with one session at a time; use it as a context manager.

    A request on which the engine fails ends the process, its traceback on stderr, and raises EngineError here.
    """

    def __init__(self, engine: Engine, cold: bool = False) -> None:
        """Start the process and import the engine. cold: set the engine's variables for a start from nothing"""
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        environment = dict(engine.cold) if cold else {}
        self._process = context.Process(target=_serve, args=(theirs, engine.name, environment), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(timeout=30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def create(self, path: Path, threads: int) -> float:
        """Create the session and return the seconds it took, without imports."""
        self._pipe.send(("create", path, threads))
        return self._answer()

    def outputs(self, feeds: Feeds) -> list[np.ndarray]:
        """Return the outputs for `feeds`, which the worker keeps for `time`."""
        self._pipe.send(("outputs", feeds))
        return self._answer()

    def time(self, seconds: float) -> float:
        """Return the median seconds of a run on the feeds that `outputs` was given last, over about `seconds`."""
        self._pipe.send(("time", seconds))
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise EngineError(f"{self.engine.name} failed: its process ended with exit code {code}") from None


def _serve(pipe: Connection, name: str, environment: dict[str, str]) -> None:
    """Answer each request of the parent process until the pipe closes."""
    os.environ.update(environment)
    create = ENGINES[name].load()
    pipe.send("ready")
    while True:
        try:
            request, *arguments = pipe.recv()
        except EOFError:
            return
        match request:
            case "create":
                start = time.perf_counter()
                run = create(*arguments)
                pipe.send(time.perf_counter() - start)
            case "outputs":
                feeds = arguments[0]
                pipe.send(run(feeds))
            case "time":
                pipe.send(median_time(functools.partial(run, feeds), arguments[0]))
