"""`sardonyx optimize`: writes a model as the passes leave it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sardonyx.cli.common import Json, Level, Model, check_output, open_session, options_for, print_json, refusals

if TYPE_CHECKING:
    from onnx import GraphProto


def optimize(
    model: Model,
    output: Annotated[Path, typer.Argument(help="the .onnx file to write")],
    level: Level = "all",
    as_json: Json = False,
) -> None:
    """Write the model as the optimiser leaves it, for any runtime, and show which operators are fewer."""
    with refusals():
        if output.exists() and model.exists() and os.path.samefile(model, output):
            raise ValueError(f"{output} is the model itself: name another file to write")
        check_output(output)
        options = options_for(level=level)
        options.optimized_model_filepath = os.fspath(output)
        open_session(model, options).close()
        before, after = operators(model), operators(output)
        if as_json:
            print_json({"before": before, "after": after, "output": output})
            return
        typer.echo(f"{sum(before.values())} nodes before, {sum(after.values())} after: {output}")
        for name in sorted({*before, *after}):
            if before[name] != after[name]:
                typer.echo(f"  {name:28} {before[name]:5} {after[name]:5}")


def operators(path: Path) -> Counter[str]:
    """Count the nodes of each operator in a model's file, those of bodies included."""
    import onnx

    return Counter(count_nodes(onnx.load(path, load_external_data=False).graph))


def count_nodes(graph: GraphProto) -> list[str]:
    """List the operator of each node, those of bodies included."""
    found = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found += count_nodes(body)
    return found
