"""What the commands share: their options, errors as text, feeds, progress and JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sardonyx.session.enums import GraphOptimizationLevel
    from sardonyx.session.inference_session import InferenceSession
    from sardonyx.session.options import SessionOptions

DIFFERS, UNUSABLE = 1, 2
LEVEL_NAMES = ("disabled", "basic", "extended", "layout", "all")

Model = Annotated[Path, typer.Argument(help="an .onnx file")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random inputs")]
Sizes = Annotated[list[str] | None, typer.Option("--size", metavar="NAME=NUMBER", help="a symbolic size (again for each)")]
Feeds = Annotated[Path | None, typer.Option(help="an .npz file with inputs by name")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="[NAME=]FILE", help="an input from a .npy, .npz or image file (again for each); others are random"
    ),
]
Threads = Annotated[int, typer.Option(min=0, help="threads of a run; 0 is as many as the process may use")]
Level = Annotated[str, typer.Option(help=f"optimisation level: {', '.join(LEVEL_NAMES)}")]
MachineCode = Annotated[
    bool, typer.Option("--allow-machine-code", help="open a compiled file (.sdx), which has to be trusted like a shared library")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Warmup = Annotated[int, typer.Option(min=0, help="runs before those that are measured")]
Iterations = Annotated[int, typer.Option("--iterations", "--repeat", min=1, help="runs that are measured")]

ADVICE = {
    "NoSuchFile": "Check the path.",
    "InvalidProtobuf": "Is it an .onnx file, and complete? Files fetched by git may be pointers: `git lfs pull` replaces them.",
    "NoModel": "Is it an .onnx file?",
}


@contextlib.contextmanager
def refusals(session: list[InferenceSession] | None = None) -> Iterator[None]:
    """Turn errors that the user can correct into text on standard error, and exit with status 2.

    session: empty, or the session whose inputs the text lists if they were wrong.
    """
    from sardonyx.base.errors import InvalidArgument, SardonyxError

    try:
        yield
    except BrokenPipeError:  # whoever reads the output has seen enough; typer ends quietly
        raise
    except SardonyxError as error:
        wrong_feed = isinstance(error, InvalidArgument) and session
        refuse(error.detail, inputs_text(session[0]) if wrong_feed and session else ADVICE.get(type(error).__name__, ""))
    except (ValueError, TypeError, OSError, MemoryError, ImportError) as error:
        refuse(str(error) or type(error).__name__, inputs_text(session[0]) if session else "")


def refuse(reason: str, advice: str = "") -> None:
    """Print the reason, and what to do if that is known; exit with status 2."""
    typer.secho(f"sardonyx: {reason}", err=True, fg=typer.colors.RED)
    if advice:
        typer.echo(advice, err=True)
    raise typer.Exit(UNUSABLE)


def inputs_text(session: InferenceSession) -> str:
    """Return the inputs that a model takes, one a line."""
    lines = [f"  {argument.name}: {argument.type}{argument.shape}" for argument in session.get_inputs()]
    return "The model's inputs are:\n" + "\n".join(lines) if lines else "The model has no inputs."


def print_json(value: Any) -> None:
    """Print a value as JSON; numbers of numpy become Python's."""
    typer.echo(json.dumps(value, indent=2, default=plain))


def plain(value: Any) -> Any:
    """Return what JSON holds for a value that it can't hold: a number, or a text."""
    return value.item() if hasattr(value, "item") else str(value)


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show on standard error that something takes long, if it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def counted(items: Sequence[Any] | range, text: str) -> Iterator[Any]:
    """Yield the items, with a progress bar on standard error if it is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, text, console=console, transient=True) if console.is_terminal and len(items) > 1 else items


def level_named(name: str) -> GraphOptimizationLevel:
    """Return the optimisation level of this name. Raises ValueError for another name."""
    from sardonyx.session.enums import GraphOptimizationLevel

    levels = dict(zip(LEVEL_NAMES, GraphOptimizationLevel, strict=True))
    if name not in levels:
        raise ValueError(f"there is no optimisation level {name!r}: choose one of {', '.join(levels)}")
    return levels[name]


def options_for(threads: int = 0, level: str = "all", machine_code: bool = False) -> SessionOptions:
    """Return session options; machine_code: compiled files may be opened. Raises ValueError for an unknown level."""
    from sardonyx.session.options import MACHINE_CODE, SessionOptions

    options = SessionOptions()
    if machine_code:
        options.add_session_config_entry(MACHINE_CODE, "1")
    options.intra_op_num_threads = threads
    options.graph_optimization_level = level_named(level)
    return options


def open_session(model: Path, options: SessionOptions) -> InferenceSession:
    """Make a session, and show meanwhile that it is being made. Raises SardonyxError."""
    from sardonyx.session.inference_session import InferenceSession

    with working(f"compiling {model.name}"):
        return InferenceSession(model, options)


def make_feeds(
    session: InferenceSession, given: Path | None, inputs: Sequence[str], sizes: Sequence[str], seed: int, quiet: bool = False
) -> dict[str, Any]:
    """Return the inputs of a run: from files, and random ones for the rest. Raises ValueError or OSError.

    quiet: don't print the sizes that were chosen.
    """
    from sardonyx.inspection import feeds

    arguments = session.get_inputs()
    found = feeds.load_feeds(given) if given is not None else {}
    found |= feeds.load_inputs(arguments, inputs)
    if given is not None and not inputs:
        return found
    missing = [argument for argument in arguments if argument.name not in found]
    chosen = feeds.symbolic_sizes(arguments, {**feeds.sizes_of(arguments, found), **feeds.parse_sizes(sizes)})
    if chosen and missing and not quiet:
        typer.echo("sizes: " + ", ".join(f"{name}={size}" for name, size in chosen.items()))
    return {**found, **feeds.random_feeds(missing, chosen, seed)}


def check_output(path: Path | None) -> None:
    """Raise ValueError if a file that a command is to write can't be written there; None is no file."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.absolute().parent} to write {path.name} to")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file, so it is not written to")


def write_text(path: Path, text: str) -> None:
    """Write a file, completely or not at all. Raises OSError."""
    from sardonyx.base.atomic_file import replacing

    with replacing(path) as file:
        file.write(text.encode())


def summary(value: Any) -> str:
    """Describe an output: dtype, shape and range."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return repr(value)[:200]
    head = f"{value.dtype}{list(value.shape)}"
    if value.size == 0 or value.dtype == object:
        return head
    wide = value.astype(np.float64) if value.dtype.kind != "c" else np.abs(value)
    return f"{head}, from {wide.min():.6g} to {wide.max():.6g}"


def size_text(count: float) -> str:
    """Return a number of bytes for people: "1.5 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
