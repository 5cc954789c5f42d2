"""`sardonyx describe`: shows what the compiler makes of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sardonyx.cli.common import Json, Level, Model, open_session, options_for, print_json, refusals

if TYPE_CHECKING:
    from sardonyx.session.inference_session import InferenceSession
    from sardonyx.session.options import SessionOptions


def describe(
    model: Model,
    level: Level = "all",
    loops: Annotated[bool, typer.Option("--loops", help="show the loops of the kernels too")] = False,
    kernel: Annotated[str, typer.Option(metavar="PREFIX", help="of those kernels whose name, or a node's, begins so")] = "",
    as_json: Json = False,
) -> None:
    """Show what the compiler makes of a model: sub-graphs, nests of loops, the place of each value."""
    with refusals():
        options = options_for(level=level)
        session = open_session(model, options)
        texts = loops_of(model, options, kernel) if loops or kernel else []
        if as_json:
            print_json({**record_of(session), "loops": texts})
            return
        for kind, arguments in (("input", session.get_inputs()), ("output", session.get_outputs())):
            for argument in arguments:
                typer.echo(f"{kind:7} {argument.name}: {argument.type}{argument.shape}")
        for part in session.get_provider_graph_assignment_info():
            typer.echo(f"{part.ep_name}: {len(part.nodes)} nodes")
        typer.echo(session.describe())
        for text in texts:
            typer.echo(f"\n{text}")


def record_of(session: InferenceSession) -> dict[str, Any]:
    """Return what JSON shows of a session: inputs, outputs, parts with their provider and nodes, and the description."""
    sides = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    found: dict[str, Any] = {
        side: [{"name": argument.name, "type": argument.type, "shape": argument.shape} for argument in arguments]
        for side, arguments in sides.items()
    }
    parts = session.get_provider_graph_assignment_info()
    found["parts"] = [{"provider": p.ep_name, "nodes": [{"name": n.name, "op_name": n.op_type} for n in p.nodes]} for p in parts]
    return {**found, "description": session.describe()}


def loops_of(model: Path, options: SessionOptions, prefix: str) -> list[str]:
    """Return the loop IR of the kernels. Raises ValueError if no kernel has such a name."""
    from sardonyx.inspection.loops import loops
    from sardonyx.session.options import compile_options

    texts = [text.rstrip() for text in loops(model, compile_options(options, frozenset()), prefix)]
    if prefix and not texts:
        raise ValueError(f"neither a kernel nor a node of one has a name that begins with {prefix!r}")
    return texts
