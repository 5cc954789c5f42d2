"""`sardonyx bench`: times a model beside other runtimes that are installed."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sardonyx.cli.common import (
    Feeds,
    Inputs,
    Iterations,
    Json,
    Model,
    Seed,
    Sizes,
    Threads,
    Warmup,
    counted,
    make_feeds,
    open_session,
    options_for,
    print_json,
    refusals,
    working,
)
from sardonyx.cli.run import statistics_of

Run = Callable[[], Any]
PEERS = ("onnxruntime", "openvino")


def bench(
    model: Model,
    peer: Annotated[
        list[str] | None, typer.Option(help=f"{' or '.join(PEERS)} (again for each); by default those installed")
    ] = None,
    seed: Seed = 0,
    size: Sizes = None,
    feeds: Feeds = None,
    inputs: Inputs = None,
    threads: Threads = 0,
    warmup: Warmup = 3,
    iterations: Iterations = 20,
    as_json: Json = False,
) -> None:
    """Time a model beside onnxruntime and openvino, run by run in turn, on the same inputs."""
    opened: list[Any] = []
    with refusals(opened):
        peers = installed(peer)
        start = time.perf_counter()
        session = open_session(model, options_for(threads))
        created = {"sardonyx": time.perf_counter() - start}
        opened.append(session)
        chosen = make_feeds(session, feeds, inputs or [], size or [], seed, as_json)
        runs: dict[str, Run] = {"sardonyx": lambda: session.run(None, chosen)}
        for name in peers:
            try:
                created[name], runs[name] = loaded(name, model, chosen, threads)
            except ValueError as error:
                if peer:
                    raise
                typer.echo(f"without {name}: {error}", err=True)
                continue
        times = measure(runs, warmup, iterations)
        show(created, times, as_json)


def installed(asked: list[str] | None) -> list[str]:
    """Return the peers to run. Raises ValueError for an unknown one, ImportError for one that is asked for and not installed."""
    for name in asked or ():
        if name not in PEERS:
            raise ValueError(f"there is no peer {name!r}: choose {' or '.join(PEERS)}")
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"{name} is not installed: `pip install {name}`")
    found = asked or [name for name in PEERS if importlib.util.find_spec(name) is not None]
    if not found:
        typer.echo(f"No peer is installed, so Sardonyx runs alone: `pip install {' '.join(PEERS)}`", err=True)
    return found


def peer_run(name: str, model: Path, feeds: dict[str, Any], threads: int) -> Run:
    """Return a function that runs the model with a peer. Raises ValueError if the peer can't load the model."""
    try:
        return {"onnxruntime": onnxruntime_run, "openvino": openvino_run}[name](model, feeds, threads)
    except Exception as error:  # of the peer's own classes
        raise ValueError(f"{name} can't load the model: {error}") from error


def loaded(name: str, model: Path, feeds: dict[str, Any], threads: int) -> tuple[float, Run]:
    """Load the model with a peer and run it once. -> the seconds that loading took, and the run. Raises ValueError."""
    start = time.perf_counter()
    with working(f"loading the model with {name}"):
        run = peer_run(name, model, feeds, threads)
    created = time.perf_counter() - start
    try:
        run()
    except Exception as error:  # of the peer's own classes
        raise ValueError(f"{name} can't run the model on these inputs: {error}") from error
    return created, run


def onnxruntime_run(model: Path, feeds: dict[str, Any], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads would disturb the others
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def openvino_run(model: Path, feeds: dict[str, Any], threads: int) -> Run:
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    request = openvino.Core().compile_model(str(model), "CPU", config).create_infer_request()
    return lambda: request.infer(feeds)


def measure(runs: dict[str, Run], warmup: int, iterations: int) -> dict[str, list[float]]:
    """Time the runs in turn. -> {name: seconds of each run}"""
    for run in runs.values():
        for _ in range(warmup):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in counted(range(iterations), "measuring"):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def show(created: dict[str, float], times: dict[str, list[float]], as_json: bool) -> None:
    """Print a row per runtime, or all as JSON."""
    found = {name: {"session_ms": created[name] * 1e3, "ms": statistics_of(taken)} for name, taken in times.items()}
    if as_json:
        print_json(found)
        return
    own = statistics_of(times["sardonyx"])["p50"]
    typer.echo(f"{'':12} {'session ms':>11} {'min ms':>9} {'median ms':>10} {'p90 ms':>9} {'runs/s':>9} {'of ours':>8}")
    for name, taken in times.items():
        ms = statistics_of(taken)
        typer.echo(
            f"{name:12} {created[name] * 1e3:11.1f} {ms['min']:9.3f} {ms['p50']:10.3f} {ms['p90']:9.3f} "
            f"{ms['runs_per_second']:9.1f} {ms['p50'] / own:7.2f}x"
        )
