"""`sardonyx describe`: shows what the compiler makes of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sardonyx.cli.common import Level, Model, open_session, options_for, refusals

if TYPE_CHECKING:
    from sardonyx.session.options import SessionOptions


def describe(
    model: Model,
    level: Level = "all",
    loops: Annotated[bool, typer.Option("--loops", help="show the loops of the kernels too")] = False,
    kernel: Annotated[str, typer.Option(metavar="PREFIX", help="of those kernels whose name, or a node's, begins so")] = "",
) -> None:
    """Show what the compiler makes of a model: sub-graphs, nests of loops, the place of each value."""
    with refusals():
        options = options_for(level=level)
        session = open_session(model, options)
        for kind, arguments in (("input", session.get_inputs()), ("output", session.get_outputs())):
            for argument in arguments:
                typer.echo(f"{kind:7} {argument.name}: {argument.type}{argument.shape}")
        for part in session.get_provider_graph_assignment_info():
            typer.echo(f"{part.ep_name}: {len(part.nodes)} nodes")
        typer.echo(session.describe())
        if loops or kernel:
            show_loops(model, options, kernel)


def show_loops(model: Path, options: SessionOptions, prefix: str) -> None:
    """Print the loop IR of the kernels. Raises ValueError if no kernel has such a name."""
    from sardonyx.inspection.loops import loops
    from sardonyx.session.options import compile_options

    texts = list(loops(model, compile_options(options, frozenset()), prefix))
    if prefix and not texts:
        raise ValueError(f"neither a kernel nor a node of one has a name that begins with {prefix!r}")
    for text in texts:
        typer.echo(f"\n{text.rstrip()}")
