"""The command line: `sardonyx run | bench | profile | verify | inspect | describe | optimize | compile | cache | info`.

Exit status: 0 on success, 1 if values differ, 2 if the model or the command can't be used (standard error says why, and what to do).
With --json a command prints one JSON value and nothing else to standard output. Each command has a file of its own, which imports
what it needs when the command runs, so that --help is quick.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Annotated

import typer

import sardonyx
from sardonyx.cli.bench import bench
from sardonyx.cli.cache import app as cache
from sardonyx.cli.common import refusals
from sardonyx.cli.compile import compile_model
from sardonyx.cli.describe import describe
from sardonyx.cli.info import info
from sardonyx.cli.inspect import inspect
from sardonyx.cli.optimize import optimize
from sardonyx.cli.profile import profile
from sardonyx.cli.run import run
from sardonyx.cli.verify import verify

app = typer.Typer(
    help="Runs ONNX models as machine code.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
for command in (run, bench, profile, verify, inspect, describe, optimize):
    app.command()(command)
app.command("compile")(compile_model)
app.add_typer(cache, name="cache")
app.command()(info)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(sardonyx.__version__)
        raise typer.Exit


def register_operators(path: Path) -> None:
    """Register the custom operators of a Python file, which is run, or of a shared library."""
    with refusals():
        if path.suffix == ".py":
            try:
                runpy.run_path(str(path), run_name="sardonyx_operators")
            except (OSError, ValueError, TypeError):
                raise
            except Exception as error:
                raise ValueError(f"{path} raised {type(error).__name__}: {error}") from error
        else:
            from sardonyx.ops.custom_library import register_library

            register_library(str(path))


@app.callback()
def main(
    operators: Annotated[
        list[Path] | None,
        typer.Option(help="a Python file or a shared library that registers custom operators (again for each), before the command"),
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="show the version")] = False,
) -> None:
    """Runs ONNX models as machine code."""
    for path in operators or ():
        register_operators(path)
