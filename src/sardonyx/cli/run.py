"""`sardonyx run`: runs a model, shows its outputs and how long it takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sardonyx.cli.common import (
    Feeds,
    Inputs,
    Iterations,
    Json,
    MachineCode,
    Model,
    Seed,
    Sizes,
    Threads,
    Warmup,
    check_output,
    counted,
    make_feeds,
    open_session,
    options_for,
    print_json,
    refusals,
    summary,
)

PERCENTILES = (50, 90, 99)


def run(
    model: Model,
    seed: Seed = 0,
    size: Sizes = None,
    feeds: Feeds = None,
    inputs: Inputs = None,
    threads: Threads = 0,
    warmup: Warmup = 0,
    iterations: Iterations = 1,
    nodes: Annotated[bool, typer.Option("--nodes", help="show the time of each node too")] = False,
    machine_code: MachineCode = False,
    save: Annotated[Path | None, typer.Option(help="an .npz file to write the outputs to")] = None,
    as_json: Json = False,
) -> None:
    """Run a model and show its outputs, and how long the runs take."""
    opened: list[Any] = []
    with refusals(opened):
        check_output(save)
        start = time.perf_counter()
        session = open_session(model, options_for(threads, machine_code=machine_code))
        created = time.perf_counter() - start
        opened.append(session)
        chosen = make_feeds(session, feeds, inputs or [], size or [], seed, as_json)
        for _ in range(warmup):
            session.run(None, chosen)
        times = []
        for _ in counted(range(iterations), "running"):
            start = time.perf_counter()
            outputs = session.run(None, chosen)
            times.append(time.perf_counter() - start)
        named = {argument.name: value for argument, value in zip(session.get_outputs(), outputs, strict=True)}
        if save is not None:
            save_arrays(save, named)
        found = node_table(model, chosen, threads, iterations) if nodes else None
        if as_json:
            show_json(created, times, named, found)
        else:
            show(created, times, named, found)


def statistics_of(times: list[float]) -> dict[str, float]:
    """Return {name: milliseconds} of runs, and runs per second."""
    import numpy as np

    milliseconds = np.array(times) * 1e3
    percentiles = {f"p{percent}": float(np.percentile(milliseconds, percent)) for percent in PERCENTILES}
    found = {"mean": float(milliseconds.mean()), "min": float(milliseconds.min()), **percentiles, "max": float(milliseconds.max())}
    return {**found, "runs_per_second": len(times) / sum(times)}


def node_table(model: Path, feeds: dict[str, Any], threads: int, iterations: int) -> Any:
    """Profile the model on these feeds."""
    from sardonyx.inspection.profile import measure

    return measure(model, feeds, options_for(threads), iterations, warmup=1)


def show(created: float, times: list[float], named: dict[str, Any], found: Any) -> None:
    """Print outputs and times for people."""
    for name, value in named.items():
        typer.echo(f"{name}: {summary(value)}")
    numbers = statistics_of(times)
    typer.echo(f"session {created * 1e3:.1f} ms, run {numbers['p50']:.3f} ms (median of {len(times)})")
    if len(times) > 1:
        shown = ", ".join(f"{name} {numbers[name]:.3f}" for name in ("min", "p50", "p90", "p99", "max"))
        typer.echo(f"ms: {shown}; {numbers['runs_per_second']:.1f} runs per second")
    if found is not None:
        from sardonyx.inspection.profile import print_table

        print_table(found)


def show_json(created: float, times: list[float], named: dict[str, Any], found: Any) -> None:
    """Print outputs and times as JSON."""
    outputs = {name: {"summary": summary(value), "shape": list(getattr(value, "shape", ()))} for name, value in named.items()}
    result: dict[str, Any] = {"session_ms": created * 1e3, "runs": len(times), "ms": statistics_of(times), "outputs": outputs}
    if found is not None:
        from sardonyx.inspection.profile import as_record

        result["nodes"] = as_record(found)["nodes"]
    print_json(result)


def save_arrays(path: Path, values: dict[str, Any]) -> None:
    """Write the arrays to an .npz file, completely or not at all. Raises ValueError for outputs that are no arrays of numbers,
    and OSError.
    """
    import numpy as np

    from sardonyx.base.atomic_file import replacing

    for name, value in values.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
            raise ValueError(f"output {name} can't be written to an .npz file: {summary(value)}")
    with replacing(path) as file:
        np.savez(file, **values)
