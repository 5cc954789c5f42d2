"""The command line: `sardonyx verify | describe | run | info`.

Exit status: 0 on success, 1 if the model's values differ from the reference, 2 if the model or the command can't be used (one
line on standard error says why).
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

import sardonyx
from sardonyx.base.errors import SardonyxError
from sardonyx.inspection import feeds as inputs
from sardonyx.session.enums import GraphOptimizationLevel

if TYPE_CHECKING:
    from sardonyx.inspection.verify import Difference, LevelResult

DIFFERS, UNUSABLE = 1, 2
LEVELS = dict(zip(("disabled", "basic", "extended", "layout", "all"), GraphOptimizationLevel, strict=True))

app = typer.Typer(
    help="Runs ONNX models as machine code.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

Model = Annotated[Path, typer.Argument(help="an .onnx file")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random inputs")]
Sizes = Annotated[list[str] | None, typer.Option("--size", metavar="NAME=NUMBER", help="a symbolic size (again for each)")]
Feeds = Annotated[Path | None, typer.Option(help="an .npz file with inputs by name, instead of random ones")]
Threads = Annotated[int, typer.Option(min=0, help="threads of a run; 0 is as many as the process may use")]


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn errors that the user can correct into one line on standard error and exit status 2."""
    try:
        yield
    except SardonyxError as error:
        refuse(error.detail)
    except (ValueError, OSError, MemoryError) as error:
        refuse(str(error) or type(error).__name__)


def refuse(reason: str) -> None:
    """Print the reason and exit with status 2."""
    typer.secho(f"sardonyx: {reason}", err=True, fg=typer.colors.RED)
    raise typer.Exit(UNUSABLE)


def make_feeds(session: sardonyx.InferenceSession, given: Path | None, sizes: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the inputs of a run: from a file, or random. Raises ValueError or OSError."""
    if given is not None:
        return inputs.load_feeds(given)
    arguments = session.get_inputs()
    chosen = inputs.symbolic_sizes(arguments, inputs.parse_sizes(sizes))
    if chosen:
        typer.echo("sizes: " + ", ".join(f"{name}={size}" for name, size in chosen.items()))
    return inputs.random_feeds(arguments, chosen, seed)


# ---- verify -------------------------------------------------------------------------------------------------------------------


@app.command()
def verify(
    model: Model,
    seed: Seed = 0,
    size: Sizes = None,
    feeds: Feeds = None,
    tolerance: Annotated[float, typer.Option(min=0, help="largest error, as a part of a value's largest number")] = 1e-4,
    level: Annotated[list[str] | None, typer.Option(help=f"optimisation level: {', '.join(LEVELS)}; all five by default")] = None,
) -> None:
    """Compare the compiled model with the reference, value by value, and name the first that differs."""
    from sardonyx.inspection.verify import Verification, at_level
    from sardonyx.providers import registry

    with refusals():
        levels = [level_named(name) for name in level or LEVELS]
        session = sardonyx.InferenceSession(model, at_level(GraphOptimizationLevel.ORT_DISABLE_ALL), [registry.REFERENCE])
        chosen = make_feeds(session, feeds, size or [], seed)
        session.close()
        try:
            verification = Verification(model, chosen, tolerance)
        except SardonyxError as error:
            refuse(
                f"the reference can't run the model on these inputs (other sizes: --size, other inputs: --feeds): {error.detail}"
            )
        agrees = True
        for found in map(verification.check, levels):
            show_result(found)
            agrees = agrees and found.is_agreement
    if not agrees:
        raise typer.Exit(DIFFERS)


def level_named(name: str) -> GraphOptimizationLevel:
    """Return the optimisation level of this name. Raises ValueError for another name."""
    if name not in LEVELS:
        raise ValueError(f"there is no optimisation level {name!r}: choose one of {', '.join(LEVELS)}")
    return LEVELS[name]


def show_result(found: LevelResult) -> None:
    """Print the result of the verification at one level."""
    name = next(name for name, level in LEVELS.items() if level is found.level)
    if found.error:
        typer.secho(f"{name:9} failed: {found.error}", fg=typer.colors.RED)
    elif found.difference is not None:
        typer.secho(f"{name:9} differs", fg=typer.colors.RED)
        show_difference(found.difference)
    else:
        value, error = found.worst
        nearest = f", largest relative error {error:.1e} in {value}" if error else ""
        typer.echo(f"{name:9} {found.compared} values agree{nearest}")
    if found.random:
        typer.echo(f"  random         {', '.join(found.random)}: compared by type and shape alone")
    if found.inside:
        typer.echo(f"  in bodies      {found.inside} values, compared through what their nodes give out")
    if found.interpreted:
        typer.echo(f"  not compiled   {', '.join(found.interpreted)}")


def show_difference(difference: Difference) -> None:
    """Print the first value that differs, its node, and by how much."""
    origin, deviation = difference.origin, difference.deviation
    read = ", ".join(f"{name}: {form}" for name, form in difference.inputs)
    typer.echo(f"  first value    {difference.value}: {difference.got}" + shape_note(difference))
    typer.echo(f"  node           {origin.operator} {origin.node!r} of {read or 'nothing'}")
    if np.isfinite(deviation.error):
        typer.echo(f"  largest error  {deviation.error:.3g}, allowed {deviation.allowed:.3g}; largest number {deviation.scale:.3g}")
    typer.echo(f"  got            {deviation.reason}")
    if difference.only_fused:
        typer.echo("  only in fused loops: with every value as an output, all agree")


def shape_note(difference: Difference) -> str:
    return "" if difference.got == difference.expected else f", not {difference.expected}"


# ---- describe, run, info ------------------------------------------------------------------------------------------------------


@app.command()
def describe(
    model: Model,
    level: Annotated[str, typer.Option(help=f"optimisation level: {', '.join(LEVELS)}")] = "all",
    loops: Annotated[bool, typer.Option("--loops", help="show the loops of the kernels too")] = False,
    kernel: Annotated[str, typer.Option(metavar="PREFIX", help="of those kernels whose name, or a node's, begins so")] = "",
) -> None:
    """Show what the compiler makes of a model: sub-graphs, nests of loops, the place of each value."""
    with refusals():
        options = sardonyx.SessionOptions()
        options.graph_optimization_level = level_named(level)
        session = sardonyx.InferenceSession(model, options)
        for kind, arguments in (("input", session.get_inputs()), ("output", session.get_outputs())):
            for argument in arguments:
                typer.echo(f"{kind:7} {argument.name}: {argument.type}{argument.shape}")
        for part in session.get_provider_graph_assignment_info():
            typer.echo(f"{part.ep_name}: {len(part.nodes)} nodes")
        typer.echo(session.describe())
        if loops or kernel:
            show_loops(model, options, kernel)


def show_loops(model: Path, options: sardonyx.SessionOptions, prefix: str) -> None:
    """Print the loop IR of the kernels. Raises ValueError if no kernel has such a name."""
    from sardonyx.inspection.loops import loops
    from sardonyx.session.options import compile_options

    texts = list(loops(model, compile_options(options, frozenset()), prefix))
    if prefix and not texts:
        raise ValueError(f"neither a kernel nor a node of one has a name that begins with {prefix!r}")
    for text in texts:
        typer.echo(f"\n{text.rstrip()}")


@app.command()
def run(
    model: Model,
    seed: Seed = 0,
    size: Sizes = None,
    feeds: Feeds = None,
    threads: Threads = 0,
    repeat: Annotated[int, typer.Option(min=1, help="runs; the median time is printed")] = 1,
    save: Annotated[Path | None, typer.Option(help="an .npz file to write the outputs to")] = None,
) -> None:
    """Run a model and show its outputs."""
    with refusals():
        options = sardonyx.SessionOptions()
        options.intra_op_num_threads = threads
        start = time.perf_counter()
        session = sardonyx.InferenceSession(model, options)
        created = time.perf_counter() - start
        chosen = make_feeds(session, feeds, size or [], seed)
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            outputs = session.run(None, chosen)
            times.append(time.perf_counter() - start)
        named = {argument.name: value for argument, value in zip(session.get_outputs(), outputs, strict=True)}
        for name, value in named.items():
            typer.echo(f"{name}: {summary(value)}")
        typer.echo(f"session {created * 1e3:.1f} ms, run {statistics.median(times) * 1e3:.3f} ms (median of {repeat})")
        if save is not None:
            save_arrays(save, named)


def summary(value: Any) -> str:
    """Describe an output: dtype, shape and range."""
    if not isinstance(value, np.ndarray):
        return repr(value)[:200]
    head = f"{value.dtype}{list(value.shape)}"
    if value.size == 0 or value.dtype == object:
        return head
    wide = value.astype(np.float64) if value.dtype.kind != "c" else np.abs(value)
    return f"{head}, from {wide.min():.6g} to {wide.max():.6g}"


def save_arrays(path: Path, values: dict[str, Any]) -> None:
    """Write the arrays to an .npz file, completely or not at all. Raises ValueError for outputs that are no arrays of numbers,
    and OSError.
    """
    for name, value in values.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
            raise ValueError(f"output {name} can't be written to an .npz file: {summary(value)}")
    handle, aside = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}")
    try:
        with open(handle, "wb") as file:
            np.savez(file, **values)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


@app.command()
def info() -> None:
    """Show the processor that models are compiled for, the threads, and where compiled code is kept."""
    from sardonyx.inspection.system import facts

    with refusals():
        for name, value in facts().items():
            typer.echo(f"{name:10} {value}")


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(sardonyx.__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="show the version")] = False,
) -> None:
    """Runs ONNX models as machine code."""
